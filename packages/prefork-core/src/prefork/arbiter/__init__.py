# SPDX-License-Identifier: MIT
"""The one process that starts the workers, watches them and never sees a request."""
