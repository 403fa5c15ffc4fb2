# SPDX-License-Identifier: MIT
"""Where records of Tornado go; each test runs in a process of its own, whose loggers it changes."""

from __future__ import annotations

import subprocess
import sys

BEGIN = """
import logging, sys
from prefork_tornado import logs

log = logging.getLogger("error log")
log.propagate = False
log.addHandler(logging.StreamHandler(sys.stdout))
"""


def run(program: str) -> list[str]:
    """Return what a program says, standard error after standard output."""
    command = [sys.executable, "-c", BEGIN + program]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


def test_what_tornado_says_goes_to_the_error_log() -> None:
    program = """
logs.relay(log)
logging.getLogger("tornado.application").error("one")
logging.getLogger("tornado.general").warning("two")
logging.getLogger("asyncio").error("three")
logging.getLogger("tornado.access").error("a line of a request")
"""
    assert run(program) == ["one", "two", "three"]


def test_an_application_that_logs_itself_has_it_instead() -> None:
    program = """
logs.relay(log)
logging.basicConfig(format="its own: %(message)s")
logging.getLogger("tornado.application").error("one")
logging.getLogger("tornado.access").error("a line of a request")
"""
    assert run(program) == ["its own: one"]


def test_handlers_of_the_application_stay() -> None:
    program = """
for name in ("tornado.application", "tornado.access"):
    logging.getLogger(name).addHandler(logging.StreamHandler(sys.stdout))
logs.relay(log)
logging.getLogger("tornado.application").error("one")
logging.getLogger("tornado.access").error("two")
"""
    assert run(program) == ["one", "two"]
