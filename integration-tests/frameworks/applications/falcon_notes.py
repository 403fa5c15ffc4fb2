# SPDX-License-Identifier: MIT
# mypy: disable-error-code="import-not-found,import-untyped"
"""A small Falcon application: resources, media, streams, errors."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import falcon


class Note:
    """One note, kept nowhere."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, number: int) -> None:
        """Answer with what the request said."""
        resp.media = {"number": number, "tags": req.get_param_as_list("tag"), "prefix": req.prefix}

    def on_put(self, req: falcon.Request, resp: falcon.Response, number: int) -> None:
        """Answer with what was sent."""
        resp.media = {"number": number, "note": req.get_media()}
        resp.status = falcon.HTTP_201
        resp.location = f"{req.prefix}/notes/{number}"

    def on_delete(self, _req: falcon.Request, resp: falcon.Response, number: int) -> None:
        """Answer with nothing."""
        if number == 0:
            raise falcon.HTTPConflict(title="Not that one", description="note 0 stays")
        resp.status = falcon.HTTP_204


class Body:
    """Reads its request as Falcon advises, and streams."""

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Read a body of any framing to its end."""
        digest, size = hashlib.sha256(), 0
        while piece := req.bounded_stream.read(4096) if req.content_length else req.stream.read(4096):
            digest.update(piece)
            size += len(piece)
        resp.media = {"size": size, "sha256": digest.hexdigest()}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer with a file-like object of known or unknown length."""
        content = b"falcon " * 50_000
        stream: Any = io.BytesIO(content)
        if req.get_param_as_bool("sized"):
            resp.set_stream(stream, len(content))
        else:
            resp.stream = stream


app = falcon.App()
app.add_route("/notes/{number:int}", Note())
app.add_route("/body", Body())
