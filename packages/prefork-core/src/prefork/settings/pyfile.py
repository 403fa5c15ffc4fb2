# SPDX-License-Identifier: MIT
"""Settings from a Python configuration file.

It decides which names of the file are settings: helpers are normal in such a file, so that
only a name that nearly is a setting's, and so most likely a slip, is an error. What values
mean is not known here.
"""

from __future__ import annotations

import ast
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import ConfigError
from prefork.hooks import TABLE as HOOKS
from prefork.settings.absent import ABSENT
from prefork.settings.origin import Given, Origin, Source
from prefork.settings.spelling import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from prefork.settings.option import Table

_CLOSENESS: Final = 0.85
"""How like a setting's name a name must be to be taken for a slip (log_level, worker, bindd)."""


def read(table: Table, path: Path, shown: str, module: str = "__config__") -> Iterator[Given]:
    """Run a configuration file and yield what it gives.

    Args:
        table: the settings there are.
        path: the file.
        shown: how to call it in places and errors.
        module: the name it runs under, dotted if the file is in a package.

    Yields:
        One value for each setting or hook.

    Raises:
        ConfigError: the file raises, or holds a name that nearly is a setting's.
        OSError: the file cannot be read.
    """
    source = path.read_bytes()
    namespace = _run(source, path, shown, module)
    lines = _lines(ast.parse(source))

    def origin(name: str) -> Origin:
        return Origin(Source.FILE, f"{shown}:{lines[name]}" if name in lines else shown)

    for name, value in namespace.items():
        if _is_setting(table, name, value, namespace):
            yield Given(name, value, origin(name))
        elif not name.startswith("_"):
            _refuse_slip(table, name, value, namespace, origin(name))


def _run(source: bytes, path: Path, shown: str, module: str) -> dict[str, Any]:
    namespace = {"__name__": module, "__package__": module.rpartition(".")[0], "__file__": str(path)}
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), namespace)  # noqa: S102  (that is what the file is for)
    # Plugin load: whatever the operator's code raises is an error of the configuration. An
    # exit is one too, since it would end a server that is only reloading.
    except (Exception, SystemExit) as error:
        place = f"{shown}:{_line(error, str(path))}".removesuffix(":0")
        raise ConfigError(
            f"{place}: the configuration file raises {type(error).__name__}: {error}"
        ) from error
    return namespace


def _line(error: BaseException, path: str) -> int:
    """Return the innermost line of the file that led to an error, 0 if there is none."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 0
    line, step = 0, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == path:
            line = step.tb_lineno
        step = step.tb_next
    return line


def _is_setting(table: Table, name: str, value: object, namespace: dict[str, Any]) -> bool:
    if isinstance(value, ModuleType):
        return False
    if name in HOOKS:
        return True
    if name in ABSENT:
        return ABSENT[name].is_hook or not isinstance(value, FunctionType)
    if name not in table or not table[name].in_files:
        return False
    # `from importlib import reload` is not the setting of that name
    foreign = isinstance(value, FunctionType) and value.__globals__ is not namespace
    return not foreign or table[name].kind.is_function


def _refuse_slip(table: Table, name: str, value: object, namespace: dict[str, Any], origin: Origin) -> None:
    """Raise if a name is nearly a setting's that the file does not give as well."""
    if isinstance(value, (ModuleType, type)) or name != name.lower() or name in table or name in ABSENT:
        return
    known: Iterable[str] = table
    if isinstance(value, FunctionType):
        # A function from elsewhere is a helper; one written here may be meant for a hook.
        functions = [option.name for option in table.values() if option.kind.is_function]
        known = [*HOOKS, *functions] if value.__globals__ is namespace else ()
    found = nearest(name, known, _CLOSENESS)
    if found and found not in namespace:
        raise ConfigError(
            f"{origin}: there is no setting {name}",
            hint=f"did you mean {found}? A helper's name may start with an underscore.",
        )


def _lines(tree: ast.AST) -> dict[str, int]:
    """Return the line on which each global name gets its value, the last one that does."""
    found: dict[str, int] = {}
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node.lineno
        elif isinstance(node, ast.alias):
            found[node.asname or node.name] = node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = node.lineno
        elif not isinstance(node, ast.Lambda):
            found.update(_lines(node))
    return found
