# SPDX-License-Identifier: MIT
"""A virtual environment of its own, into which pip installs our wheels: what it knows, serves and refuses."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from prefork.testing.server import Server, clean_environ

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES: Final = Path(__file__).parents[2] / "packages"
HAS: Final = {
    "prefork-aio": ["websockets"],
    "prefork-gevent": ["gevent", "greenlet", "zope.event", "zope.interface"],
    "prefork-tornado": ["tornado"],
}
"""What our packages need of others. aiohttp is an extra."""
ELSEWHERE: Final = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
"""A program that runs a command with the Python that runs the program."""


class Environment:
    """A virtual environment with prefork-core.

    What our packages need of others is copied from where the tests run, so that nothing has to be fetched.
    Whether that is what our wheels ask for is checked by pip.

    Args:
        folder: where to make it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root = folder / "environment"
        venv.create(root, symlinks=True, with_pip=True)
        self._programs = root / "bin"
        self._site = Path(sysconfig.get_path("purelib", "venv", {"base": str(root), "platbase": str(root)}))
        self._wheels = folder / "wheels"
        self._bring("setproctitle")
        self._install("prefork-core", PACKAGES / "prefork-core")

    def _bring(self, name: str) -> None:
        """Copy a distribution from where the tests run."""
        for path in distribution(name).files or ():
            source, target = Path(str(path.locate())), self._site / path
            if ".." not in path.parts and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def _install(self, package: str, project: Path) -> None:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(self._wheels)]
        subprocess.run(build, cwd=project, check=True, capture_output=True)
        self._pip("install", "--no-index", f"--find-links={self._wheels}", package)

    def _pip(self, *arguments: str) -> None:
        done = self.run("python", "-m", "pip", "-q", "--disable-pip-version-check", *arguments)
        assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def having(self, *packages: str, projects: Path = PACKAGES) -> Iterator[None]:
        """Have packages installed, for a while.

        Args:
            packages: their names.
            projects: the folder in which each has its own.
        """
        try:
            for package in packages:
                for needed in HAS.get(package, []):
                    self._bring(needed)
                self._install(package, projects / package)
            yield
        finally:
            self._pip("uninstall", "--yes", *packages)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment."""
        return subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self.folder,
            env=clean_environ(PYTHONPATH=""),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def prefork(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return self.run("prefork", *arguments)

    def serve(self, folder: Path, *arguments: str) -> Server:
        """Return a server."""
        python = [str(self._programs / "python"), "-c", ELSEWHERE]
        return Server(folder, arguments, wrapper=python, environ={"PYTHONPATH": ""})

    def listed(self) -> dict[str, str]:
        """Return what is said of each worker class that it knows."""
        rows = [line.split(maxsplit=1) for line in self.prefork("--list-workers").stdout.splitlines()[1:]]
        return {name: " ".join(text.split()) for name, text in rows}

    def refusal(self, name: str) -> tuple[int, list[str]]:
        """Return exit code and complaints of a server that was to have a worker class."""
        done = self.prefork("-k", name, "prefork.demo:app")
        return done.returncode, done.stderr.splitlines()


def write_project(folder: Path, package: str, name: str, api: int) -> None:
    """Put the project of somebody's worker class into a folder of that."""
    module = package.replace("-", "_")
    project = folder / package
    project.mkdir()
    (project / "pyproject.toml").write_text(f"""\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{package}"
version = "3.2"
dependencies = ["prefork-core"]
[project.entry-points."prefork.workers"]
{name} = "{module}:Theirs"
[tool.hatch.build.targets.wheel]
include = ["{module}.py"]
""")
    (project / f"{module}.py").write_text(f"""\
from prefork.worker import Worker
class Theirs(Worker):
    api = {api}
    def run(self, ctx):
        ctx.serve_one_by_one()
""")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("wheels"))


def test_core_alone_has_two_worker_classes_and_says_how_to_get_others(environment: Environment) -> None:
    assert sorted(environment.listed()) == ["gthread", "sync"]
    assert environment.refusal("gevent") == (
        1,
        [
            "prefork: error: there is no worker class 'gevent'",
            "  hint: pip install prefork-gevent; installed: gthread, sync",
        ],
    )


def test_core_alone_serves(environment: Environment, tmp_path: Path) -> None:
    with environment.serve(tmp_path, "-w", "1", "prefork.demo:app") as server:
        assert "prefork is serving" in server.ask("/").text
        assert "1 sync workers" in server.log()


def test_what_is_installed_is_known_and_serves(environment: Environment, tmp_path: Path) -> None:
    with environment.having("prefork-gevent"):
        assert sorted(environment.listed()) == ["gevent", "gthread", "sync"]
        assert "--gevent-post-patch MODULE:FUNCTION" in environment.prefork("--help").stdout
        with environment.serve(tmp_path, "-k", "gevent", "-w", "1", "prefork.demo:app") as server:
            assert "prefork is serving" in server.ask("/").text
            assert "1 gevent workers" in server.log()


def test_what_a_worker_class_needs_is_asked_for_before_anything_is_forked(environment: Environment) -> None:
    with environment.having("prefork-aio"):
        assert "aiohttp" in environment.listed()
        assert "--aio-loop auto|asyncio|uvloop" in environment.prefork("--help").stdout
        said = "aiohttp is not installed (pip install 'prefork-aio[aiohttp]')"
        assert environment.refusal("aiohttp") == (
            1,
            [f"prefork: error: worker class 'aiohttp' cannot serve: {said}"],
        )


def test_a_worker_class_of_another_version_of_the_interface_is_refused_by_name(
    environment: Environment, tmp_path: Path
) -> None:
    write_project(tmp_path, "prefork-elder", "elder", 2)
    why = (
        "worker class 'elder' of prefork-elder 3.2 is written for version 2 of the worker API;"
        " this prefork has version 1"
    )
    with environment.having("prefork-elder", projects=tmp_path):
        hint = "  hint: install another release of prefork-elder, or of prefork-core"
        assert environment.refusal("elder") == (1, [f"prefork: error: {why}", hint])
        assert environment.listed()["elder"].startswith(f"prefork-elder 3.2 - cannot be used: {why}")
        assert environment.prefork("--check-config", "prefork.demo:app").stdout == "ok\n"


def test_a_worker_class_that_two_distributions_have_is_refused_by_both_names(
    environment: Environment, tmp_path: Path
) -> None:
    write_project(tmp_path, "prefork-twin", "tornado", 1)
    with environment.having("prefork-tornado"), environment.having("prefork-twin", projects=tmp_path):
        why = "worker class 'tornado' is claimed by prefork-tornado and prefork-twin"
        assert environment.refusal("tornado") == (
            1,
            [f"prefork: error: {why}", "  hint: uninstall one of them"],
        )
        assert f"cannot be used: {why}" in environment.listed()["tornado"]
        assert environment.prefork("--check-config", "prefork.demo:app").stdout == "ok\n"


def test_the_conformance_kit_says_what_it_needs(environment: Environment) -> None:
    """A server does not depend on pytest."""
    done = environment.run("python", "-c", "import prefork.testing")
    assert done.returncode == 1
    assert done.stderr.endswith("prefork.testing needs pytest: pip install 'prefork-core[testing]'\n")
    program = "import prefork.trial.asgi, prefork.trial.wsgi"
    assert environment.run("python", "-c", program).returncode == 0


def test_options_of_what_is_installed_are_options_of_the_command(environment: Environment) -> None:
    with environment.having("prefork-tornado"):
        assert "tornado" in environment.listed()
        assert "--tornado-max-body-size SIZE" in environment.prefork("--help").stdout
