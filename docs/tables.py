# SPDX-License-Identifier: MIT
"""Turns the tables of the code into pages of the reference, so that they cannot say anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sphinx.pycode import ModuleAnalyzer

from prefork import ctl
from prefork.errors import ExitCode
from prefork.process.signals import COMMANDS, Command
from prefork.settings import reference
from prefork.testing import WorkerConformance
from prefork.testing.subject import needed_by
from prefork.workers import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def member_docs(module: str, owner: str) -> dict[str, str]:
    """Return the docstrings below a class's members, which Python itself does not keep."""
    found = ModuleAnalyzer.for_module(module).find_attr_docs()
    return {name: " ".join(lines).strip() for (scope, name), lines in found.items() if scope == owner}


def exit_codes() -> str:
    """Return the exit codes of the command."""
    meanings = member_docs("prefork.errors", "ExitCode")
    return table(
        ("code", "name", "meaning"), ((str(code.value), code.name, meanings[code.name]) for code in ExitCode)
    )


def signals() -> str:
    """Return what each signal asks of the arbiter."""
    asked = (
        (number.name, command.value) for number, command in COMMANDS.items() if command is not Command.REAP
    )
    return table(("signal", "what the arbiter does"), ((f"`{name}`", meaning) for name, meaning in asked))


def preforkctl_commands() -> str:
    """Return the commands of preforkctl."""
    arguments = {"scale": " N", "kill-slot": " N", "stop": " [--quick]", "stacks": " [N]"}
    rows = (
        (f"`{verb.command.value}{arguments.get(verb.command.value, '')}`", verb.help) for verb in ctl.VERBS
    )
    return table(("command", "what it does"), rows)


def preforkctl_exit_codes() -> str:
    """Return the exit codes of preforkctl."""
    meanings = member_docs("prefork.ctl", "Code")
    rows = ((str(code.value), code.name, meanings[code.name]) for code in ctl.Code)
    return table(("code", "name", "meaning"), rows)


def _needed(test: object) -> str:
    """Return which attribute has to be true for a test, if one has."""
    attribute = needed_by(test)
    return f" (`{attribute}`)" if attribute else ""


def conformance_tests() -> str:
    """Return what the tests of the conformance kit hold, by what they are about."""
    parts = []
    for topic in WorkerConformance.__bases__:
        tests = [getattr(topic, name) for name in vars(topic) if name.startswith("test_")]
        rows = (
            (f"`{test.__name__}`{_needed(test)}", " ".join((test.__doc__ or "").split())) for test in tests
        )
        about = (topic.__doc__ or "").rstrip(".")
        parts.append(table((about, ""), rows))
    return "\n".join(parts)


PAGES: Final[dict[str, Callable[[], str]]] = {
    "conformance-tests": conformance_tests,
    "exit-codes": exit_codes,
    "preforkctl-commands": preforkctl_commands,
    "preforkctl-exit-codes": preforkctl_exit_codes,
    "settings": lambda: reference.render(registry.contributions()),
    "signals": signals,
}


def write(folder: Path) -> None:
    """Write every page; one that has not changed keeps its time, so that Sphinx need not read it again."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, render in PAGES.items():
        page = folder / f"{name}.md"
        text = render()
        if not page.exists() or page.read_text() != text:
            page.write_text(text)
