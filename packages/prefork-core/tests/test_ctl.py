# SPDX-License-Identifier: MIT
"""The command against servers of a few lines. Real ones: integration-tests/lifecycle/test_control.py."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from deadlines import PATIENCE
from snapshots import seat, snapshot

from prefork.control import report
from prefork.control.protocol import (
    Command,
    Refused,
    Request,
    Trouble,
    parse_request,
    render_refusal,
    render_result,
)
from prefork.ctl import Code, main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def answering(
    path: Path, answer: dict[str, Any] | Refused, *, is_last: bool = False
) -> Iterator[list[Request]]:
    """Answer one client; give what it has asked. If it is the last one the socket is removed before that."""
    asked: list[Request] = []
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen(1)
        door.settimeout(PATIENCE)

        def run() -> None:
            with door.accept()[0] as sock:
                asked.append(parse_request(sock.recv(4096)))
                if is_last:
                    path.unlink()
                sock.sendall(render_refusal(answer) if isinstance(answer, Refused) else render_result(answer))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield asked
        finally:
            thread.join()


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (["status"], Request(Command.STATUS)),
        (["workers"], Request(Command.WORKERS)),
        (["reload"], Request(Command.RELOAD)),
        (["scale", "3"], Request(Command.SCALE, {"workers": 3})),
        (["stop"], Request(Command.STOP, {"quick": False})),
        (["stop", "--quick"], Request(Command.STOP, {"quick": True})),
        (["kill-slot", "2"], Request(Command.KILL_SLOT, {"slot": 2})),
        (["stacks"], Request(Command.STACKS)),
        (["stacks", "3"], Request(Command.STACKS, {"slot": 3})),
        (["settings"], Request(Command.SETTINGS)),
        (["metrics"], Request(Command.METRICS)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_each_command_is_asked_and_its_answer_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], request_: Request
) -> None:
    with answering(tmp_path / "s", {"done": 1}) as asked:
        assert main([*arguments, "--json", "-s", str(tmp_path / "s")]) == Code.OK
    assert asked == [request_]
    assert json.loads(capsys.readouterr().out) == {"done": 1}


def test_an_answer_is_a_table_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(tmp_path / "s", report.workers(snapshot(seat(7)))):
        assert main(["-s", str(tmp_path / "s"), "workers"]) == Code.OK
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["7", "1007", "1", "ready"]


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (Trouble.ROLLED_BACK, Code.REFUSED),
        (Trouble.REFUSED, Code.REFUSED),
        (Trouble.BAD_REQUEST, Code.USAGE),
        (Trouble.DENIED, Code.NOT_ALLOWED),
    ],
)
def test_a_trouble_has_its_reason_and_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trouble: Trouble, code: Code
) -> None:
    with answering(tmp_path / "s", Refused(trouble, "because of this")):
        assert main(["-s", str(tmp_path / "s"), "reload"]) == code
    captured = capsys.readouterr()
    assert "because of this" in captured.err
    assert captured.err.startswith("preforkctl: error: ")
    assert captured.out == ""


def test_with_json_the_trouble_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(tmp_path / "s", Refused(Trouble.ROLLED_BACK, "exit code 3")):
        assert main(["--json", "-s", str(tmp_path / "s"), "reload"]) == Code.REFUSED
    assert json.loads(capsys.readouterr().out) == {"trouble": "rolled-back", "why": "exit code 3"}


def test_without_a_server_the_code_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-s", str(tmp_path / "s"), "status"]) == Code.NO_SERVER
    assert "there is no socket" in capsys.readouterr().err


def test_no_answer_in_time_has_a_code_of_its_own(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "s"))
        door.listen(1)
        assert main(["-s", str(tmp_path / "s"), "--timeout", "0.05", "status"]) == Code.TOO_SLOW


@pytest.mark.parametrize(
    "arguments",
    [[], ["dance"], ["scale"], ["scale", "many"], ["status", "--timeout", "0"], ["stop", "--slow"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == Code.USAGE
    assert "usage: preforkctl" in capsys.readouterr().err


class TestWithoutASocket:
    """When no -s is given."""

    def test_the_configuration_file_names_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "shop.toml").write_text(f'control_socket = "run/s"\nchdir = "{tmp_path}"\n')
        (tmp_path / "run").mkdir()
        with answering(tmp_path / "run" / "s", {"done": 1}):
            assert main(["status", "--json", "-c", "shop.toml"]) == Code.OK
        assert json.loads(capsys.readouterr().out) == {"done": 1}

    def test_the_environment_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PREFORK_CONTROL_SOCKET", "s")
        with answering(tmp_path / "s", {"done": 1}):
            assert main(["status", "--json"]) == Code.OK

    def test_a_configuration_without_one_is_a_usage_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["status"]) == Code.USAGE
        assert "has no control_socket" in capsys.readouterr().err

    def test_a_wrong_configuration_is_one_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["-c", "missing.toml", "status"]) == Code.USAGE
        assert "missing.toml" in capsys.readouterr().err


def test_help_explains_commands_codes_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(command.value in text for command in Command)
    assert all(f"\n  {code.value}  " in text for code in Code)
    assert "examples:" in text


@contextmanager
def succeeded(path: Path, by: int, **status: Any) -> Iterator[None]:
    """Answer one client that it has been succeeded by 4712, and the next one with a status."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        door.listen(2)
        door.settimeout(PATIENCE)

        def run() -> None:
            for answer in ({"pid": 4712, "took": 1.5}, report.status(snapshot(seat(), pid=by, **status))):
                with door.accept()[0] as sock:
                    sock.recv(4096)
                    sock.sendall(render_result(answer))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def test_an_upgrade_is_done_when_the_successor_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with succeeded(tmp_path / "s", 4712):
        assert main(["upgrade", "-s", str(tmp_path / "s")]) == Code.OK
    assert capsys.readouterr().out == "arbiter 4712 serves, after 1.5 s\n"


@pytest.mark.parametrize(
    ("by", "status", "why"),
    [(4711, {}, "4711 answers"), (4712, {"seats": ()}, "none of its workers is ready")],
)
def test_an_upgrade_is_not_done_when_it_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], by: int, status: dict[str, Any], why: str
) -> None:
    with succeeded(tmp_path / "s", by, **status):
        assert main(["upgrade", "-s", str(tmp_path / "s")]) == Code.REFUSED
    assert why in capsys.readouterr().err


def test_an_upgrade_to_a_server_without_this_socket_cannot_be_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(tmp_path / "s", {"pid": 4712, "took": 1.5}, is_last=True):
        assert main(["upgrade", "-s", str(tmp_path / "s")]) == Code.NO_SERVER
    assert "arbiter 4712 has taken over, but cannot be asked" in capsys.readouterr().err
