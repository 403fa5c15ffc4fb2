# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped"
"""One view for each thing that a server can get wrong."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db.backends.signals import connection_created
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
    UnreadablePostError,
)
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition, require_http_methods

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)
connected: list[object] = []
connection_created.connect(lambda connection, **_: connected.append(connection), weak=False)


def where(request: HttpRequest) -> HttpResponse:
    """Say how the request came."""
    return JsonResponse(
        {
            "secure": request.is_secure(),
            "url": request.build_absolute_uri(),
            "path": request.path_info,
            "peer": request.META["REMOTE_ADDR"],
            "script": request.META["SCRIPT_NAME"],
        }
    )


@csrf_exempt
@require_http_methods(["POST"])
def upload(request: HttpRequest) -> HttpResponse:
    """Keep an uploaded file, and say what is on the disk."""
    found = request.FILES["file"]
    name = default_storage.save(found.name, found)
    with default_storage.open(name) as kept:
        digest = hashlib.file_digest(kept, "sha256").hexdigest()
    size = default_storage.size(name)
    temporary = type(found).__name__
    shutil.move(default_storage.path(name), settings.FOLDER / "kept")
    return JsonResponse(
        {
            "pid": os.getpid(),
            "size": size,
            "sha256": digest,
            "kind": temporary,
            "note": request.POST.get("note"),
        }
    )


@csrf_exempt
def body(request: HttpRequest) -> HttpResponse:
    """Read the body, whatever happens."""
    try:
        return JsonResponse({"size": len(request.body), "method": request.method})
    except UnreadablePostError as error:
        log.info("unreadable: %s, %r", request.GET["client"], error)
        raise


def download(_request: HttpRequest, name: str) -> HttpResponse:
    """Answer with a file."""
    return FileResponse((settings.FOLDER / name).open("rb"), as_attachment=True)


def rows(request: HttpRequest) -> HttpResponse:
    """Answer row by row, for ever if asked to."""
    last = int(request.GET.get("last", "0"))
    client = request.GET.get("client", "")

    def made() -> Iterator[str]:
        number = 0
        try:
            while not last or number < last:
                number += 1
                yield f"{number},{'x' * 1000}\n"
        finally:
            log.info("rows: closed for %s", client)

    return StreamingHttpResponse(made(), content_type="text/csv")


@csrf_exempt
def nothing(_request: HttpRequest) -> HttpResponse:
    """Answer with a status that has no body."""
    return HttpResponse(status=204)


def unchanged(_request: HttpRequest) -> HttpResponse:
    """Answer with a status that has no body, though the application gives one."""
    return HttpResponse("must not be sent", status=304)


@condition(etag_func=lambda _request: '"first"')
def cached(_request: HttpRequest) -> HttpResponse:
    """Answer with something that can be asked for conditionally."""
    return HttpResponse("the same as ever")


def database(_request: HttpRequest) -> HttpResponse:
    """Use the database, and say how often this process has connected to it."""
    users = User.objects.count()
    return JsonResponse({"pid": os.getpid(), "users": users, "connections": len(connected)})


def boom(_request: HttpRequest) -> HttpResponse:
    """Fail."""
    raise RuntimeError("boom for the log")
