# SPDX-License-Identifier: MIT
"""A Django project as `startproject` makes it, with admin, sessions, sqlite, uploads and WhiteNoise."""
