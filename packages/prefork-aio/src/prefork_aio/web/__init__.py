# SPDX-License-Identifier: MIT
"""`-k aiohttp`: applications of aiohttp.web."""
