# SPDX-License-Identifier: MIT
"""`-k aio`: what an ASGI application meets (ASGI specification, HTTP and WebSocket 2.5, lifespan 2.0)."""

from __future__ import annotations

import base64
import json
import signal
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from support.server import Server

from prefork.testing import client
from prefork.testing.client import Kept, read_answer, render
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


class TestPings:
    def test_who_answers_stays_and_who_does_not_is_left(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--aio-websocket-ping 0.3") as server:
            lively, silent = Talk(server, "/echo/lively"), Talk(server, "/echo/silent")
            for _ in range(4):
                assert lively.read() == (PING, b"")
                lively.send(frame(PONG))
            assert silent.read() == (PING, b"")
            assert silent.read().close == (1011, "no answer to a ping")
            assert server.noted("silent")["code"] == 1011
            assert not server.has_noted("lively")

    def test_any_word_is_a_sign_of_life(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--aio-websocket-ping 0.5") as server:
            talk = Talk(server, "/echo/wordy")
            pings = 0
            while pings < 4:
                found = talk.read()
                if found.opcode == PING:
                    pings += 1
                    talk.send(frame(TEXT, b"here"))
                else:
                    assert found == (TEXT, b"here")


class TestHandshake:
    def test_compression_is_agreed_on_unless_its_option_is_off(self, server: Probe, tmp_path: Path) -> None:
        offer = "Sec-WebSocket-Extensions: permessage-deflate"
        talk = Talk(server, "/echo", offer)
        assert "permessage-deflate" in talk.head
        talk.leave()
        with Probe(tmp_path, "--no-aio-websocket-compression") as plain:
            talk = Talk(plain, "/echo", offer)
            assert "101" in talk.head
            assert "permessage-deflate" not in talk.head
            talk.leave()

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


# HTTP


class TestScope:
    def test_a_path_is_decoded_and_kept(self, server: Probe) -> None:
        scope = server.scope("/caf%C3%A9/a%2Fb?q=%20")
        assert (scope["path"], scope["raw_path"]) == ("/café/a/b", "b'/caf%C3%A9/a%2Fb'")
        assert (scope["query_string"], scope["root_path"]) == ("b'q=%20'", "")
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
        assert (scope["type"], scope["http_version"], scope["method"]) == ("http", "1.1", "GET")
        assert scope["server"] == list(server.address)
        assert scope["client"][0] == "127.0.0.1"
        assert scope["state"] == {"since": "start"}

    def test_names_are_lower_case_and_none_has_an_underscore(self, server: Probe) -> None:
        scope = server.scope("/", "X-Twice: 1", "X_Twice: no", "x-TWICE: 2")
        names = ["b'host'", "b'x-twice'", "b'x-twice'"]
        assert [name for name, _ in scope["headers"]] == names

    @pytest.mark.parametrize(
        ("options", "path", "raw_path", "root_path"),
        [
            ("--aio-root-path /v1/é", "/v1/é/a b", "b'/v1/%C3%A9/a%20b'", "/v1/é"),
            ("", "/mounted/a b", "b'/mounted/a%20b'", "/mounted"),
        ],
    )
    def test_the_root_path_is_part_of_the_path(
        self, tmp_path: Path, options: str, path: str, raw_path: str, root_path: str
    ) -> None:
        variables = {} if options else {"SCRIPT_NAME": "/mounted"}
        with Probe(tmp_path, options, environ=variables, ready=False) as server:
            asked = "/a%20b" if options else "/mounted/a%20b"
            until(lambda: "ready after" in server.log(), "the worker is ready")
            scope = server.scope(asked)
        assert (scope["path"], scope["raw_path"], scope["root_path"]) == (path, raw_path, root_path)

    def test_a_trusted_proxy_names_the_client_and_the_scheme(self, server: Probe) -> None:
        told = ("X-Forwarded-For: 203.0.113.9, 198.51.100.7", "X-Forwarded-Proto: https")
        scope = server.scope("/", *told)
        assert (scope["client"], scope["scheme"]) == (["198.51.100.7", 0], "https")

    def test_the_client_can_be_the_peer(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--aio-client peer") as server:
            assert server.scope("/", "X-Forwarded-For: 198.51.100.7")["client"][0] == "127.0.0.1"

    def test_nobody_else_names_the_client(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--forwarded-allow-ips 192.0.2.1") as server:
            assert server.scope("/", "X-Forwarded-For: 198.51.100.7")["client"][0] == "127.0.0.1"

    def test_a_unix_socket_has_no_client(self, tmp_path: Path) -> None:
        with Probe(tmp_path, address=str(tmp_path / "sock")) as server:
            scope = server.scope("/")
            assert (scope["client"], scope["server"]) == (None, None)
            assert server.scope("/", "X-Forwarded-For: 198.51.100.7")["client"] == ["198.51.100.7", 0]


class TestResponse:
    def test_a_response_that_is_shorter_than_promised_breaks_off(self, server: Probe) -> None:
        with pytest.raises(client.RequestFailed, match="cut"):
            server.ask("/shorter")
        server.wait_log("fewer bytes than its Content-Length")

    def test_a_response_that_is_longer_than_promised_is_cut_off(self, server: Probe) -> None:
        kept = Kept(server.address)
        assert [kept.ask("/longer").body, kept.ask("/nocontent").body] == [b"fort", b""]
        server.wait_log("more bytes than its Content-Length")

    def test_no_response_is_a_500(self, server: Probe) -> None:
        assert server.ask("/silent").status == 500
        server.wait_log("the application returned, but its response has not begun")

    def test_half_a_response_breaks_off(self, server: Probe) -> None:
        with pytest.raises(client.RequestFailed, match="cut"):
            server.ask("/begun")
        server.wait_log("the application returned, but its response has not ended")

    def test_messages_in_the_wrong_order_are_errors_that_change_nothing(self, server: Probe) -> None:
        assert server.ask("/bodyless").body == b"fine"
        assert "begun" in server.noted("misordered")

    def test_a_body_that_is_no_bytes_does_not_leave_the_client_alone(self, server: Probe) -> None:
        assert server.ask("/wrong").status == 500

    def test_the_application_can_ask_for_the_end_of_the_connection(self, server: Probe) -> None:
        kept = Kept(server.address)
        answer = kept.ask("/closing")
        assert (answer.body, answer.closing, "chunked" in answer.head) == (b"last", True, False)
        assert kept.ended()

    def test_a_head_has_the_head_only(self, server: Probe) -> None:
        answer = server.ask("/shown", method="HEAD")
        assert (answer.status, answer.body) == (200, b"")

    def test_an_application_that_raises_cancelled_is_a_500(self, server: Probe) -> None:
        assert server.ask("/cancelled").status == 500


class TestClient:
    def test_after_the_end_there_is_a_disconnect(self, server: Probe) -> None:
        assert server.ask("/after", method="POST", body=b"x").body == b"done"
        assert server.noted("after") == ["http.request", "http.disconnect", "http.disconnect"]

    def test_a_wait_that_is_cancelled_leaves_the_body_to_others(self, server: Probe) -> None:
        with client.connect(server.address) as sock:
            whole = render("/impatient", "POST", b"0123456789")
            sock.sendall(whole[:-10].replace(b"Content-Length: 10", b"Transfer-Encoding: chunked"))
            server.noted("impatient")
            sock.sendall(b"a\r\n0123456789\r\n0\r\n\r\n")
            assert read_answer(sock).body == b"0123456789"

    @pytest.mark.parametrize("reset", [False, True])
    def test_an_endless_response_ends_with_its_client(self, server: Probe, reset: bool) -> None:
        name = f"endless-{reset}"
        sock = client.connect(server.address)
        sock.sendall(render(f"/endless/{name}"))
        server.noted(f"{name}-sent")
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        assert server.noted(name) == "ClientDisconnected"
        server.wait_log("(the application raised RuntimeError('as frameworks do'))")

    def test_an_endless_response_to_a_head_keeps_nobody_waiting(self, server: Probe) -> None:
        with client.connect(server.address) as sock:
            sock.sendall(render("/endless/head", "HEAD"))
            server.noted("head-sent")
            assert server.ask("/").status == 200
        assert server.noted("head") == "ClientDisconnected"

    def test_a_slow_reader_makes_the_application_wait(self, server: Probe) -> None:
        with client.connect(server.address) as sock:
            sock.sendall(render("/endless/slow"))
            until(lambda: stands_still(server, "slow-sent"), "the application waits")
            assert server.noted("slow-sent") < 20_000_000
        server.noted("slow")

    def test_who_waits_for_the_client_hears_of_its_end(self, server: Probe) -> None:
        with client.connect(server.address) as sock:
            sock.sendall(render("/waits"))
            assert sock.recv(1)
        assert server.noted("waits") == "http.disconnect"


class TestFiles:
    def test_a_file_is_sent_by_its_path(self, server: Probe) -> None:
        kept = Kept(server.address)
        assert kept.ask("/file/large").body == bytes(range(256)) * 10_000
        assert server.ask("/file/large", method="HEAD").body == b""
        assert kept.ask("/").status == 200

    @pytest.mark.parametrize(
        ("name", "error"), [("missing", "FileNotFoundError"), ("folder", "IsADirectoryError")]
    )
    def test_what_is_no_file_is_an_error_of_the_application(
        self, server: Probe, name: str, error: str
    ) -> None:
        assert server.ask(f"/file/{name}").status == 500
        assert server.noted("file") == error
        server.wait_log(error)


class TestTasks:
    def test_what_goes_on_behind_a_response_keeps_no_request_waiting(self, server: Probe) -> None:
        kept = Kept(server.address)
        assert kept.ask("/behind/back").body == b"answered"
        assert kept.ask("/").status == 200
        assert not server.has_noted("back")
        server.release("back")
        assert server.noted("back") == "finished"

    def test_contexts_are_not_handed_on(self, server: Probe) -> None:
        kept = [Kept(server.address) for _ in range(3)]
        for turn in range(5):
            for number, each in enumerate(kept):
                each.send(render(f"/context?{turn}-{number}"))
            assert {each.read().body for each in kept} == {b"nothing"}

    def test_what_nobody_waits_for_is_logged(self, server: Probe) -> None:
        before = server.workers()
        assert server.ask("/orphan/raise").status == 200
        until(lambda: server.ask("/").status == 200 and "nobody looks at this" in server.log(), "the error")
        assert server.ask("/orphan/exit").status == 200
        server.wait_log("a task of the application called sys.exit(7)")
        assert server.workers() == before


class TestLimit:
    def test_a_websocket_is_one_of_the_connections(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--worker-connections 1", ready=False) as server:
            until(lambda: "ready after" in server.log(), "the worker is ready")
            talk = Talk(server, "/echo")
            with client.connect(server.address) as sock:
                sock.sendall(render("/"))
                talk.send(frame(TEXT, b"alone"))
                assert talk.read().data == b"alone"
                assert not client.is_closed(sock)
                assert "access 200" not in server.log()
                talk.leave()
                assert read_answer(sock).status == 200


class TestTime:
    def test_a_slow_request_is_shown(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--slow-request 0.2") as server, client.connect(server.address) as sock:
            sock.sendall(render("/hold/slowly"))
            server.wait_log("GET /hold/slowly (in the application")
            server.release("slowly")
            assert read_answer(sock).body == b"released"

    def test_a_request_that_takes_too_long_is_explained_unless_it_has_asked(self, tmp_path: Path) -> None:
        options = "--request-timeout 1 --graceful-timeout 3"
        with Probe(tmp_path, options) as server, ExitStack() as stack:
            first = server.wait_workers(1)
            one, other = (stack.enter_context(client.connect(server.address)) for _ in range(2))
            one.sendall(render("/extend/patient"))
            assert server.noted("patient-held")
            other.sendall(render("/hold/late"))
            server.wait_log("GET /hold/late")
            server.wait_log("ready after", count=2)
            server.release("patient")
            assert read_answer(one).body == b"released"
            until(lambda: first[0] not in server.workers(), "the late worker has gone")


class TestStop:
    def test_all_that_is_open_is_told(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--graceful-timeout 20") as server:
            talk = Talk(server, "/echo/told")
            server.signal(signal.SIGTERM)
            assert talk.read().close == (1001, "")
            talk.send(closing(1001))
            assert talk.ended()
            assert server.noted("told") == {"type": "websocket.disconnect", "code": 1001, "reason": ""}
            assert server.noted("lifespan") == "over"
            assert server.wait_exit(10) == 0
        assert "access 101 " in server.log()

    def test_a_quick_stop_tells_them_too(self, tmp_path: Path) -> None:
        with Probe(tmp_path) as server:
            talk = Talk(server, "/echo")
            server.signal(signal.SIGINT)
            assert talk.read().close == (1001, "")
            assert server.noted("lifespan") == "over"

    def test_one_that_is_accepted_late_is_told_at_once(self, tmp_path: Path) -> None:
        with Probe(tmp_path) as server, client.connect(server.address) as sock:
            sock.sendall(opening("/late"))
            assert server.noted("late-asked")
            server.signal(signal.SIGTERM)
            server.wait_log("stopping")
            server.release("late")
            assert sock.recv(100).startswith(b"HTTP/1.1 101 ")
            assert sock.makefile("rb").read().endswith(b"\x88\x02" + struct.pack("!H", 1001))

    def test_what_goes_on_behind_a_response_is_waited_for(self, tmp_path: Path) -> None:
        with Probe(tmp_path) as server:
            assert server.ask("/behind/work").body == b"answered"
            server.signal(signal.SIGTERM)
            server.wait_log("stopping")
            server.release("work")
            assert server.noted("work") == "finished"
            assert server.noted("lifespan") == "over"

    def test_the_lifespan_ends_also_when_requests_have_to(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--graceful-timeout 3") as server, client.connect(server.address) as sock:
            sock.sendall(render("/hold/stuck"))
            assert server.noted("stuck-held")
            server.signal(signal.SIGTERM)
            assert server.noted("stuck") == "cancelled"
            assert server.noted("lifespan") == "over"
            server.wait_exit()
            server.wait_log("stopped with unfinished requests: 1")

    def test_a_start_that_takes_its_time_is_given_up_for_a_stop(self, tmp_path: Path) -> None:
        with Probe(tmp_path, environ={"PROBE_LIFESPAN": "hangs"}, ready=False) as server:
            assert server.noted("starting")
            server.signal(signal.SIGTERM)
            server.wait_exit(10)


class TestLifespan:
    def test_a_start_that_fails_is_a_failed_boot(self, tmp_path: Path) -> None:
        with Probe(tmp_path, environ={"PROBE_LIFESPAN": "fails"}, ready=False, expect=3) as server:
            assert server.wait_exit() == 3
        assert server.log().count("the application could not start: the database is not there") == 1
        assert "Traceback" not in server.log()

    def test_a_start_that_does_not_end_is_explained(self, tmp_path: Path) -> None:
        hanging = {"PROBE_LIFESPAN": "hangs"}
        with Probe(tmp_path, "--boot-timeout 1", environ=hanging, ready=False, expect=3) as server:
            assert server.wait_exit() == 3
        assert "boot_timeout" in server.log()

    @pytest.mark.parametrize("mode", ["auto", "on", "off"])
    def test_an_application_may_know_none(self, tmp_path: Path, mode: str) -> None:
        (tmp_path / "plain.py").write_text(
            "async def app(scope, receive, send):\n"
            "    assert scope['type'] == 'http', 'no lifespan'\n"
            "    await send({'type': 'http.response.start', 'status': 200})\n"
            "    await send({'type': 'http.response.body', 'body': str('state' in scope).encode()})\n"
        )
        expect = 3 if mode == "on" else 0
        line = f"-k aio -w 1 --aio-lifespan {mode} plain:app"
        with Server(tmp_path, line, ready=False, expect=expect) as server:
            if expect:
                assert server.wait_exit() == 3
                assert "the application has no lifespan, and --aio-lifespan is on" in server.log()
            else:
                server.wait_ready()
                assert server.ask("/").text == "False"
                assert "lifespan" not in server.log()

    def test_a_template_imports_and_the_worker_starts(self, tmp_path: Path) -> None:
        with Probe(tmp_path, "--preload --warmup /") as server:
            assert server.scope("/")["state"] == {"since": "start"}
            assert "warmup" in server.log()
            server.stop()
            assert server.noted("lifespan") == "over"
