# SPDX-License-Identifier: MIT
"""Fuzzes the HTTP core: `python fuzz_connection.py [SECONDS [FOLDER]]`; fails on a finding.

SECONDS are 600 unless said otherwise; FOLDER keeps the corpus and what was found, a new one if not given.

With atheris, coverage leads the search; without it, hypothesis makes the bytes, for as long. Either way
one input is checked for four things: nothing but the two errors comes out, the way it was split changes
nothing, what a connection keeps of the head before changes nothing, and of a response head nothing comes out
that an application did not put in.

pytest does not collect this file; `nox -s fuzz` runs it.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent / "builders"))

try:
    atheris: Any = importlib.import_module("atheris")
except ImportError:  # it has no wheel for this Python
    atheris = None

if atheris is not None:
    with atheris.instrument_imports(include=["prefork"]):
        import prefork.http
else:
    import prefork.http

from http_dialogue import DATE, Dialogue, Event, cut, singly
from http_strategies import POISON

from prefork.http import Limits
from prefork.http.framing import Framing, Plan

LIMITS: Final = (Limits(), Limits(line=60, fields=6, field_size=60))
PLAN: Final = Plan(Framing.LENGTH, 5, persistent=True)

SEEDS: Final = (
    b"GET /a?b HTTP/1.1\r\nHost: a\r\nX_Y: z\r\nCookie: a\r\nCookie: b\r\n\r\n",
    b"\r\nHEAD http://a:1/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: [::1]:1\r\nContent-Length: 3, 3\r\nExpect: 100-continue\r\n\r\nabc",
    b'PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a="\\"" ; b=c\r\nabc\r\n0\r\n\r\n',
    b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n",
)


def hear(pieces: list[bytes], limits: Limits, piece: int, *, forgetful: bool = False) -> list[Event]:
    """Return what a server makes of bytes, and of the end of them."""
    dialogue = Dialogue(limits, piece)
    if forgetful:
        dialogue.connection._patience = 0  # parse each head for itself
    for data in pieces:
        if data:
            dialogue.hear(data)
    dialogue.hear(b"")
    return dialogue.finished()


def check_request(data: bytes) -> None:
    """The first two bytes decide about limits and cuts, the rest is what the client sends."""
    control, sent = data[:2].ljust(2, b"\0"), data[2:]
    limits = LIMITS[control[0] & 1]
    whole = hear([sent], limits, 65536)
    assert hear([sent], limits, 65536, forgetful=True) == whole
    assert hear([sent + sent], limits, 65536, forgetful=True) == hear([sent + sent], limits, 65536)
    assert hear(singly(sent), limits, 65536) == whole
    assert hear(cut(sent, [control[1], control[0] * 3]), limits, 1 + control[0] // 2) == whole


def check_response(data: bytes) -> None:
    """The application gives its status and headers as text that came from somewhere."""
    status, *rest = str(data, "utf-8", "surrogateescape").split("\x1f")
    headers = list(zip(rest[::2], rest[1::2], strict=False))
    try:
        head = prefork.http.check_head(status, headers)
    except (ValueError, TypeError):
        return
    sent = prefork.http.render_head(head, PLAN, version="HTTP/1.1", date=DATE, server="")
    lines = sent.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert len(lines) <= len(headers) + 5
    assert not any(line.translate(None, b"\r\n\0") != line for line in lines)


def check_one(data: bytes) -> None:
    """Check one input; its first byte says as what."""
    if data[:1] < b"\xe0":
        check_request(data)
    else:
        check_response(data[1:])


def by_atheris(seconds: float, folder: Path) -> None:
    """Let coverage lead; ends the process."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        Path(corpus, f"seed-{number}").write_bytes(b"\0\7" + seed)
    words = folder / "words.dict"
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in POISON)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    limits = [f"-max_total_time={seconds:.0f}", "-max_len=600", "-timeout=10", "-print_final_stats=1"]
    atheris.Setup(
        [sys.argv[0], *limits, f"-dict={words}", f"-artifact_prefix={folder}/", str(corpus)], check_one
    )
    atheris.Fuzz()


def by_hypothesis(seconds: float) -> None:
    """Let the strategies of the tests lead."""
    from http_strategies import anything
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    text = st.text(max_size=10)
    heads = st.lists(text, max_size=7).map(
        lambda parts: b"\xe0" + "\x1f".join(parts).encode("utf-8", "surrogatepass")
    )
    requests = st.builds(lambda control, sent: control + sent, st.binary(min_size=2, max_size=2), anything)
    count = 0

    @settings(
        max_examples=2000, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(st.one_of(requests, requests, heads))
    def run(data: bytes) -> None:
        nonlocal count
        count += 1
        check_one(data)

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run()
    sys.stdout.write(f"{count} inputs, nothing found\n")


if __name__ == "__main__":
    limit = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    if atheris is None:
        by_hypothesis(limit)
    else:
        by_atheris(limit, Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp()))
