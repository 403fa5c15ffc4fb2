# SPDX-License-Identifier: MIT
"""A Tornado application: a greeting."""

from __future__ import annotations

from tornado.web import Application, RequestHandler


class Hello(RequestHandler):
    """The greeting."""

    def get(self) -> None:
        """Answer 13 bytes."""
        self.write("Hello, world!")


app = Application([("/", Hello)])
