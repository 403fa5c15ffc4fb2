# SPDX-License-Identifier: MIT
"""A Django project in one module: a greeting, and a page with a table of 50 rows.

The middleware is that of a new project which needs no database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import engines
from django.urls import path

if TYPE_CHECKING:
    from django.http import HttpRequest

ROWS: Final = [{"number": n, "name": f"Item <{n}>", "price": n * 1.25, "sold": n % 3 == 0} for n in range(50)]
TEMPLATE: Final = """<!doctype html>
<html><head><title>{{ title }}</title></head>
<body><h1>{{ title }}</h1><table>
{% for row in rows %}<tr class="{% cycle 'odd' 'even' %}"><td>{{ row.number }}</td>
<td>{{ row.name }}</td><td>{{ row.price|floatformat:2 }}</td><td>
{% if row.sold %}sold{% else %}in stock{% endif %}</td></tr>
{% endfor %}</table></body></html>"""

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a benchmark, which keeps none",  # noqa: S106
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
)


def hello(_request: HttpRequest) -> HttpResponse:
    """Answer 13 bytes through the framework."""
    return HttpResponse("Hello, world!", content_type="text/plain")


def rows(_request: HttpRequest) -> HttpResponse:
    """Render the table."""
    return HttpResponse(table.render({"title": "Catalogue", "rows": ROWS}))


urlpatterns = [path("", hello), path("rows", rows)]
app = get_wsgi_application()
table = engines["django"].from_string(TEMPLATE)
