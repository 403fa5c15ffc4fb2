# SPDX-License-Identifier: MIT
"""What is true of every distribution of the workspace, and what the core promises of itself."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[3]
PACKAGES: Final = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

HEAVY: Final = {
    "asyncio",
    "concurrent",
    "email",
    "http",
    "multiprocessing",
    "ssl",
    "unittest",
    "urllib",
    "xml",
}
"""Parts of the standard library that would each cost the start-up milliseconds."""


def project_of(package: Path) -> dict[str, Any]:
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert isinstance(project, dict)
    return project


def modules_loaded_by(statement: str) -> set[str]:
    """Return the names of the modules that a fresh interpreter imports for a statement alone."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_there_is_a_package_to_look_at() -> None:
    assert "prefork-core" in {package.name for package in PACKAGES}


def test_all_packages_have_one_version() -> None:
    versions = {package.name: project_of(package)["version"] for package in PACKAGES}
    assert len(set(versions.values())) == 1, versions


def test_the_installed_version_is_the_declared_one() -> None:
    assert metadata.version("prefork-core") == project_of(ROOT / "packages/prefork-core")["version"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
class TestPackage:
    def test_its_licence_is_the_workspace_s(self, package: Path) -> None:
        assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
        assert project_of(package)["license"] == "MIT"
        assert project_of(package)["license-files"] == ["LICENSE"]

    def test_its_import_package_is_marked_as_typed(self, package: Path) -> None:
        import_packages = [path for path in (package / "src").iterdir() if path.is_dir()]
        assert import_packages
        assert all((path / "py.typed").is_file() for path in import_packages if path.name != "__pycache__")

    def test_every_source_file_names_its_licence_first(self, package: Path) -> None:
        first_line = "# SPDX-License-Identifier: MIT\n"
        files = [path for path in package.rglob("*.py") if path.stat().st_size]
        assert [path for path in files if not path.read_text().startswith(first_line)] == []

    def test_it_runs_where_the_workspace_is_tested(self, package: Path) -> None:
        assert project_of(package)["requires-python"] == ">=3.11"


def test_the_core_depends_on_setproctitle_only() -> None:
    requirements = [line for line in metadata.requires("prefork-core") or [] if "extra ==" not in line]
    assert [line.partition(";")[0] for line in requirements] == ["setproctitle<2,>=1.3.3"]


def test_what_watches_files_and_what_tests_workers_are_extras() -> None:
    extras = project_of(ROOT / "packages/prefork-core")["optional-dependencies"]
    assert extras == {"reload": ["watchfiles>=1.0,<2"], "testing": ["pytest>=9.0,<10"]}


def test_the_sync_worker_comes_through_the_public_entry_points() -> None:
    found = {point.name: point.value for point in metadata.entry_points(group="prefork.workers")}
    assert found["sync"] == "prefork.workers.sync:SyncWorker"


def test_importing_prefork_loads_nothing_of_consequence() -> None:
    """A list instead of a stop-watch: the same on a slow machine, and it says what is to blame."""
    assert modules_loaded_by("import prefork") <= {"prefork", "__future__"}


def test_the_worker_api_is_light_to_import() -> None:
    """A plugin's entry-point module is imported in the arbiter, which has read its settings by then."""
    worker, settings = (modules_loaded_by(f"import prefork.{name}") for name in ("worker", "settings"))
    assert worker - settings == {"prefork.worker"}
    roots = {name.partition(".")[0] for name in worker}
    assert roots & HEAVY <= {"urllib"}  # of pathlib, before Python 3.13


def test_our_own_workers_keep_what_is_asked_of_any_plugin() -> None:
    """The module that an entry point names brings nothing of what serves into the arbiter."""
    ours = modules_loaded_by("import prefork.workers.sync, prefork.workers.gthread")
    beside = modules_loaded_by("import prefork.worker")
    assert ours - beside == {"prefork.workers", "prefork.workers.sync", "prefork.workers.gthread"}
