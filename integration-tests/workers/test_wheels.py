# SPDX-License-Identifier: MIT
"""What a virtual environment knows into which wheels of ours were installed, one after the other."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from prefork.testing.server import clean_environ

PACKAGES: Final = Path(__file__).parents[2] / "packages"


class Environment:
    """A virtual environment with prefork-core and what that needs.

    Args:
        folder: where to make it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        root = folder / "environment"
        venv.create(root, symlinks=True)
        self._python = root / "bin" / "python"
        self._site = Path(sysconfig.get_path("purelib", "venv", {"base": str(root), "platbase": str(root)}))
        needed = find_spec("setproctitle")
        assert needed is not None
        assert needed.origin is not None
        shutil.copytree(Path(needed.origin).parent, self._site / "setproctitle")
        self.install("prefork-core")

    def install(self, package: str) -> None:
        """Build a wheel, and put it where pip would."""
        wheels = self._folder / package
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
        subprocess.run(build, cwd=PACKAGES / package, check=True, capture_output=True)
        [wheel] = wheels.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(self._site)

    def prefork(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command there."""
        return self._run("-m", "prefork", *arguments)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {name: text for name, text in clean_environ().items() if name != "PYTHONPATH"}
        command = [str(self._python), *arguments]
        return subprocess.run(
            command, cwd=self._folder, env=environ, capture_output=True, text=True, check=False, timeout=60
        )

    def python(self, program: str) -> subprocess.CompletedProcess[str]:
        """Run a program there."""
        return self._run("-c", program)

    def names(self) -> list[str]:
        """Return the worker classes that it knows."""
        return [line.split()[0] for line in self.prefork("--list-workers").stdout.splitlines()[1:]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("wheels"))


def test_core_alone_has_two_worker_classes_and_says_how_to_get_others(environment: Environment) -> None:
    assert environment.names() == ["gthread", "sync"]
    done = environment.prefork("-k", "gevent", "prefork.demo:app")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "prefork: error: there is no worker class 'gevent'",
            "  hint: pip install prefork-gevent; installed: gthread, sync",
        ],
    )


def test_what_a_worker_class_needs_is_asked_for_before_anything_is_forked(environment: Environment) -> None:
    environment.install("prefork-aio")
    assert "aiohttp" in environment.names()
    assert "--aio-loop auto|asyncio|uvloop" in environment.prefork("--help").stdout
    done = environment.prefork("-k", "aiohttp", "prefork.demo:app")
    said = "aiohttp is not installed (pip install 'prefork-aio[aiohttp]')"
    assert (done.returncode, done.stderr) == (
        1,
        f"prefork: error: worker class 'aiohttp' cannot serve: {said}\n",
    )


def test_what_is_installed_is_known(environment: Environment) -> None:
    """Without gevent itself, which only a worker process imports."""
    environment.install("prefork-gevent")
    assert set(environment.names()) >= {"gevent", "gthread", "sync"}
    assert "--gevent-post-patch MODULE:FUNCTION" in environment.prefork("--help").stdout
    done = environment.prefork("--check-config", "-k", "gevent", "prefork.demo:app")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_the_conformance_kit_says_what_it_needs(environment: Environment) -> None:
    """A server does not depend on pytest."""
    done = environment.python("import prefork.testing")
    assert done.returncode == 1
    assert done.stderr.endswith("prefork.testing needs pytest: pip install 'prefork-core[testing]'\n")
    assert environment.python("import prefork.trial.asgi, prefork.trial.wsgi").returncode == 0


def test_options_of_what_is_installed_are_options_of_the_command(environment: Environment) -> None:
    environment.install("prefork-tornado")
    assert "tornado" in environment.names()
    assert "--tornado-max-body-size SIZE" in environment.prefork("--help").stdout
