# SPDX-License-Identifier: MIT
"""The worker class of examples/, built as a wheel and installed outside of this tree.

Its own tests are those of `prefork.testing`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
from support.server import Server

from prefork.testing import client
from prefork.testing.client import read_answer
from prefork.testing.server import clean_environ
from prefork.testing.waiting import until

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "prefork-patient"
SIZE: Final = 256 * 1024
APP: Final = """\
import threading
both = threading.Barrier(2)
lock = threading.Lock()
def app(environ, start_response):
    if environ["PATH_INFO"] == "/both":
        both.wait(timeout=20)
    with lock:
        size = threading.stack_size()  # which sets it, too
        threading.stack_size(size)
    body = str(size).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what the environment says where the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=EXAMPLE, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def configure(folder: Path, text: str) -> None:
    (folder / "app.py").write_text(APP)
    (folder / "prefork.toml").write_text(text)


def test_it_is_listed(tmp_path: Path, variables: dict[str, str]) -> None:
    command = [sys.executable, "-m", "prefork", "--list-workers"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environ(**variables), check=True, capture_output=True, text=True
    )
    [row] = [line.split() for line in done.stdout.splitlines() if line.startswith("patient")]
    assert row == ["patient", "prefork-patient", "0.1.0", "1", "A", "thread", "for", "each", "connection."]


def test_it_serves_connections_beside_each_other_with_its_own_setting(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    configure(tmp_path, "")
    flags = f"-k patient --patient-stack-size {SIZE} -w 1 app:app"
    with Server(tmp_path, flags, environ=variables) as server, ExitStack() as stack:
        clients = [stack.enter_context(client.connect(server.address)) for _ in range(2)]
        for sock in clients:
            client.send(sock, client.render("/both"))
        assert [read_answer(sock).text for sock in clients] == [str(SIZE)] * 2


def test_a_reload_changes_its_settings_and_the_worker_class(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    configure(tmp_path, f"worker_class = 'patient'\npatient_stack_size = {SIZE}\nworkers = 2\n")
    with Server(tmp_path, "app:app", environ=variables) as server:
        assert server.ask().text == str(SIZE)
        configure(tmp_path, f"worker_class = 'patient'\npatient_stack_size = {2 * SIZE}\nworkers = 2\n")
        server.signal(signal.SIGHUP)
        server.wait_log("generation 2 ready")
        until(lambda: server.ask().text == str(2 * SIZE), "none but new workers answer")
        configure(tmp_path, f"worker_class = 'gthread'\npatient_stack_size = {SIZE}\nworkers = 2\n")
        server.signal(signal.SIGHUP)
        server.wait_log(
            "patient_stack_size is a setting of the worker class patient, but worker_class is gthread"
        )
        assert server.ask().text == str(2 * SIZE)
        configure(tmp_path, "worker_class = 'gthread'\nworkers = 2\n")
        server.signal(signal.SIGHUP)
        server.wait_log("generation 3 ready")
        until(lambda: server.ask().text == "0", "none but workers of the other class answer")
