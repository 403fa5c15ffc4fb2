# SPDX-License-Identifier: MIT
"""The asyncio workers of prefork."""
