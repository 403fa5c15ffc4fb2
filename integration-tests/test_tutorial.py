# SPDX-License-Identifier: MIT
"""The tutorial does what it says: its files, commands and outputs are taken from the page and tried.

On the page, a block with the caption `first terminal` is the command that serves, or what it logs; a
block with a file's name is that file; what follows a `$ command` is what it prints. `...` stands for
anything. Only two things are stood in for: the installation, because the packages under test are
installed already, and the address, because port 8000 may be taken.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path(__file__).parents[1] / "docs" / "tutorial" / "first-steps.md"
BLOCK: Final = re.compile(
    r"^```(?:\{code-block\} )?(\w+)\n(?::caption: ([^\n]+)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL
)
ADDRESS: Final = "127.0.0.1:8000"
INSTALLATION: Final = ("python3 -m venv ", ". .venv/", "pip install ")
PATIENCE: Final = 20.0
"""Seconds after which what the page promises has not happened."""

CURL: Final = f"""#!{sys.executable}
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
"""


class Block(NamedTuple):
    """One fenced block of the page."""

    language: str
    caption: str
    text: str


class Reader:
    """Somebody who does what the page says, in an empty folder.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "terminal.log"
        self.read_to = 0
        """Up to where in the log the page has been followed."""
        self.server: subprocess.Popen[bytes] | None = None
        stand_ins = folder / "stand-ins"
        stand_ins.mkdir()
        (stand_ins / "curl").write_text(CURL)
        (stand_ins / "curl").chmod(0o755)
        scripts = Path(sys.executable).parent
        self.address = f"127.0.0.1:{free_port()}"
        self.environ = {
            **os.environ,
            "PATH": f"{stand_ins}:{scripts}:{os.environ['PATH']}",
            "PREFORK_BIND": self.address,
        }

    def follow(self, block: Block) -> None:
        if block.language == "python":
            (self.folder / block.caption).write_text(block.text.lstrip("\n"))
        elif block.caption == "first terminal" and block.language == "console":
            self.serve(block.text.strip().removeprefix("$ "))
        elif block.caption == "first terminal":
            self.expect_log(block.text.strip().splitlines())
        else:
            for command, output in commands(block.text):
                self.type(command, output)

    def serve(self, command: str) -> None:
        with self.log.open("wb") as log:
            self.server = subprocess.Popen(
                f"exec {command}", shell=True, cwd=self.folder, env=self.environ, stdout=log, stderr=log
            )

    def type(self, command: str, output: str) -> None:
        if command.startswith(INSTALLATION):
            check_installation(command)
            return
        if command.startswith("kill "):
            self.read_to = self.log.stat().st_size
        deadline = time.monotonic() + PATIENCE
        while not self.prints(command, output):
            # Only a question can be asked again: after a reload the old workers may still answer it.
            assert command.startswith("curl "), f"`{command}` failed or printed something else"
            assert time.monotonic() < deadline, (
                f"`{command}` never printed {output!r}\n{self.log.read_text()}"
            )
            time.sleep(0.05)

    def prints(self, command: str, output: str) -> bool:
        done = subprocess.run(
            command.replace(ADDRESS, self.address),
            shell=True,
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode == 0 and bool(re.fullmatch(pattern(output), done.stdout.strip()))

    def expect_log(self, lines: list[str]) -> None:
        deadline = time.monotonic() + PATIENCE
        for line in lines:
            wanted = re.compile(f"^{pattern(line.replace(ADDRESS, self.address))}$", re.MULTILINE)
            while not (found := wanted.search(self.log.read_text(), self.read_to)):
                assert time.monotonic() < deadline, (
                    f"no line {line!r} in\n{self.log.read_text()[self.read_to :]}"
                )
                time.sleep(0.05)
            self.read_to = found.end()


def blocks() -> list[Block]:
    return [
        Block(language, caption or "", text) for language, caption, text in BLOCK.findall(PAGE.read_text())
    ]


def commands(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output.strip()


def pattern(shown: str) -> str:
    return ".*".join(re.escape(piece) for piece in shown.split("..."))


def check_installation(command: str) -> None:
    """Check that what the page installs is what is under test."""
    if command.startswith("pip install "):
        for name in command.split()[2:]:
            assert metadata.version(name)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_the_page_is_understood() -> None:
    """Had the fences another form, nothing would be tried and the test below would pass."""
    languages = [block.language for block in blocks()]
    assert languages.count("python") == 1
    assert len(languages) == PAGE.read_text().count("\n```") / 2


def test_the_tutorial_works_to_the_letter(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    try:
        for block in blocks():
            reader.follow(block)
        assert reader.server is not None
        assert reader.server.wait(PATIENCE) == 0
    finally:
        if reader.server is not None:
            with contextlib.suppress(ProcessLookupError):
                reader.server.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                reader.server.wait(PATIENCE)
            reader.server.kill()
            reader.server.wait()
