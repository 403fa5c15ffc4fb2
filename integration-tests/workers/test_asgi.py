# SPDX-License-Identifier: MIT
"""`-k aio`: what an ASGI application meets (ASGI specification, HTTP and WebSocket 2.5, lifespan 2.0)."""

from __future__ import annotations

import base64
import json
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from support.server import Server

from prefork.testing import client
from prefork.testing.client import read_answer
from prefork.testing.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE: Final = f"--pythonpath {Path(__file__).parent / 'applications'} asgi_probe:app"
ACCESS: Final = "--access-logfile - --access-logformat 'access %(s)s %(L)s %(r)s'"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Probe(Server):
    """A server with the application `asgi_probe`."""

    def __init__(self, folder: Path, options: str = "", **more: Any) -> None:
        super().__init__(folder, f"-k aio -w 1 {ACCESS} {options} {PROBE}", **more)

    def noted(self, name: str) -> Any:
        """Return what the application has noted, when it has."""
        path = self.folder / f"{name}.note"
        until(path.exists, f"a note of {name}")
        return json.loads(path.read_text())

    def has_noted(self, name: str) -> bool:
        """Return whether it has."""
        return (self.folder / f"{name}.note").exists()

    def release(self, name: str) -> None:
        """Let the application go on."""
        (self.folder / f"{name}.go").touch()

    def scope(self, path: str, *fields: str) -> Any:
        """Return the scope of a request."""
        return json.loads(self.ask(path, *fields).body)


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Probe]:
    """Serve the application for all tests that leave the server as it was."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "large").write_bytes(bytes(range(256)) * 10_000)
    (folder / "folder").mkdir()
    options = f"--aio-loop {request.param} --aio-websocket-max-size 100000 --aio-websocket-ping 0"
    with Probe(folder, options) as running:
        running.wait_ready()
        yield running


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    """Take away what tests before have noted."""
    if "server" in request.fixturenames:
        folder = request.getfixturevalue("server").folder
        for path in (*folder.glob("*.note"), *folder.glob("*.go")):
            path.unlink()


# WebSockets, byte for byte


class Frame(NamedTuple):
    """A frame from the server."""

    opcode: int
    data: bytes

    @property
    def close(self) -> tuple[int, str]:
        """The code and reason of a close."""
        assert self.opcode == CLOSE
        return struct.unpack("!H", self.data[:2])[0], self.data[2:].decode()


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame as a client sends it, masked with zeros."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    return bytes([opcode | (0x80 if fin else 0)]) + length + bytes(4) + data


def closing(code: int, reason: str = "") -> bytes:
    """Return a close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


def opening(path: str, *fields: str, version: str = "1.1", method: str = "GET", **changed: str) -> bytes:
    """Return a request for a WebSocket; a field that is changed to nothing is left out."""
    key = base64.b64encode(bytes(16)).decode()
    own = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": key}
    own |= {"Sec-WebSocket-Version": "13"} | {
        name.replace("_", "-"): value for name, value in changed.items()
    }
    lines = [f"{name}: {value}" for name, value in own.items() if value]
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: test", *lines, *fields, "", ""]).encode()


class Talk:
    """A WebSocket from the client's side.

    Args:
        server: where to.
        path: of the request.
        fields: more of it.
        early: sent in one piece with the request.
    """

    def __init__(self, server: Server, path: str, *fields: str, early: bytes = b"") -> None:
        self.sock = client.connect(server.address)
        self.sock.sendall(opening(path, *fields) + early)
        self._file = self.sock.makefile("rb")
        lines = iter(self._file.readline, b"\r\n")
        self.head = b"".join(lines).decode()
        assert self.head.startswith("HTTP/1.1 101 "), self.head

    def send(self, *frames: bytes) -> None:
        """Send frames."""
        self.sock.sendall(b"".join(frames))

    def read(self) -> Frame:
        """Return the next frame."""
        first, length = self._file.read(2)
        assert not length & 0x80, "a server masks nothing"
        if length >= 126:
            length = int.from_bytes(self._file.read(2 if length == 126 else 8), "big")
        return Frame(first & 0x0F, self._file.read(length))

    def ended(self) -> bool:
        """Return whether the end of the connection comes next."""
        return self._file.read(1) == b""

    def leave(self, *, reset: bool = False) -> None:
        """Close the connection without a word."""
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self.sock.close()


def refused(server: Server, request: bytes) -> client.Answer:
    """Return the answer to a request for a WebSocket that is not accepted."""
    with client.connect(server.address) as sock:
        sock.sendall(request)
        return read_answer(sock)


class TestWebSocket:
    def test_messages_go_both_ways(self, server: Probe) -> None:
        talk = Talk(server, "/echo/both")
        talk.send(frame(TEXT, "Käse".encode()), frame(BINARY, b"\xff\0"), frame(TEXT))
        assert [talk.read() for _ in range(3)] == [
            (TEXT, "Käse".encode()),
            (BINARY, b"\xff\0"),
            (TEXT, b""),
        ]
        talk.send(closing(4321, "bye"))
        assert talk.read().close == (4321, "bye")
        assert talk.ended()
        assert server.noted("both") == {"type": "websocket.disconnect", "code": 4321, "reason": "bye"}
        server.wait_log("access 101 ")

    def test_what_is_behind_the_request_is_not_lost(self, server: Probe) -> None:
        talk = Talk(server, "/echo", early=frame(TEXT, b"early") + frame(TEXT, b"bird"))
        assert [talk.read().data, talk.read().data] == [b"early", b"bird"]
        talk.leave()

    def test_fields_of_the_application_are_in_the_acceptance(self, server: Probe) -> None:
        talk = Talk(server, "/echo", "Sec-WebSocket-Protocol: chat, more", "Sec-WebSocket-Protocol: last")
        lines = talk.head.lower().split("\r\n")
        assert {"set-cookie: a=1", "set-cookie: b=2", "sec-websocket-protocol: chat"} <= set(lines)
        assert "content-length" not in talk.head.lower()
        assert lines.count("upgrade: websocket") == lines.count("connection: upgrade") == 1
        talk.leave()

    def test_fragments_are_one_message_with_a_ping_in_between(self, server: Probe) -> None:
        talk = Talk(server, "/echo")
        talk.send(frame(TEXT, b"a", fin=False), frame(PING, b"?"), frame(0, b"b", fin=False), frame(0, b"c"))
        assert [talk.read(), talk.read()] == [(PONG, b"?"), (TEXT, b"abc")]
        talk.leave()

    @pytest.mark.parametrize(
        ("frames", "code"),
        [
            (frame(TEXT, b"\xff"), 1007),
            (frame(TEXT, "ä".encode()[:1], fin=False) + frame(0, b"x"), 1007),
            (frame(BINARY, bytes(100_001)), 1009),
            (frame(BINARY, bytes(60_000), fin=False) + frame(0, bytes(60_000)), 1009),
            (frame(3, b"?"), 1002),
            (frame(0, b"?"), 1002),
            (frame(PING, bytes(126)), 1002),
            (bytes([0x81, 1, 65]), 1002),
        ],
        ids=[
            "bytes",
            "half a letter",
            "size",
            "fragments",
            "opcode",
            "continuation",
            "long ping",
            "unmasked",
        ],
    )
    def test_what_breaks_the_rules_is_named(self, server: Probe, frames: bytes, code: int) -> None:
        talk = Talk(server, "/echo/rules")
        talk.send(frames)
        assert talk.read().close[0] == code
        assert talk.ended()
        assert server.noted("rules")["code"] == code

    def test_a_close_without_a_code_is_1005(self, server: Probe) -> None:
        talk = Talk(server, "/echo/coded")
        talk.send(frame(CLOSE))
        assert talk.read() == (CLOSE, b"")
        assert server.noted("coded")["code"] == 1005

    @pytest.mark.parametrize("reset", [False, True])
    def test_a_client_that_vanishes_is_1006(self, server: Probe, reset: bool) -> None:
        Talk(server, "/echo/vanished").leave(reset=reset)
        assert server.noted("vanished")["code"] == 1006

    def test_the_application_closes_with_a_reason(self, server: Probe) -> None:
        talk = Talk(server, "/close")
        assert talk.read().close == (4001, "enough")
        talk.send(closing(4001, "enough"))
        assert talk.ended()
        assert server.noted("close") == {"type": "websocket.disconnect", "code": 4001, "reason": "enough"}
        assert "closed" in server.noted("close-late")

    def test_a_client_that_does_not_answer_a_close_is_left(self, server: Probe) -> None:
        talk = Talk(server, "/close")
        assert talk.read().close == (4001, "enough")
        assert server.noted("close")["code"] == 1006

    def test_an_application_that_returns_has_closed(self, server: Probe) -> None:
        assert Talk(server, "/returns").read().close == (1000, "")

    def test_an_application_that_raises_is_logged_once(self, server: Probe) -> None:
        before = server.log().count("on purpose")
        talk = Talk(server, "/raises?here=1")
        assert talk.read().close == (1011, "")
        talk.send(closing(1011))
        server.wait_log("error in the application: GET /raises?here=1")
        until(lambda: server.log().count("LookupError: on purpose") > before, "the reason in the log")
        assert server.ask("/").status == 200
        assert server.log().count("LookupError: on purpose") == before + 1


class TestHandshake:
    @pytest.mark.parametrize(
        "changed",
        [{"Sec_WebSocket_Key": ""}, {"Sec_WebSocket_Key": "short"}, {"Sec_WebSocket_Key": "ä" * 24}],
    )
    def test_a_malformed_one_is_refused(self, server: Probe, changed: dict[str, str]) -> None:
        assert refused(server, opening("/echo", **changed)).status == 400

    @pytest.mark.parametrize("version", ["", "8"])
    def test_another_version_is_told_ours(self, server: Probe, version: str) -> None:
        answer = refused(server, opening("/echo", Sec_WebSocket_Version=version))
        assert answer.status == 400
        assert "sec-websocket-version: 13" in answer.head.lower()

    @pytest.mark.parametrize(
        "request_",
        [
            opening("/shown", version="1.0"),
            opening("/shown", method="POST", Content_Length="0"),
            opening("/shown", Upgrade="h2c"),
            opening("/shown", Connection="keep-alive"),
        ],
        ids=["1.0", "POST", "h2c", "no option"],
    )
    def test_what_asks_for_no_websocket_is_plain(self, server: Probe, request_: bytes) -> None:
        assert json.loads(refused(server, request_).body)["type"] == "http"

    def test_a_close_before_it_is_open_is_403(self, server: Probe) -> None:
        answer = refused(server, opening("/refuse"))
        assert (answer.status, answer.body) == (403, b"")
        assert server.noted("refuse")["code"] == 1006
        server.wait_log("access 403 ")

    def test_it_can_be_denied_with_a_response(self, server: Probe) -> None:
        answer = refused(server, opening("/deny"))
        assert (answer.status, answer.body) == (418, b"no tea")
        assert "x-why: tea" in answer.head
        server.wait_log("access 418 ")

    @pytest.mark.parametrize("path", ["/subprotocol", "/header", "/nothing"])
    def test_what_the_application_may_not_do_is_500(self, server: Probe, path: str) -> None:
        assert refused(server, opening(path, "Sec-WebSocket-Protocol: other")).status == 500
        server.wait_log(f"error in the application: GET {path}")

    def test_a_client_that_leaves_before_is_told_of(self, server: Probe) -> None:
        with client.connect(server.address) as sock:
            sock.sendall(opening("/late"))
            server.noted("late-asked")
        server.release("late")
        assert server.noted("late") == [
            {"type": "websocket.disconnect", "code": 1006, "reason": ""},
            "ClientDisconnected",
        ]


class TestPace:
    def test_a_client_that_does_not_read_makes_the_application_wait(self, server: Probe) -> None:
        talk = Talk(server, "/flood")
        talk.read()
        until(lambda: stands_still(server, "flood-sent"), "the application waits")
        assert server.noted("flood-sent") < 200, "20 MB"
        server.release("flood-cancel")
        server.noted("flood-cancelled")
        before = server.noted("flood-sent")
        for _ in range(before + 5):  # the cancelled one has left nothing behind
            talk.read()
        talk.leave()
        assert server.noted("flood") == "ClientDisconnected"

    def test_an_application_that_does_not_receive_makes_the_client_wait(self, server: Probe) -> None:
        talk = Talk(server, "/slow")
        server.noted("slow-open")
        talk.sock.setblocking(False)
        many = frame(TEXT, b"0123456789") * 1000
        sent = 0
        try:
            while sent < 200_000_000:
                sent += talk.sock.send(many[sent % len(many) :])
        except BlockingIOError:
            pass
        assert sent < 200_000_000
        talk.sock.setblocking(True)
        talk.sock.settimeout(client.TIMEOUT)
        server.release("slow")
        talk.send(many[sent % len(many) :] if sent % len(many) else b"", closing(1000))
        whole = -(-sent // len(many)) * 10_000
        assert server.noted("slow") == [whole, {"type": "websocket.disconnect", "code": 1000, "reason": ""}]


def stands_still(server: Probe, name: str) -> bool:
    """Return whether a note stays the same for a while."""
    seen = {json.dumps(server.noted(name))}
    for _ in range(10):
        server.ask("/")
        seen.add(json.dumps(server.noted(name)))
    return len(seen) == 1
