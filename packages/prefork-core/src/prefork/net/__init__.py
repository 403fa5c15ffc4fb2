# SPDX-License-Identifier: MIT
"""Sockets: listening, waiting, sending and receiving."""
