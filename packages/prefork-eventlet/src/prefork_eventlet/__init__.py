# SPDX-License-Identifier: MIT
"""The eventlet worker of prefork."""
