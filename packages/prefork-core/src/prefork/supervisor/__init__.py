# SPDX-License-Identifier: MIT
"""Every decision about workers, as pure functions of events and time."""
