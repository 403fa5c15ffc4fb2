# SPDX-License-Identifier: MIT
"""The status process: what answers probes while workers are stuck and the arbiter is busy or stopped."""
