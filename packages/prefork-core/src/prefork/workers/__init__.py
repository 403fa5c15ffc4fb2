# SPDX-License-Identifier: MIT
"""Worker classes, and the life of a worker process."""
