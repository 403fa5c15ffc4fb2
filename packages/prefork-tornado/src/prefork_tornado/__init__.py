# SPDX-License-Identifier: MIT
"""The Tornado worker of prefork."""
