# SPDX-License-Identifier: MIT
"""A Flask application: a greeting, and a page with a table of 50 rows."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, render_template_string

ROWS: Final = [{"number": n, "name": f"Item <{n}>", "price": n * 1.25, "sold": n % 3 == 0} for n in range(50)]
TEMPLATE: Final = """<!doctype html>
<html><head><title>{{ title }}</title></head>
<body><h1>{{ title }}</h1><table>
{% for row in rows %}<tr class="{{ loop.cycle('odd', 'even') }}"><td>{{ row.number }}</td>
<td>{{ row.name }}</td><td>{{ '%.2f' % row.price }}</td><td>
{% if row.sold %}sold{% else %}in stock{% endif %}</td></tr>
{% endfor %}</table></body></html>"""

app = Flask(__name__)


@app.get("/")
def hello() -> Response:
    """Answer 13 bytes through the framework."""
    return Response("Hello, world!", mimetype="text/plain")


@app.get("/rows")
def rows() -> str:
    """Render the table."""
    return render_template_string(TEMPLATE, title="Catalogue", rows=ROWS)
