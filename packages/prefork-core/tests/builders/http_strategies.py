# SPDX-License-Identifier: MIT
"""Requests as clients make them, right ones and spoiled ones, for hypothesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hypothesis import strategies as st

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

TCHARS: Final = "!#$%&'*+-.^`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
UPPER_TCHARS: Final = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F)))
PATH_CHARS: Final = VISIBLE.replace("#", "").replace("?", "")
VALUE_CHARS: Final = VISIBLE + " \t" + "".join(map(chr, range(0x80, 0x100)))
QUOTABLE: Final = VALUE_CHARS.replace('"', "").replace("\\", "")

DECIDED: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "expect", "content-type", "upgrade"}
)
"""Names whose fields mean something to a server; they are made on purpose, not by chance."""

PLAIN: Final = {"HTTP_CONTENT_TYPE": "CONTENT_TYPE", "HTTP_CONTENT_LENGTH": "CONTENT_LENGTH"}


class Message(NamedTuple):
    """One request, and what a server must see of it."""

    method: str
    target: str
    path: str
    query: str
    version: str
    lines: tuple[tuple[str, str], ...]
    host: str
    body: bytes
    wire: bytes

    def fields(self) -> dict[str, str]:
        """Return the fields by CGI name, joined (3875 §4.1.18, 9110 §5.3)."""
        found: dict[str, list[str]] = {}
        for name, value in self.lines:
            if "_" not in name:
                key = "HTTP_" + name.upper().replace("-", "_")
                found.setdefault(PLAIN.get(key, key), []).append(value)
        joined = {key: ("; " if key == "HTTP_COOKIE" else ", ").join(lines) for key, lines in found.items()}
        return joined | {"HTTP_HOST": self.host}


tokens: SearchStrategy[str] = st.text(TCHARS, min_size=1, max_size=12)
values: SearchStrategy[str] = st.text(VALUE_CHARS, max_size=20).map(lambda text: text.strip(" \t"))
spaces: SearchStrategy[str] = st.sampled_from(["", " ", "  ", "\t", " \t "])
hosts: SearchStrategy[str] = st.sampled_from(["a", "a.example:80", "[::1]:8000", "192.0.2.1", "a_b:", "x%41"])
names: SearchStrategy[str] = st.one_of(
    st.sampled_from(["Accept", "cookie", "COOKIE", "X-A", "x-a", "User-Agent", "X_Underscored", "DNT"]),
    tokens,
).filter(lambda name: name.lower() not in DECIDED)
methods: SearchStrategy[str] = st.one_of(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]),
    st.text(UPPER_TCHARS, min_size=1, max_size=12).filter(lambda method: method != "CONNECT"),
)


class Target(NamedTuple):
    """A request target, and what it means."""

    sent: str
    path: str
    query: str
    authority: str | None


@st.composite
def targets(draw: DrawFn) -> Target:
    """Origin-form mostly, absolute-form now and then (9112 §3.2)."""
    path = "/" + draw(st.text(PATH_CHARS, max_size=15))
    query = draw(st.text(PATH_CHARS + "?", max_size=10))
    rest = path + ("?" + query if query or draw(st.booleans()) else "")
    if draw(st.integers(0, 4)):
        return Target(rest, path, query, None)
    authority = draw(hosts)
    return Target(
        draw(st.sampled_from(["http://", "HTTP://", "https://"])) + authority + rest, path, query, authority
    )


def _escape(text: str) -> str:
    return '"' + "".join("\\" + char for char in text) + '"'


@st.composite
def extensions(draw: DrawFn) -> bytes:
    """Chunk extensions (9112 §7.1.1)."""
    text = ""
    for _ in range(draw(st.integers(0, 2))):
        bws = [draw(st.sampled_from(["", "", " ", "\t "])) for _ in range(4)]
        text += f"{bws[0]};{bws[1]}{draw(tokens)}"
        quoted = st.text(QUOTABLE, max_size=6).map(lambda inner: f'"{inner}"')
        escaped = st.text(VALUE_CHARS, max_size=3).map(
            lambda inner: '"' + "".join("\\" + c for c in inner) + '"'
        )
        value = draw(st.one_of(st.none(), tokens, quoted, escaped))
        text += "" if value is None else f"{bws[2]}={bws[3]}{value}"
    return text.encode("latin-1")


@st.composite
def chunked(draw: DrawFn) -> tuple[bytes, bytes]:
    """A body, and the chunked coding of it, with extensions and trailers."""
    body = wire = b""
    for piece in draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4)):
        size = draw(st.sampled_from(["%x", "%X", "0%x", "%04X"])) % len(piece)
        wire += size.encode() + draw(extensions()) + b"\r\n" + piece + b"\r\n"
        body += piece
    wire += draw(st.sampled_from([b"0", b"000"])) + draw(extensions()) + b"\r\n"
    for name, value in draw(st.lists(st.tuples(tokens, values), max_size=2)):
        wire += f"{name}: {value}\r\n".encode("latin-1")
    return body, wire + b"\r\n"


@st.composite
def messages(draw: DrawFn) -> Message:
    """A valid request that leaves the connection open (9112 §2 to §7)."""
    method = draw(methods)
    target = Target("*", "*", "", None) if method == "OPTIONS" and draw(st.booleans()) else draw(targets())
    version = draw(st.sampled_from(["HTTP/1.1"] * 5 + ["HTTP/1.0"]))
    lines = draw(st.lists(st.tuples(names, values), max_size=6))
    host = draw(hosts)
    special = [("Host", host)]
    if version == "HTTP/1.0":
        special.append(("Connection", "keep-alive"))
    elif draw(st.booleans()):
        special.append(("Connection", draw(st.sampled_from(["keep-alive", "Upgrade-Insecure, x", "TE"]))))
    body = coded = b""
    kind = draw(
        st.sampled_from(["none", "length", "chunked"] if version == "HTTP/1.1" else ["none", "length"])
    )
    if kind == "length":
        body = coded = draw(st.binary(max_size=40))
        special.append((draw(st.sampled_from(["Content-Length", "content-length"])), str(len(body))))
    elif kind == "chunked":
        body, coded = draw(chunked())
        special.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"]))))
    if kind != "none" and draw(st.booleans()):
        special.append(("Expect", "100-continue"))
    if draw(st.booleans()):
        special.append(("Content-Type", draw(values)))
    for line in special:
        lines.insert(draw(st.integers(0, len(lines))), line)
    rows = [f"{name}:{draw(spaces)}{value}{draw(spaces)}" for name, value in lines]
    head = "\r\n".join([f"{method} {target.sent} {version}", *rows, "", ""]).encode("latin-1")
    seen = host if target.authority is None else target.authority
    return Message(
        method, target.sent, target.path, target.query, version, tuple(lines), seen, body, head + coded
    )


conversations: SearchStrategy[list[Message]] = st.lists(messages(), min_size=1, max_size=4)

POISON: Final = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b"  ", b":", b",", b";", b"\x7f",
    b"\x0b", b"\x85", b"\xa0", b"\xff", b"0", b"-1", b"+5", b"0x5", b"5_0", b"f" * 20, b"#", b"?", b"@", b"_",
    b"x" * 99, b"0\r\n\r\n", b"5\r\nhello\r\n", b';a="\\"', b"\r\n folded", b"\r\n\tf: x",
    b"Host: b\r\n", b"Content-Length: 5\r\n", b"Content-Length: 05\r\n", b"Content-Length : 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: xchunked\r\n", b"Transfer_Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
    b"Expect: x\r\n", b"GET / HTTP/1.1\r\n",
    b"HTTP/1.0", b"HTTP/2.0", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
]  # fmt: skip
"""What attacks and bugs are made of."""


@st.composite
def spoiled(draw: DrawFn) -> bytes:
    """Bytes of valid requests with a few places changed."""
    data = b"".join(message.wire for message in draw(conversations))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        poison = draw(st.one_of(st.sampled_from(POISON), st.binary(min_size=1, max_size=3), st.just(b"")))
        data = data[:at] + poison + data[at + draw(st.sampled_from([0, 0, 1, 1, 2, 10])) :]
    return data


@st.composite
def pieced_together(draw: DrawFn) -> bytes:
    """Garbage in which the words of the protocol are frequent."""
    return b"".join(draw(st.lists(st.one_of(st.sampled_from(POISON), st.binary(max_size=4)), max_size=12)))


valid: SearchStrategy[bytes] = conversations.map(lambda sent: b"".join(message.wire for message in sent))
anything: SearchStrategy[bytes] = st.one_of(
    valid, spoiled(), spoiled(), pieced_together(), st.binary(max_size=80)
)
places: SearchStrategy[list[int]] = st.lists(st.integers(0, 2000), max_size=6)
