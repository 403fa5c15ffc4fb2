# SPDX-License-Identifier: MIT
"""What prefork asks of the operating system about processes."""
