# SPDX-License-Identifier: MIT
"""Requests that spare aiohttp the call of a signal when only prefork listens to it.

Decides nothing about a response: `connection` does. Imported in the worker process only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from prefork_aio.web.connection import Connection


class Request(web.Request):
    """A request to an application whose on_response_prepare has nothing but what prefork has put there."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        match = self._match_info
        # With applications inside the application, theirs may have more.
        if match is None or len(match._apps) > 1:  # noqa: SLF001
            await super()._prepare_hook(response)
            return
        # Two coroutines less than by the signal, for each response.
        connection: Connection = self._protocol  # type: ignore[assignment]  # we have made it
        connection.prepared(response)
