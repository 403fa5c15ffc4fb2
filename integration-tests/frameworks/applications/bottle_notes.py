# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped"
"""A small Bottle application: routes, forms, files, generators."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bottle import Bottle, HTTPResponse, abort, request, response, static_file

if TYPE_CHECKING:
    from collections.abc import Iterator

app = Bottle()


@app.get("/hello/<name>")
def hello(name: str) -> Any:
    """Answer with text that is not ASCII."""
    response.set_cookie("name", name, secret="for tests only", path="/")
    return f"Grüße, {name}"


@app.get("/name")
def name() -> Any:
    """Answer with what the signed cookie says."""
    return request.get_cookie("name", "nobody", secret="for tests only")


@app.post("/upload")
def upload() -> Any:
    """Answer with what a form held."""
    found = request.files["file"]
    return {"name": found.raw_filename, "size": len(found.file.read()), "note": request.forms.note}


@app.get("/rows")
def rows() -> Iterator[str]:
    """Answer piece by piece."""
    for number in range(3):
        yield f"row {number}\n"


@app.get("/file/<name>")
def file(name: str) -> Any:
    """Answer with a file."""
    return static_file(name, root=os.environ["SHOP_FILES"])


@app.get("/gone")
def gone() -> Any:
    """Answer with an error."""
    abort(410, "it was here yesterday")


@app.get("/not-modified")
def not_modified() -> Any:
    """Answer with a status that has no body, and a body."""
    return HTTPResponse("must not be sent", 304)
