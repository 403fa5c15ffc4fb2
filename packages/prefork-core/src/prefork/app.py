# SPDX-License-Identifier: MIT
"""Loading the application that a text such as `module:app` names.

It decides what the text means, and tells an application that is not there (AppError) from
one that is there and fails (BootError), since the first is a slip of the operator and the
second has a traceback worth reading. It must not know who loads, nor what is served.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from prefork.errors import AppError, BootError
from prefork.settings.spelling import nearest
from prefork.worker import Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FunctionType, ModuleType, TracebackType

    from prefork.worker import Worker

DEFAULT_NAMES: Final = ("application", "app")
"""What is looked for in a module when no name is given, in this order."""

_FORM: Final = "write module:app, module:package.attribute, or module:create_app('literal', key=1)"
_MOST_NAMES: Final = 8


@dataclass(frozen=True, slots=True)
class Spec:
    """What a text asks for.

    Args:
        text: the text itself.
        module: the dotted name of the module.
        path: the attributes to follow; empty to look for the default names.
        call: the arguments of a factory, None if there is no call.
    """

    text: str
    module: str
    path: tuple[str, ...]
    call: tuple[tuple[Any, ...], dict[str, Any]] | None


def parse(text: str) -> Spec:
    """Read the name of an application.

    Args:
        text: `module`, `module:attribute`, `module:attribute.attribute` or a call of one of
            them with literal arguments.

    Raises:
        AppError: it is none of these.
    """
    module, sign, rest = text.partition(":")
    _refuse_path(text, module, rest)
    if not all(part.isidentifier() for part in module.split(".")):
        raise AppError(f"{text!r} does not name an application: {module!r} is not a module name", hint=_FORM)
    if not sign:
        return Spec(text, module, (), None)
    try:
        expression = ast.parse(rest.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise AppError(f"{text!r} does not name an application: cannot read {rest!r}", hint=_FORM) from None
    if isinstance(expression, ast.Call):
        return Spec(text, module, _path(text, expression.func), _arguments(text, expression))
    return Spec(text, module, _path(text, expression), None)


def load(
    text: str, pythonpath: Sequence[str] = (), refuses: Callable[[object], str | None] | None = None
) -> Any:
    """Load an application.

    Args:
        text: its name, see `parse`.
        pythonpath: more folders to import from, see `search_in`.
        refuses: returns why an object is no application of the kind that is served; None for WSGI.

    Returns:
        The application.

    Raises:
        AppError: there is no such module or attribute, or it is not an application of that kind.
        BootError: the module or the factory raised; the cause is the application's error.
    """
    spec = parse(text)
    search_in(pythonpath)
    module = _import(spec)
    found, name = _follow(spec, module) if spec.path else _default(spec, module)
    if spec.call is not None:
        found, name = _made(spec, found), f"what {text} returned"
    if refuses is None:
        _check_wsgi(spec, found, name)
    elif why := refuses(found):
        raise AppError(f"{name} cannot be served: {why}")
    return found


def judge(worker: type[Worker]) -> Callable[[object], str | None] | None:
    """Return what `load` is to judge applications by, for a worker class.

    Args:
        worker: the class that will serve.
    """
    return None if worker.interface is Interface.WSGI else worker.refuses


def search_in(folders: Sequence[str]) -> None:
    """Put the current folder, and then others, before everything else that Python imports from.

    They stay there for what the application imports later.

    Args:
        folders: those after the current one.
    """
    for folder in reversed([str(Path.cwd()), *(str(Path(folder).absolute()) for folder in folders)]):
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(0, folder)
    importlib.invalidate_caches()


def _refuse_path(text: str, module: str, rest: str) -> None:
    if "/" in module or module.endswith(".py"):
        dotted = module.removeprefix("./").strip("/").removesuffix(".py").replace("/", ".")
        raise AppError(
            f"{text!r} is a path, not a module",
            hint=f"did you mean {dotted}:{rest or DEFAULT_NAMES[1]}?",
        )


def _path(text: str, expression: ast.expr) -> tuple[str, ...]:
    if isinstance(expression, ast.Name):
        return (expression.id,)
    if isinstance(expression, ast.Attribute):
        return (*_path(text, expression.value), expression.attr)
    raise AppError(f"{text!r} does not name an application: only names, dots and one call", hint=_FORM)


def _arguments(text: str, call: ast.Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        positional = tuple(ast.literal_eval(argument) for argument in call.args)
        named = {
            str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg
        }
    except (ValueError, TypeError):
        raise AppError(f"{text!r}: arguments can only be literals", hint=_FORM) from None
    if len(named) != len(call.keywords):
        raise AppError(f"{text!r}: arguments can only be literals", hint=_FORM)
    return positional, named


def _import(spec: Spec) -> ModuleType:
    try:
        return importlib.import_module(spec.module)
    # Plugin load: an application may raise anything, and an exit in it must not end the
    # worker as if it had been asked to stop.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        frames = _frames_of_application(error.__traceback__)
        if isinstance(error, ModuleNotFoundError) and frames is None:
            _refuse_module(spec, error)
        raise BootError(
            f"the module {spec.module} raised {type(error).__name__} when it was imported: {error}"
        ) from error.with_traceback(frames)


def _frames_of_application(step: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame on that is neither ours nor the import system's."""
    while step is not None and _is_machinery(step.tb_frame.f_code.co_filename):
        step = step.tb_next
    return step


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or filename in (__file__, importlib.__file__)


def _refuse_module(spec: Spec, error: ModuleNotFoundError) -> NoReturn:
    # Not by methods of Path: they raise where this process may not look.
    places = [entry for entry in sys.path if os.path.isdir(entry)]
    missing = error.name or spec.module
    beside = {Path(entry).stem for entry in glob("*.py")} | {
        Path(entry).parent.name for entry in glob("*/__init__.py")
    }
    meant = nearest(missing, beside)
    raise AppError(
        f"there is no module {missing!r} (looking for {spec.text}); looked in {', '.join(places)}",
        hint=f"did you mean {meant}?" if meant else "--chdir or --pythonpath name other folders",
    ) from None


def _follow(spec: Spec, module: ModuleType) -> tuple[object, str]:
    found: Any = module
    name = spec.module
    for step, attribute in enumerate(spec.path):
        if not hasattr(found, attribute):
            what = f"module {name!r}" if step == 0 else name
            raise AppError(
                _has_none(what, repr(attribute), module, found), hint=_suggestion(spec, attribute, found)
            )
        found = getattr(found, attribute)
        name += f"{'.' if step else ':'}{attribute}"
    return found, name


def _default(spec: Spec, module: ModuleType) -> tuple[object, str]:
    for name in DEFAULT_NAMES:
        if hasattr(module, name):
            return getattr(module, name), f"{spec.module}:{name}"
    wanted = " or ".join(map(repr, DEFAULT_NAMES))
    raise AppError(
        _has_none(f"module {spec.module!r}", wanted, module, module),
        hint=_suggestion(spec, DEFAULT_NAMES[0], module),
    )


def _has_none(what: str, wanted: str, module: ModuleType, owner: object) -> str:
    offered = ", ".join(_names(owner)[:_MOST_NAMES]) or "nothing that can be called"
    return f"{what} has no {wanted}; it has: {offered} ({getattr(module, '__file__', 'no file')})"


def _names(owner: object) -> list[str]:
    """Return what could be an application: callables, those defined in the owner first."""
    known = {
        name: value
        for name, value in getattr(owner, "__dict__", {}).items()
        if callable(value) and name[0] != "_"
    }
    own = getattr(owner, "__name__", None)
    return sorted(known, key=lambda name: (getattr(known[name], "__module__", None) != own, name))


def _suggestion(spec: Spec, wanted: str, owner: object) -> str:
    names = _names(owner)
    factories = [name for name in names if name in ("create_app", "make_app", "create_application")]
    found = nearest(wanted, names) or next(iter(factories), None)
    if found is None:
        return ""
    before = ".".join(spec.path[:-1])
    call = "()" if _is_factory(getattr(owner, found)) else ""
    return f"did you mean {spec.module}:{before}{'.' if before else ''}{found}{call}?"


def _made(spec: Spec, factory: object) -> object:
    """Call a factory."""
    if not callable(factory):
        raise AppError(f"{spec.text}: cannot be called, it is {_a(factory)}")
    positional, named = spec.call or ((), {})
    try:
        return factory(*positional, **named)
    except (Exception, SystemExit) as error:  # noqa: BLE001  (plugin load, as in _import)
        frames = _frames_of_application(error.__traceback__)
        if isinstance(error, TypeError) and frames is None:
            raise AppError(f"{spec.text}: {error}") from None
        raise BootError(f"{spec.text} raised {type(error).__name__}: {error}") from error.with_traceback(
            frames
        )


def _check_wsgi(spec: Spec, found: object, name: str) -> None:
    if not callable(found):
        raise AppError(f"{name} is {_a(found)}, not a callable", hint=_callable_inside(name, found))
    if _is_asynchronous(found):
        raise AppError(
            f"{name} is an asynchronous (ASGI) application, but WSGI ones are served",
            hint="-k aio serves such ones (pip install prefork-aio)",
        )
    if _is_factory(found):
        hint = "" if spec.call is not None else f"did you mean {name}()?"
        raise AppError(f"{name} does not take the two arguments of a WSGI application", hint=hint)


def _callable_inside(name: str, found: object) -> str:
    inside = [
        attribute for attribute in ("wsgi_app", "wsgi", "app") if callable(getattr(found, attribute, None))
    ]
    return f"did you mean {name}.{inside[0]}?" if inside else ""


def _is_asynchronous(found: object) -> bool:
    call = found if inspect.isroutine(found) else getattr(type(found), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(call)


def _is_factory(found: object) -> bool:
    """Return whether a function can be called without arguments but not with WSGI's two (PEP 3333)."""
    return inspect.isfunction(found) and _takes(found, 0) and not _takes(found, 2)


def _takes(function: FunctionType, count: int) -> bool:
    try:
        inspect.signature(function).bind(*(None,) * count)
    except TypeError:
        return False
    return True


def _a(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
