# SPDX-License-Identifier: MIT
"""What the server says about itself: the error log and the access log.

A log that cannot be written never stops serving, and no byte of a peer can forge a line.
"""
