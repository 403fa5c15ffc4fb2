# SPDX-License-Identifier: MIT
"""The control socket: how an operator asks a running server, and what it answers."""
