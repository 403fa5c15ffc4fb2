# SPDX-License-Identifier: MIT
"""The conformance kit: a pytest suite for worker classes, and what it is made of.

It looks at a server from outside, as its operator and its clients do: it starts the command `prefork` in a
folder of its own, talks to it over sockets, and reads its log. It imports nothing else of prefork. What is
promised is what `__all__` names.
"""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError as error:  # pragma: no cover (its tests need it too)
    raise ModuleNotFoundError(
        "prefork.testing needs pytest: pip install 'prefork-core[testing]'", name=error.name
    ) from error

# An assert that fails there shows its values, as one in a test module does.
pytest.register_assert_rewrite(
    *(f"prefork.testing.{name}" for name in ("clients", "exchange", "lifetime", "server", "sight", "subject"))
)

from prefork.testing.client import Address, Answer, Kept, Replies, RequestFailed, connect  # noqa: E402
from prefork.testing.conformance import WorkerConformance  # noqa: E402
from prefork.testing.load import Load  # noqa: E402
from prefork.testing.server import Server  # noqa: E402
from prefork.testing.waiting import until  # noqa: E402

__all__ = [
    "Address",
    "Answer",
    "Kept",
    "Load",
    "Replies",
    "RequestFailed",
    "Server",
    "WorkerConformance",
    "connect",
    "until",
]
