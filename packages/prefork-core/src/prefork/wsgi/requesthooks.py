# SPDX-License-Identifier: MIT
"""The hooks `pre_request` and `post_request`, and what they are shown.

Hooks written for gunicorn look at a few attributes of its request and response objects; `HookRequest`
and `HookResponse` have those. They are only made when a hook is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from prefork.http import Request
    from prefork.wsgi.response import Response


class HookRequest:
    """A request, with gunicorn's attribute names.

    Attributes:
        method, uri, path, query: of the request line; `uri` is the whole target.
        version: (1, 1) or (1, 0).
        headers: pairs of upper-case name and value, in order.
    """

    def __init__(self, request: Request) -> None:
        self.method = request.method
        self.uri = request.target
        self.path = request.path
        self.query = request.query
        self.version = (1, int(request.version[-1]))
        self.headers = [(str(n, "latin-1").upper(), str(v, "latin-1")) for n, v in request.pairs()]


class HookResponse:
    """A response, with gunicorn's attribute names.

    Attributes:
        status: "200 OK"; "" when the application gave none.
        status_code: the number of it, 0 for none.
        headers: pairs of name and value.
        sent: bytes of body sent.
        response_length: the Content-Length that the application gave, None for none.
    """

    def __init__(self, response: Response) -> None:
        head = response.head
        self.status = response.status
        self.status_code = head.status if head is not None else 0
        self.headers = list(response.headers)
        self.sent = response.sent
        self.response_length = head.length if head is not None else None


class RequestHooks:
    """Runs the hooks of each request.

    Args:
        worker: what hooks are given as `worker`.
        pre_request: called as (worker, req), None for no hook.
        post_request: called as (worker, req, environ, resp), None for no hook.
        log: where a failing hook is reported.
    """

    def __init__(
        self,
        worker: object,
        pre_request: Callable[..., object] | None,
        post_request: Callable[..., object] | None,
        log: logging.Logger,
    ) -> None:
        self._worker = worker
        self._pre = pre_request
        self._post = post_request
        self._log = log

    def before(self, request: Request) -> None:
        """Run `pre_request`. What it raises fails the request, as if the application had."""
        if self._pre is not None:
            self._pre(self._worker, HookRequest(request))

    def after(self, request: Request, environ: Mapping[str, Any], response: Response) -> None:
        """Run `post_request`. What it raises is logged: the response is out."""
        if self._post is None:
            return
        try:
            self._post(self._worker, HookRequest(request), environ, HookResponse(response))
        except (Exception, SystemExit):  # noqa: BLE001 (a hook call)
            self._log.exception("error in the hook post_request")
