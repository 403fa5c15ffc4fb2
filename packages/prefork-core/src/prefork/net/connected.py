# SPDX-License-Identifier: MIT
"""A connected socket for the libraries that a connection is handed on to.

Event loops and frameworks ask each socket that they are given for its kind and its peer, some of them
several times. Decides that nothing of that is found out again for each connection. Knows no library.
"""

from __future__ import annotations

import socket
from typing import Any, Final

_FAMILIES: Final = {int(family): family for family in socket.AddressFamily}
_number_of_family: Final = socket.SocketType.family.__get__
"""Of the layer in C. The one in Python makes a member of an Enum of it at each look, which takes 0.8 µs."""


class Connected(socket.socket):
    """A socket that a listener has accepted.

    Attributes:
        peer: the address that has come with it.
        type: that of all whom one connects to.
    """

    __slots__ = ("peer",)

    peer: Any
    type = socket.SOCK_STREAM  # a property there, for the same reason as `family`

    @property
    def family(self) -> socket.AddressFamily:
        """The family of addresses."""
        return _FAMILIES[_number_of_family(self)]

    def getpeername(self) -> Any:
        """Return the address of the other end, without asking the kernel for what it has said already."""
        return self.peer
