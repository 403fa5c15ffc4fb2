# SPDX-License-Identifier: MIT
"""What the integration tests share beside the servers and clients of `prefork.testing`.

It knows the command line and the operating system, and imports nothing of prefork but that kit, which does
no more: what is tested is what was installed, from outside.
"""
