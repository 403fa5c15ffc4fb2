# SPDX-License-Identifier: MIT
"""Against servers of a few lines, in a thread each."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deadlines import PATIENCE
from folders import public_folder

from prefork.control.client import NoServer, NotAllowed, TooSlow, ask
from prefork.control.protocol import Command, Refused, Request, Trouble, render_refusal, render_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATUS = Request(Command.STATUS)


@contextmanager
def listening(path: str, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Let one client in, and be its server."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen(1)
        door.settimeout(PATIENCE)

        def run() -> None:
            with door.accept()[0] as sock:
                sock.settimeout(PATIENCE)
                serve(sock)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def serve(sock: socket.socket) -> None:
        assert sock.recv(4096) == b'{"command":"status"}\n'
        for at in range(0, len(answer), 7):
            sock.sendall(answer[at : at + 7])

    return serve


def path(folder: Path) -> str:
    return str(folder / "control.sock")


def test_the_result_is_returned_however_it_is_cut(tmp_path: Path) -> None:
    with listening(path(tmp_path), answering(render_result({"mode": "running" * 100}))):
        assert ask(path(tmp_path), STATUS, timeout=PATIENCE) == {"mode": "running" * 100}


def test_a_refusal_is_raised_with_its_reason(tmp_path: Path) -> None:
    refused = Refused(Trouble.ROLLED_BACK, "exit code 3")
    serve = answering(render_refusal(refused))
    with listening(path(tmp_path), serve), pytest.raises(Refused, match="exit code 3") as caught:
        ask(path(tmp_path), STATUS)
    assert caught.value.trouble is Trouble.ROLLED_BACK


def test_who_is_denied_is_not_allowed(tmp_path: Path) -> None:
    serve = answering(render_refusal(Refused(Trouble.DENIED, "only root")))
    with listening(path(tmp_path), serve), pytest.raises(NotAllowed, match="only root"):
        ask(path(tmp_path), STATUS)


def test_who_is_told_why_before_it_could_ask_hears_it(tmp_path: Path) -> None:
    def serve(sock: socket.socket) -> None:
        sock.sendall(render_refusal(Refused(Trouble.DENIED, "only root")))

    with listening(path(tmp_path), serve), pytest.raises(NotAllowed, match="only root"):
        ask(path(tmp_path), STATUS)


def test_without_a_socket_there_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match=r"there is no socket .*control\.sock"):
        ask(path(tmp_path), STATUS)


def test_a_socket_that_nobody_listens_on_is_of_a_dead_server(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path(tmp_path))
    with pytest.raises(NoServer, match="nobody listens"):
        ask(path(tmp_path), STATUS)


def test_a_path_that_is_too_long_is_no_server(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="cannot connect"):
        ask(str(tmp_path / ("x" * 200)), STATUS)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_hint_names_who_may() -> None:
    """In a child, which gives its privileges up, and in a folder that is open to it."""
    with public_folder() as folder, socket.socket(socket.AF_UNIX) as door:
        door.bind(path(folder))
        door.listen(1)
        os.chmod(path(folder), 0o600)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setuid(65534)
                ask(path(folder), STATUS)
            except NotAllowed as error:
                code = 0 if "uid 0" in error.hint else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_server_that_goes_away_is_no_server(tmp_path: Path) -> None:
    with listening(path(tmp_path), answering(b'{"ok":')), pytest.raises(NoServer, match="without an answer"):
        ask(path(tmp_path), STATUS)


def test_something_else_that_answers_is_no_server(tmp_path: Path) -> None:
    with (
        listening(path(tmp_path), answering(b"220 hello\n")),
        pytest.raises(NoServer, match="no prefork server"),
    ):
        ask(path(tmp_path), STATUS)


def test_a_server_that_says_nothing_is_too_slow(tmp_path: Path) -> None:
    def serve(sock: socket.socket) -> None:
        while sock.recv(4096):
            pass

    with listening(path(tmp_path), serve), pytest.raises(TooSlow, match=r"no answer from .* in 0\.05 s"):
        ask(path(tmp_path), STATUS, timeout=0.05)


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path(tmp_path))
        door.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path(tmp_path))
            with pytest.raises(TooSlow):
                ask(path(tmp_path), STATUS, timeout=0.1)


def test_the_end_of_the_server_can_be_waited_for(tmp_path: Path) -> None:
    ended = threading.Event()

    def serve(sock: socket.socket) -> None:
        answering(render_result({"exit_code": 0}))(sock)
        while not waiting.wait(0.01):
            pass
        ended.set()

    waiting = threading.Event()
    timer = threading.Timer(0.1, waiting.set)
    timer.start()
    with listening(path(tmp_path), serve):
        assert ask(path(tmp_path), STATUS, timeout=PATIENCE, until_gone=True) == {"exit_code": 0}
        assert ended.is_set()
    timer.join()


def test_the_end_of_a_server_that_refuses_is_not_waited_for(tmp_path: Path) -> None:
    refused = threading.Event()

    def serve(sock: socket.socket) -> None:
        answering(render_refusal(Refused(Trouble.ROLLED_BACK, "exit code 3")))(sock)
        assert refused.wait(PATIENCE), "it waits for more"

    with listening(path(tmp_path), serve):
        with pytest.raises(Refused, match="exit code 3"):
            ask(path(tmp_path), STATUS, timeout=PATIENCE, until_gone=True)
        refused.set()
