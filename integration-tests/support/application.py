# SPDX-License-Identifier: MIT
"""The text of an application whose every answer can be checked: see `Load`."""

from __future__ import annotations

from typing import Final

_TEXT: Final = '''\
import os
import sys
import time

VERSION = {version!r}
{boot}


def app(environ, start_response):
    """Answer with version, pid and the path so often that a piece cannot pass for the whole."""
    path = environ["PATH_INFO"]
    wait = environ["QUERY_STRING"]
    if wait:
        time.sleep(float(wait))
    body = f"{{VERSION}} {{os.getpid()}} {{path}}\\n".encode() * {repeat}
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''

REPEAT: Final = 40
"""How often a line is in the body of an answer."""


def application(version: str = "one", boot: str = "") -> str:
    """Return the text of a module with the application `app`; the query is seconds to sleep.

    Args:
        version: what it answers with, to tell deploys apart.
        boot: statements that run when the module is loaded.
    """
    return _TEXT.format(version=version, boot=boot, repeat=REPEAT)
