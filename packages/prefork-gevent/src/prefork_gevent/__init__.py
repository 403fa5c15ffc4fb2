# SPDX-License-Identifier: MIT
"""The gevent worker of prefork."""
