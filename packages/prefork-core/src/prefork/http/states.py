# SPDX-License-Identifier: MIT
"""The two states of a connection: how far the request was read, how far the response was written."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Reading(Enum):
    """Where in a request the connection is."""

    HEAD = "head"
    """Waiting for a request head, or in the middle of one."""
    BODY = "body"
    """The head is parsed, the body not at its end."""
    DONE = "done"
    """The whole request was read."""
    REFUSED = "refused"
    """What was received broke the syntax: where the next request starts is not known."""
    TAKEN = "taken"
    """The application has the connection, and speaks another protocol on it."""


class Writing(Enum):
    """Where in a response the connection is."""

    HEAD = "head"
    """No final response was begun."""
    BODY = "body"
    """The head is out, the body is not at its end."""
    DONE = "done"
    """The response has ended, or was given up."""


# Looking a member up on its class costs 0.1 µs in Python 3.11, a name of the module less than a tenth of
# that, and a request needs dozens. So the hot modules use these.
READING_HEAD: Final = Reading.HEAD
READING_BODY: Final = Reading.BODY
READING_DONE: Final = Reading.DONE
REFUSED: Final = Reading.REFUSED
READING_TAKEN: Final = Reading.TAKEN
WRITING_HEAD: Final = Writing.HEAD
WRITING_BODY: Final = Writing.BODY
WRITING_DONE: Final = Writing.DONE
