# SPDX-License-Identifier: MIT
"""The WSGI side (PEP 3333): environ, input and response, and the serving of one request."""
