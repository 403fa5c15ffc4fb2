# SPDX-License-Identifier: MIT
"""Applications with which `prefork.testing` tries worker classes: one answer, by each interface.

A server under test imports them, so nothing here knows of pytest. `answers` is what they have in common, also
for modules that answer by a framework.
"""
