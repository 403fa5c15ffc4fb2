# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.errors import ProtocolError
from prefork.http.body import ChunkedDecoder, Decoder, LengthDecoder
from prefork.http.buffer import ReceiveBuffer
from prefork.http.limits import CHUNK_ABUSE, CHUNK_LINE, CHUNK_OVERHEAD, Limits


def holding(data: bytes) -> ReceiveBuffer:
    """Return a buffer with these bytes."""
    buffer = ReceiveBuffer()
    buffer.append(data)
    return buffer


def drain(decoder: Decoder, buffer: ReceiveBuffer, limit: int = 65536) -> tuple[bytes, bool]:
    """Return all that can be read, and whether the body has ended."""
    pieces = []
    while piece := decoder.read(buffer, limit):
        assert len(piece) <= limit
        pieces.append(piece)
    return b"".join(pieces), piece is not None


def dechunk(data: bytes, limits: Limits | None = None) -> tuple[bytes, bool, bytes]:
    """Return the decoded bytes, whether the body has ended, and what was left behind it."""
    buffer = holding(data)
    body, ended = drain(ChunkedDecoder(limits or Limits()), buffer)
    return body, ended, bytes(buffer.data)


# -------------------------------------------------------------------------------------- by length


def test_length_ends_where_it_says() -> None:
    """9112 §6.2."""
    buffer = holding(b"helloGET ")
    decoder = LengthDecoder(5)
    assert drain(decoder, buffer) == (b"hello", True)
    assert (decoder.left, bytes(buffer.data)) == (0, b"GET ")


def test_length_waits_for_what_is_missing() -> None:
    buffer = holding(b"he")
    decoder = LengthDecoder(5)
    assert drain(decoder, buffer) == (b"he", False)
    assert decoder.left == 3


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_no_read_gives_more_than_asked(limit: int) -> None:
    assert drain(LengthDecoder(5), holding(b"hello!"), limit) == (b"hello", True)
    chunked = holding(b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")
    assert drain(ChunkedDecoder(Limits()), chunked, limit) == (b"hello", True)


# ---------------------------------------------------------------------------------------- chunked

END = b"0\r\n\r\n"

CHUNKS = {
    "no content": (b"", b""),
    "one chunk": (b"5\r\nhello\r\n", b"hello"),
    "several": (b"1\r\na\r\n2\r\nbc\r\n", b"abc"),
    "upper case size": (b"A\r\n0123456789\r\n", b"0123456789"),
    "lower case size": (b"a\r\n0123456789\r\n", b"0123456789"),
    "size of two digits": (b"1F\r\n" + b"a" * 31 + b"\r\n", b"a" * 31),
    "leading zeros": (b"005\r\nhello\r\n", b"hello"),
    "fifteen digits": (b"000000000000005\r\nhello\r\n", b"hello"),
    "content that looks like framing": (b"7\r\n0\r\n\r\n\r\n\r\n", b"0\r\n\r\n\r\n"),
    "§7.1.1 extension": (b"5;a\r\nhello\r\n", b"hello"),
    "§7.1.1 extension with a value": (b"5;a=b;c=d\r\nhello\r\n", b"hello"),
    "§7.1.1 quoted value": (b'5;a="b;c \\" \\\\"\r\nhello\r\n', b"hello"),
    "§7.1.1 empty quoted value": (b'5;a=""\r\nhello\r\n', b"hello"),
    "§7.1.1 bad white space": (b"5 \t; a = b ; c\r\nhello\r\n", b"hello"),
    "§7.1.1 obs-text in quotes": (b'5;a="\xe9"\r\nhello\r\n', b"hello"),
}


@pytest.mark.parametrize(("data", "body"), CHUNKS.values(), ids=CHUNKS.keys())
def test_accepts_chunks(data: bytes, body: bytes) -> None:
    """9112 §7.1."""
    assert dechunk(data + END + b"next") == (body, True, b"next")


TRAILERS = {
    "none": b"",
    "one": b"X-A: b\r\n",
    "several": b"X-A: b\r\nX-B:\r\n",
    "fields that frame": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: a\r\n",
}


@pytest.mark.parametrize("trailers", TRAILERS.values(), ids=TRAILERS.keys())
def test_trailers_are_read_and_dropped(trailers: bytes) -> None:
    """9112 §7.1.2, 9110 §6.5.1: they change nothing of what was decided on the head."""
    assert dechunk(b"5\r\nhello\r\n0\r\n" + trailers + b"\r\nnext") == (b"hello", True, b"next")


def test_extension_on_the_last_chunk_is_accepted() -> None:
    assert dechunk(b"00;a=b\r\n\r\n") == (b"", True, b"")


BAD_CHUNKS = {
    "size is empty": b"\r\n",
    "size is only an extension": b";a\r\n",
    "size with a sign": b"+5\r\nhello\r\n",
    "size negative": b"-5\r\nhello\r\n",
    "size with 0x": b"0x5\r\nhello\r\n",
    "size with an underscore": b"5_0\r\nhello\r\n",
    "size with h": b"5h\r\nhello\r\n",
    "size with a comma": b"5,5\r\nhello\r\n",
    "size with a superscript": b"\xb2\r\nhe\r\n",
    "size in another script": "\N{ARABIC-INDIC DIGIT FIVE}\r\nhello\r\n".encode(),
    "space before the size": b" 5\r\nhello\r\n",
    "space behind the size": b"5 \r\nhello\r\n",
    "tab behind the size": b"5\t\r\nhello\r\n",
    "NUL behind the size": b"5\x00\r\nhello\r\n",
    "sixteen digits": b"0000000000000005\r\nhello\r\n",
    "larger than 2**63": b"ffffffffffffffff\r\nhello\r\n",
    "bare LF behind the size": b"5\nhello\r\n",
    "bare CR behind the size": b"5\rhello\r\n",
    "CR CR LF behind the size": b"5\r\r\nhello\r\n",
    "LF in an extension": b"5;a\nb\r\nhello\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n",
    "NUL in an extension": b"5;a\x00\r\nhello\r\n",
    "LF in quotes": b'5;a="\n"\r\nhello\r\n',
    "escaped LF in quotes": b'5;a="\\\n"\r\nhello\r\n',
    "extension without a name": b"5;\r\nhello\r\n",
    "extension with two semicolons": b"5;;a\r\nhello\r\n",
    "extension without a value": b"5;a=\r\nhello\r\n",
    "extension with two values": b"5;a=b=c\r\nhello\r\n",
    "extension with a space in its name": b"5;a b\r\nhello\r\n",
    "extension with a space behind": b"5;a \r\nhello\r\n",
    "quotes not closed": b'5;a="b\r\nhello\r\n',
    "quotes closed only behind a backslash": b'5;a="b\\"\r\nhello\r\n',
    "more behind the quotes": b'5;a="b"c\r\nhello\r\n',
    "no size behind data": b"5\r\nhello\r\nhello\r\n",
}

BROKEN_ENDS = {
    "data longer than its size": b"5\r\nhello!\r\n",
    "data ends with LF": b"5\r\nhello\n0\r\n\r\n",
    "data ends with CR": b"5\r\nhello\r0\r\n\r\n",
    "data ends with LF CR": b"5\r\nhello\n\r0\r\n\r\n",
    "last chunk without its second line end": b"5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    "trailer without colon": b"5\r\nhello\r\n0\r\nX-A\r\n\r\n",
    "trailer without name": b"5\r\nhello\r\n0\r\n: b\r\n\r\n",
    "trailer with a space before the colon": b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n",
    "trailer folded": b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n",
    "trailer with NUL": b"5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n",
    "trailer with bare LF": b"5\r\nhello\r\n0\r\nX-A: b\nX-B: c\r\n\r\n",
    "trailer with bare CR": b"5\r\nhello\r\n0\r\nX-A: b\r\r\n\r\n",
    "LF for the empty line": b"5\r\nhello\r\n0\r\n\nGET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_refuses_chunk(data: bytes) -> None:
    """9112 §7.1."""
    buffer = holding(data + END)
    decoder = ChunkedDecoder(Limits())
    with pytest.raises(ProtocolError) as caught:
        drain(decoder, buffer)
    assert caught.value.status == 400
    assert decoder.left == -1, "a broken body must not look like its end"


@pytest.mark.parametrize("data", BROKEN_ENDS.values(), ids=BROKEN_ENDS.keys())
def test_bytes_before_a_break_are_handed_out_and_the_break_raises_ever_after(data: bytes) -> None:
    """9112 §7.1, §8: a body cut short or broken never looks like its end."""
    buffer = holding(data)
    decoder = ChunkedDecoder(Limits())
    assert decoder.read(buffer, 100) == b"hello"
    for _ in range(3):
        with pytest.raises(ProtocolError):
            decoder.read(buffer, 100)
    buffer.append(END)
    with pytest.raises(ProtocolError):
        decoder.read(buffer, 100)
    assert decoder.left == -1


@pytest.mark.parametrize("size", range(len(b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n")))
def test_chunked_body_that_is_not_whole_waits(size: int) -> None:
    """9112 §8: only the last line end is the end."""
    body, ended, _ = dechunk(b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n"[:size])
    assert not ended
    assert b"hello".startswith(body)


def test_chunk_size_line_has_a_limit() -> None:
    """9112 §7.1.1."""
    extension = b"5;" + b"a" * (CHUNK_LINE - 2)
    assert dechunk(extension + b"\r\nhello\r\n" + END)[0] == b"hello"
    for data in (extension + b"a\r\nhello\r\n" + END, extension + b"aa"):
        with pytest.raises(ProtocolError):
            dechunk(data)


def test_all_extensions_of_a_body_have_a_limit() -> None:
    """9112 §7.1.1: one byte of content must not be made to cost thousands of bytes of reading."""
    wasteful = b"1;" + b"a" * (CHUNK_OVERHEAD + 1024 - 2) + b"\r\nx\r\n"
    most = CHUNK_ABUSE // 1024
    modest = b"1;" + b"a" * (CHUNK_OVERHEAD - 2) + b"\r\nx\r\n"
    assert dechunk(wasteful * most + modest * 9)[0] == b"x" * (most + 9)
    for more in (wasteful, modest.replace(b";", b";a")):
        with pytest.raises(ProtocolError):
            dechunk(wasteful * most + more)


def test_short_extensions_on_many_chunks_are_no_abuse() -> None:
    """9112 §7.1.1: what a signing client adds to each chunk is not what the limit is for."""
    assert dechunk(b"1;chunk-signature=0123456789abcdef\r\nx\r\n" * 5000)[0] == b"x" * 5000


def test_trailers_have_the_limits_of_the_head() -> None:
    """6585 §5."""
    limits = Limits(fields=2, field_size=10)
    assert dechunk(b"0\r\nA: b\r\nA: b\r\n\r\n", limits)[1]
    assert dechunk(b"0\r\nA: 3456789\r\n\r\n", limits)[1]
    for data in (b"0\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", b"0\r\nA: 34567890\r\n\r\n", b"0\r\nA: 3456789012"):
        with pytest.raises(ProtocolError):
            dechunk(data, limits)
