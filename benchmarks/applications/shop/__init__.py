# SPDX-License-Identifier: MIT
"""A Django project as `startproject` makes it, with models of its own and Django's admin.

Its database is in the folder that `BENCH_FOLDER` names; `shop.prepare` makes it.
"""
