# SPDX-License-Identifier: MIT
"""`-k aio`: ASGI 3 applications."""
