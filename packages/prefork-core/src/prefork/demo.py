# SPDX-License-Identifier: MIT
"""The application behind `prefork --demo`: one page that shows who answered, and what was asked.

It is a plain WSGI application, so it serves as an example too.
"""

from __future__ import annotations

import html
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from prefork import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_started: Final = time.monotonic()
_answered = 0

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>prefork is serving</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --accent: #2f7d4f; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin: 0 0 .25rem; }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem; }}
p.lead {{ margin: 0 0 1.5rem; opacity: .8; }}
.pid {{ color: var(--accent); font-weight: 700; }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem; }}
td, th {{ border-top: 1px solid var(--line); padding: .3rem .5rem; text-align: left; vertical-align: top; }}
th {{ font-weight: 600; white-space: nowrap; width: 14rem; }}
td {{ word-break: break-word; font-family: ui-monospace, monospace; }}
code {{ background: #8882; padding: .1rem .3rem; border-radius: 3px; }}
</style>
</head>
<body>
<h1>prefork {version} is serving</h1>
<p class="lead">This page came from worker <span class="pid">{pid}</span>.
Reload it: another worker may answer.</p>
<h2>Worker</h2>
<table>{worker}</table>
<h2>Request</h2>
<table>{request}</table>
<h2>Try</h2>
<p><code>kill -HUP {arbiter}</code> replaces the workers without losing a request,
<code>kill -TTIN {arbiter}</code> adds one, <code>kill -TTOU {arbiter}</code> takes one away,
<code>kill -TERM {arbiter}</code> stops.</p>
</body>
</html>
"""


def _rows(pairs: Iterable[tuple[str, object]]) -> str:
    escaped = ((html.escape(name), html.escape(str(value))) for name, value in pairs)
    return "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in escaped)


def _worker_facts(environ: dict[str, Any]) -> list[tuple[str, object]]:
    return [
        ("Process", os.getpid()),
        ("Arbiter", os.getppid()),
        ("Requests answered by it", _answered),
        ("Up for", f"{time.monotonic() - _started:.0f} s"),
        ("Python", sys.version.split()[0]),
        ("Other workers beside it", "yes" if environ["wsgi.multiprocess"] else "no"),
    ]


def _request_facts(environ: dict[str, Any]) -> list[tuple[str, object]]:
    line = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"
    peer = f"{environ['REMOTE_ADDR']}:{environ['REMOTE_PORT']}" if environ["REMOTE_ADDR"] else "a Unix socket"
    names = sorted(key for key in environ if key.startswith("HTTP_"))
    fields = [(name[5:].replace("_", "-").title(), environ[name]) for name in names]
    return [("Request line", line), ("From", peer), ("Scheme", environ["wsgi.url_scheme"]), *fields]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer every request with the page (PEP 3333)."""
    global _answered  # noqa: PLW0603 (a counter of the process)
    _answered += 1
    page = _PAGE.format(
        version=__version__,
        pid=os.getpid(),
        arbiter=os.getppid(),
        worker=_rows(_worker_facts(environ)),
        request=_rows(_request_facts(environ)),
    ).encode()
    start_response(
        "200 OK",
        [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(page))),
            ("Cache-Control", "no-store"),
        ],
    )
    return [page]
