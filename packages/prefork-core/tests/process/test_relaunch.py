# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prefork.process.relaunch import Launch, command, of_this_process

SHOWS = """\
import json, os, sys
mask = os.umask(0)
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get("COLOUR"), os.environ.get("MORE"), mask]))
os.write(int(sys.argv[1]), b"here")
"""


def script(folder: Path, first_line: str, mode: int = 0o755) -> str:
    path = folder / "prefork"
    path.write_text(f"{first_line}\nimport prefork\n")
    path.chmod(mode)
    return str(path)


def test_a_module_is_given_to_the_interpreter_that_runs() -> None:
    line = ["python", "-m", "prefork", "app:app"]
    assert command(line, "/venv/bin/python") == ("/venv/bin/python", "-m", "prefork", "app:app")


def test_a_script_that_names_its_interpreter_is_executed_itself(tmp_path: Path) -> None:
    """Whatever its first line names by then: another release has another virtual environment."""
    path = script(tmp_path, "#!/releases/1/bin/python")
    line = ["/releases/1/bin/python", path, "-w", "2"]
    assert command(line, "/releases/1/bin/python") == (path, "-w", "2")


def test_an_argument_in_the_first_line_belongs_to_it(tmp_path: Path) -> None:
    path = script(tmp_path, "#!/venv/bin/python -E")
    assert command(["/venv/bin/python", "-E", path, "-w"], "/venv/bin/python") == (path, "-w")


@pytest.mark.parametrize(
    ("first_line", "mode"),
    [("#!/other/python", 0o755), ("#!/venv/bin/python", 0o644), ("import this", 0o755), ("#!", 0o755)],
)
def test_a_script_that_was_given_to_an_interpreter_is_given_to_it_again(
    tmp_path: Path, first_line: str, mode: int
) -> None:
    path = script(tmp_path, first_line, mode)
    if os.geteuid() == 0 and mode == 0o644:
        assert not os.access(path, os.X_OK)
    assert command(["/venv/bin/python", path], "/venv/bin/python") == ("/venv/bin/python", path)


@pytest.mark.parametrize(
    "line", [["python"], ["python", "-c", "pass"], ["python", "/gone"], ["python", "\0"]]
)
def test_what_is_no_script_is_none(line: list[str]) -> None:
    assert command(line, "/bin/python") == ("/bin/python", *line[1:])


def test_a_process_knows_how_it_was_started() -> None:
    before = os.umask(0o27)
    try:
        launch = of_this_process("/somewhere", {"COLOUR": "red"})
    finally:
        assert os.umask(before) == 0o27, "it is as it was"
    assert launch == Launch(command(sys.orig_argv, sys.executable), "/somewhere", {"COLOUR": "red"}, 0o27)


def test_it_is_started_again_with_all_that_it_had(tmp_path: Path) -> None:
    """Over a link that has been moved since, with the environment of the start, and what is added to it."""
    (tmp_path / "two").mkdir()
    (tmp_path / "current").symlink_to("two")
    read, write = os.pipe()
    argv = (sys.executable, "-c", SHOWS, str(write))
    launch = Launch(argv, str(tmp_path / "current"), {"COLOUR": "red"}, 0o27)
    out_read, out_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(out_write, 1)
        launch.again({"MORE": "1"}, [write])
    os.close(out_write)
    os.waitpid(pid, 0)
    with open(out_read, "rb") as out:
        arguments, folder, colour, more, mask = json.loads(out.read())
    assert arguments == [str(write)]
    assert Path(folder) == tmp_path / "two"
    assert (colour, more, mask) == ("red", "1", 0o27)
    assert os.read(read, 4) == b"here"
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(("argv", "folder"), [(("/gone",), "/"), ((sys.executable,), "/gone")])
def test_what_is_not_there_cannot_be_started(argv: tuple[str, ...], folder: str) -> None:
    """In a process of its own: the folder of this one must stay."""
    program = (
        "from prefork.process.relaunch import Launch\n"
        f"try: Launch({argv!r}, {folder!r}, {{}}, 0).again({{}}, [])\n"
        "except FileNotFoundError: print('not there')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "not there\n"
