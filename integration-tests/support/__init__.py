# SPDX-License-Identifier: MIT
"""What the integration tests share: real servers, real clients, and a look into /proc.

It knows the command line and the operating system, and imports nothing of prefork: what is tested
is what was installed, from outside.
"""
