# SPDX-License-Identifier: MIT
"""Every check of the workspace, and the programs around it.

`nox` alone runs what CI runs. The packages are found in packages/*, so a new one is checked from
the day its folder exists. uv makes the environments where it is installed, else pip does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import nox

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parent
WORKSPACE: Final = nox.project.load_toml(ROOT / "pyproject.toml")
PACKAGES: Final = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
SUPPORTED: Final = ("3.11", "3.12", "3.13")
PURE: Final = ("http", "settings", "supervisor")
HALF: Final = (*PURE, "wsgi", "net", "observe", "workers")
"""Folders whose tests take about as long as all others together."""
TOGETHER: Final = ("--numprocesses=auto", "--maxprocesses=8", "--dist=worksteal")
"""Several processes of pytest. Only for tests that do not fork themselves: these would have a thread more."""
CONFORMANCE: Final = ("packages/*/tests/conformance", "examples/*/tests")
"""Where `prefork.testing` is run on worker classes: whole servers, so it has a session of its own."""
APART: Final = "--ignore-glob=*/tests/conformance"
NO_TESTS: Final = 5
"""The exit code of pytest when there is no test that was asked for."""
RUNNING: Final = f"{sys.version_info.major}.{sys.version_info.minor}"


def runs(version: str) -> bool:
    """Return whether the machine has a Python; a shim of a version manager is there without one."""
    command = shutil.which(f"python{version}")
    if command is None:
        return False
    return subprocess.run([command, "-c", ""], capture_output=True, check=False).returncode == 0


PYTHONS: Final = [version for version in SUPPORTED if version == RUNNING or runs(version)]

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|venv"
nox.options.download_python = "never"  # what is tested is what the machine has; the list is printed below
nox.options.error_on_missing_interpreters = True
nox.options.sessions = [
    "lint",
    "layers",
    "typing",
    "docs",
    "build",
    "minimums",
    "tests",
    "conformance",
    "integration",
]


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of the workspace."""
    return list(nox.project.dependency_groups(WORKSPACE, name))


def install_packages(session: nox.Session, *requirements: str) -> None:
    """Install every package of the workspace editable, all in one resolution."""
    editable = [argument for path in PACKAGES for argument in ("-e", str(path.relative_to(ROOT)))]
    session.install(*editable, *requirements)


def lowest() -> list[str]:
    """Return the dependencies that the packages declare, extras too, each pinned to its lower bound."""
    projects = [nox.project.load_toml(path / "pyproject.toml")["project"] for path in PACKAGES]
    required = [
        line
        for project in projects
        for lines in (project["dependencies"], *project.get("optional-dependencies", {}).values())
        for line in lines
    ]
    bounds = [re.match(r"([\w.-]+)>=([\w.]+)", line) for line in required]
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


def folders(*patterns: str) -> list[str]:
    """Return the existing paths that match, relative to the root."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


def pytest_options(session: nox.Session) -> list[str]:
    """Return pytest's arguments: on CI a skip that nobody allowed is a failure."""
    strict = ["--no-skips"] if os.environ.get("CI") else []
    return [*strict, *session.posargs]


def fine(session: nox.Session) -> list[int]:
    """Return pytest's exit codes that are no failure: all that was asked for may be in the other part."""
    return [0, NO_TESTS] if session.posargs else [0]


def halves(*names: str) -> tuple[list[str], list[str]]:
    """Return pytest's arguments for the core's tests in two parts: without some folders, and those."""
    some = [folder for name in names for folder in folders(f"packages/prefork-core/tests/{name}")]
    return [*(f"--ignore={folder}" for folder in some), "packages/prefork-core/tests"], some


def workers() -> list[str]:
    """Return the folders of the other packages' tests. Each imports a library that changes all who fork."""
    return [folder for folder in folders("packages/*/tests") if "prefork-core" not in folder]


def side_by_side(session: nox.Session, *commands: Sequence[str]) -> None:
    """Run commands at the same time; what each has said is shown when it has ended."""

    def run(command: Sequence[str]) -> None:
        output = session.run(*command, silent=True, success_codes=fine(session))
        sys.stdout.write(f"{output}\n")  # in one piece; what a command says that fails is shown by nox

    with ThreadPoolExecutor(len(commands)) as pool:
        running = [pool.submit(run, command) for command in commands]
    for one in running:
        one.result()


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format of every Python file."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def layers(session: nox.Session) -> None:
    """Check that imports only go down."""
    install_packages(session)
    session.install(*group("layers"))
    session.run("lint-imports", "--no-cache")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types, strictly, of sources, tests and tools."""
    install_packages(session)
    session.install(*group("typing"))
    session.run("mypy", *folders("packages/*/src"), "noxfile.py", "conftest.py")
    # As on a machine with macOS: names that only Linux has stand behind a question for the platform.
    session.run("mypy", "--platform=darwin", *folders("packages/*/src"))
    session.run("mypy", *folders("benchmarks/*.py"))
    session.run("mypy", *folders("docs/*.py"))
    session.run("mypy", *folders("examples/*/src", "examples/*/tests"))
    # Test modules have no package around them and may share a name, so each folder is its own run.
    tests = {
        str(Path(path).parent)
        for path in folders("packages/*/tests/**/*.py", "integration-tests/**/*.py", "benchmarks/tests/*.py")
    }
    for folder in sorted(tests):
        session.run("mypy", *folders(f"{folder}/*.py"), silent=True)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run every package's tests on each supported Python of this machine, on one with coverage."""
    if missing := sorted(set(SUPPORTED) - set(PYTHONS)):
        session.log("not on this machine, so not tested here: Python %s", ", ".join(missing))
    install_packages(session)
    session.install(*group("test"))
    rest, half = halves(*HALF)
    parts = [
        [*pytest_options(session), APART, *part] for part in (rest, [*half, "benchmarks/tests"], workers())
    ]
    if session.python != RUNNING:
        side_by_side(session, *(["pytest", *part] for part in parts))
        return
    # Not session.create_tmp(): that becomes TMPDIR, where the tests that drop root could not write.
    session.env["COVERAGE_FILE"] = str(Path(session.virtualenv.location, "coverage").resolve())
    session.run("coverage", "erase")
    side_by_side(session, *(["coverage", "run", "-m", "pytest", *part] for part in parts))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python=PYTHONS)
def conformance(session: nox.Session) -> None:
    """Run the conformance kit on every worker class, the examples' too."""
    examples = [argument for path in folders("examples/prefork-*") for argument in ("-e", path)]
    install_packages(session, *examples, *group("conformance"))
    # They wait more than they compute, so there are more of them than processors.
    options = ["--numprocesses=6", "--dist=worksteal", *pytest_options(session)]
    session.run("pytest", *options, *folders(*CONFORMANCE), success_codes=fine(session))


@nox.session
def integration(session: nox.Session) -> None:
    """Run real processes with real frameworks."""
    install_packages(session)
    session.install(*group("integration"))
    # A few tests look at how workers share the machine, and want it for themselves.
    for part in (["-m", "not alone", *TOGETHER], ["-m", "alone"]):
        options = [*part, *pytest_options(session), "integration-tests"]
        session.run("pytest", *options, success_codes=fine(session))


@nox.session
def minimums(session: nox.Session) -> None:
    """Run the packages' tests with the lowest dependencies they declare."""
    install_packages(session, *lowest())
    session.install(*group("test"))
    # The pure packages import nothing that has a version (see the session layers); nor does what is left out
    # beside them, where most of the time goes.
    bare = (*PURE, "wsgi", "net", "workers")
    ignored = [f"--ignore={folder}" for name in bare for folder in folders(f"packages/*/tests/{name}")]
    rest, servers = halves("arbiter")
    options = [*pytest_options(session), APART, *ignored]
    parts = (rest, servers, workers())
    side_by_side(session, *(["pytest", *options, *part] for part in parts))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error. The changelog's fragments are checked too."""
    install_packages(session)
    session.install(*group("docs"))
    options = ["-W", "--keep-going", "-n", "-q", *session.posargs]
    session.run("sphinx-build", *options, "-b", "html", "docs", "docs/_build/html")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session
def build(session: nox.Session) -> None:
    """Build every distribution, check its metadata, and start the command from the wheels."""
    session.install(*group("build"))
    dist = Path(session.create_tmp(), "dist").resolve()
    shutil.rmtree(dist, ignore_errors=True)
    for path in PACKAGES:
        session.run("python", "-m", "build", f"--outdir={dist}", str(path), silent=True)
    session.run("twine", "check", "--strict", *map(str, sorted(dist.iterdir())))
    session.install("--force-reinstall", *map(str, dist.glob("*.whl")))
    session.run("prefork", "--version")
    session.run("preforkctl", "--version")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure prefork beside its peers: `nox -s bench -- --quick` for a first look."""
    session.install(*group("bench"), *(str(path) for path in PACKAGES))
    # What does not build here is left out of the run, which says so.
    session.install(*group("bench-libev"), success_codes=range(256), silent=True)
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the HTTP core for ten minutes: `nox -s fuzz -- SECONDS [FOLDER for what fails]`."""
    install_packages(session)
    session.install(*group("fuzz"))
    session.run(
        "python", "packages/prefork-core/tests/http/fuzz_connection.py", *(session.posargs or ["600"])
    )


def run_for_long(session: nox.Session, tests: Sequence[str], *options: str) -> None:
    """Run tests of whole servers in a long form, alone and with their output shown."""
    install_packages(session)
    session.install(*group("test"))
    paths = [f"integration-tests/lifecycle/{test}" for test in tests]
    session.run("pytest", "-s", "-o", "faulthandler_timeout=0", *options, *session.posargs, *paths)


@nox.session
def race(session: nox.Session) -> None:
    """Race threads against clients for five minutes a shape: `nox -s race -- --minutes N`."""
    run_for_long(session, ["test_races.py"], "--minutes=5")


@nox.session
def chaos(session: nox.Session) -> None:
    """Have all go wrong at random five minutes a shape: `nox -s chaos -- --minutes N --seed N -k gevent`."""
    run_for_long(session, ["test_chaos.py"], "--minutes=5")


PROMISES: Final = (
    "test_scaling.py::test_max_requests_replaces_workers_without_a_loss",
    "test_stop.py::test_a_stop_under_load_loses_nothing",
    "test_keepalive.py::test_a_stop_loses_nothing",
    "test_reload.py::test_reloads_good_and_broken_lose_nothing",
)


@nox.session
def promises(session: nox.Session) -> None:
    """Recycle, stop and reload as often as we promise: `-- --recycled N --stops N --reloads N`."""
    run_for_long(session, PROMISES, "--recycled=1000000", "--stops=50", "--reloads=50")


@nox.session
def soak(session: nox.Session) -> None:
    """Look whether a worker grows in a million requests: `nox -s soak -- --requests N --aborts N`."""
    run_for_long(session, ["test_soak.py"], "--requests=1000000", "--aborts=100000")


@nox.session
def demo(session: nox.Session) -> None:
    """Serve the built-in demo."""
    install_packages(session)
    session.run("prefork", "--demo", *session.posargs)
