# SPDX-License-Identifier: MIT
# mypy: allow-untyped-decorators, disable-error-code="import-not-found,import-untyped,misc,no-any-return"
"""Django by ASGI: views that are coroutines, the database asked by them, and views that are not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.db import connection, models
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

FILES = Path(os.environ["FILES"])
settings.configure(
    SECRET_KEY="for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FILES / "shop.sqlite3"}},
    USE_TZ=True,
)
django.setup()


class Note(models.Model):
    """A note."""

    text = models.TextField()

    class Meta:
        """It is in no application of Django's."""

        app_label = "notes"

    def __str__(self) -> str:
        return self.text


if "notes_note" not in connection.introspection.table_names():
    with connection.schema_editor() as editor:
        editor.create_model(Note)
connection.close()


async def notes(request: HttpRequest) -> JsonResponse:
    """Add one, and return all."""
    if request.method == "POST":
        await Note.objects.acreate(text=request.body.decode())
    return JsonResponse({"notes": [note.text async for note in Note.objects.order_by("id")]})


def plain(request: HttpRequest, name: str) -> HttpResponse:
    """Run in a thread, and say what is known of the request."""
    return JsonResponse({"count": Note.objects.count(), "host": request.get_host(), "name": name})


async def stream(_request: HttpRequest) -> StreamingHttpResponse:
    """Stream."""

    async def body() -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%d\n" % number
            await asyncio.sleep(0)

    return StreamingHttpResponse(body())


async def waits(_request: HttpRequest) -> HttpResponse:
    """Wait until the client has gone, which cancels the view."""
    (FILES / "waits").touch()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        (FILES / "cancelled").touch()
        raise
    return HttpResponse()


urlpatterns = [
    path("notes", notes),
    path("plain/<str:name>", plain),
    path("stream", stream),
    path("waits", waits),
]
app = get_asgi_application()
