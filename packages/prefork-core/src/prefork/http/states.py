# SPDX-License-Identifier: MIT
"""The two states of a connection: how far the request was read, how far the response was written."""

from __future__ import annotations

from enum import Enum


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


class Writing(Enum):
    """Where in a response the connection is."""

    HEAD = "head"
    """No final response was begun."""
    BODY = "body"
    """The head is out, the body is not at its end."""
    DONE = "done"
    """The response has ended, or was given up."""
