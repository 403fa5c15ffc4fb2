# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from distributions import WORKER, write_distribution

import prefork
from prefork.errors import ExitCode

# The folders that this process imports from, so that the package need not be installed.
_SOURCES = os.pathsep.join(entry for entry in (str(Path(prefork.__file__).parents[1]), *sys.path) if entry)


def run(cwd: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: text for name, text in os.environ.items() if not name.startswith(("PREFORK_", "WEB_", "PORT"))
    }
    return subprocess.run(
        [sys.executable, "-m", "prefork", *arguments],
        cwd=cwd,
        env={**clean, "PYTHONPATH": _SOURCES, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def folder_with(path: Path, text: str) -> Path:
    (path / "app.py").write_text(text)
    return path


WSGI = "def app(environ, start_response): return []\n"


def test_the_version_is_printed(tmp_path: Path) -> None:
    done = run(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (ExitCode.OK, f"prefork {prefork.__version__}\n")


def test_help_is_printed(tmp_path: Path) -> None:
    done = run(tmp_path, "--help", COLUMNS="60")
    assert done.returncode == ExitCode.OK
    assert done.stdout.startswith("usage: prefork [flags] MODULE:APP\n")
    assert "-w, --workers" in done.stdout


def test_no_application_is_a_usage_error(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("prefork: error: no application is given\n  hint: ")
    assert done.stdout == ""


def test_print_config_prints_values_and_places(tmp_path: Path) -> None:
    done = run(tmp_path, "--print-config", "--reuse-port", PREFORK_WORKERS="3")
    assert done.returncode == ExitCode.OK
    assert "env PREFORK_WORKERS" in done.stdout
    assert done.stderr.startswith("prefork: warning: flag --reuse-port: ")


def test_installed_worker_classes_are_listed_with_those_that_are_broken(tmp_path: Path) -> None:
    (tmp_path / "cli_own.py").write_text(WORKER)
    write_distribution(tmp_path, "prefork-own", "1.2", {"own": "cli_own:Own"})
    write_distribution(tmp_path, "prefork-lost", "3.4", {"lost": "cli_lost:Lost"})
    done = run(tmp_path, "--list-workers", PYTHONPATH=os.pathsep.join((str(tmp_path), _SOURCES)))
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    head, *rows = [line.split() for line in done.stdout.splitlines()]
    assert head == ["NAME", "DISTRIBUTION", "VERSION", "API"]
    found = {row[0]: row[1:] for row in rows}
    assert found["own"] == ["prefork-own", "1.2", "1", "Serves", "in", "its", "own", "way."]
    assert found["sync"][:3] == ["prefork-core", version("prefork-core"), "1"]
    assert " ".join(found["lost"]) == (
        "prefork-lost 3.4 - cannot be used: worker class 'lost' of prefork-lost 3.4 cannot be loaded:"
        " No module named 'cli_lost'"
    )


def test_a_broken_worker_class_does_not_break_the_help(tmp_path: Path) -> None:
    write_distribution(tmp_path, "prefork-lost", "3.4", {"lost": "cli_lost:Lost"})
    done = run(tmp_path, "--help", PYTHONPATH=os.pathsep.join((str(tmp_path), _SOURCES)))
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert "worker class 'lost' of prefork-lost 3.4 cannot be loaded" in done.stdout


def test_check_config_asks_the_worker_class_whether_it_can_serve_the_application(tmp_path: Path) -> None:
    refusing = """
class Choosy(Own):
    interface = Interface.OTHER
    @classmethod
    def refuses(cls, app):
        return None if app == 5 else f"{app!r} is not five"
"""
    (tmp_path / "cli_choosy.py").write_text(WORKER + refusing)
    (tmp_path / "app.py").write_text("five = 5\nsix = 6")
    arguments = ("--check-config", "-k", "cli_choosy:Choosy")
    assert run(tmp_path, *arguments, "app:five").stdout == "ok\n"
    done = run(tmp_path, *arguments, "app:six")
    assert (done.returncode, done.stderr) == (
        ExitCode.APP,
        "prefork: error: app:six cannot be served: 6 is not five\n",
    )


def test_check_config_asks_the_worker_class_whether_something_is_missing(tmp_path: Path) -> None:
    lacking = """
class Needy(Own):
    @classmethod
    def lacks(cls, settings):
        return "there is no clock"
"""
    (tmp_path / "cli_needy.py").write_text(WORKER + lacking)
    done = run(folder_with(tmp_path, WSGI), "--check-config", "-k", "cli_needy:Needy", "app:app")
    assert (done.returncode, done.stderr) == (
        ExitCode.CONFIG,
        "prefork: error: worker class 'cli_needy:Needy' cannot serve: there is no clock\n",
    )


def test_check_config_says_ok(tmp_path: Path) -> None:
    done = run(folder_with(tmp_path, WSGI), "--check-config", "app:app")
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.OK, "ok\n", "")


def test_check_config_warns_of_a_setting_that_the_worker_cannot_honour(tmp_path: Path) -> None:
    done = run(folder_with(tmp_path, WSGI), "--check-config", "app:app", PREFORK_KEEPALIVE="5")
    assert (done.returncode, done.stdout) == (ExitCode.OK, "ok\n")
    assert done.stderr.startswith("prefork: warning: env PREFORK_KEEPALIVE: keepalive has no effect: ")


def test_check_config_loads_the_application_as_a_worker_would(tmp_path: Path) -> None:
    """Another folder, variables and import path are in effect."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "lib").mkdir()
    (tmp_path / "site" / "lib" / "beside_it.py").touch()
    folder_with(tmp_path / "site", f"import os, beside_it\nos.environ['GIVEN']\n{WSGI}")
    done = run(
        tmp_path, "--check-config", "app:app", "--chdir", "site", "-e", "GIVEN=1", "--pythonpath", "lib"
    )
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")


@pytest.mark.parametrize(
    ("arguments", "text", "code", "message"),
    [
        (["--wrokers=3"], WSGI, ExitCode.USAGE, "did you mean --workers?"),
        (["--workers=x"], WSGI, ExitCode.USAGE, "flag --workers: workers is 'x'"),
        (["-c", "missing.py"], WSGI, ExitCode.CONFIG, "cannot read the configuration file"),
        (["-b", "127.0.0.1:many"], WSGI, ExitCode.CONFIG, "127.0.0.1:many"),
        (["--access-logformat", "%(nothing)s"], WSGI, ExitCode.CONFIG, "nothing"),
        (["-k", "no-such-worker"], WSGI, ExitCode.CONFIG, "no-such-worker"),
        (["--chdir", "nowhere"], WSGI, ExitCode.CONFIG, "chdir: cannot change to nowhere"),
        ([], "1 / 0", ExitCode.BOOT, "ZeroDivisionError: division by zero\nprefork: error: "),
        ([], "other = 1", ExitCode.APP, "module 'app' has no 'app'"),
    ],
)
def test_check_config_ends_with_the_code_of_what_is_wrong(
    tmp_path: Path, arguments: list[str], text: str, code: ExitCode, message: str
) -> None:
    done = run(folder_with(tmp_path, text), "--check-config", "app:app", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""


def test_an_error_of_prefork_has_no_traceback(tmp_path: Path) -> None:
    assert "Traceback" not in run(tmp_path, "--check-config", "app:app").stderr


def output_of(program: str) -> str:
    """Run a program in an interpreter of its own; return what it has printed."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": _SOURCES},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def cost_of(module: str) -> float:
    """Return the CPU time of an import, the best of five."""
    program = f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"
    return min(float(output_of(program)) for _ in range(5))


def test_the_command_is_quick_to_import() -> None:
    """About as quick as asyncio, 60 ms of CPU time where this was written. That one is not imported here."""
    assert cost_of("prefork.cli") < 2.5 * cost_of("asyncio")


def test_the_command_imports_nothing_that_only_serving_needs() -> None:
    program = "import sys, prefork.cli; print(*sys.modules)"
    heavy = {"argparse", "asyncio", "difflib", "logging", "socket", "ssl", "tomllib", "prefork.arbiter.boot"}
    assert not heavy & set(output_of(program).split())
