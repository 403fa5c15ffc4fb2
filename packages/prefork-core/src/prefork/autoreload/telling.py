# SPDX-License-Identifier: MIT
"""A worker's part in watching files: it says which files its application is made of.

It decides which modules are the application's. Those in site-packages are not: they change when something is
installed, which is no edit, they are many, and while an installation runs they cannot be imported. Those of
Python and of prefork itself are not either, since a reload does not load them anew.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prefork.autoreload.imported import Imported

INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
"""Folders of what is installed: pip's, and Debian's."""

_PREFORK: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Telling:
    """A WSGI application, and a look after each call at whether it has imported more.

    Args:
        application: the application.
        imported: where to say so.
    """

    __slots__ = ("_application", "_count", "_imported")

    def __init__(self, application: Callable[..., Any], imported: Imported) -> None:
        self._application = application
        self._imported = imported
        self._count = len(sys.modules)

    def __call__(self, *arguments: Any) -> Any:
        """Call the application."""
        try:
            return self._application(*arguments)
        finally:
            # Before the response is sent: who has it may edit what made it.
            if len(sys.modules) != self._count:
                self._count = len(sys.modules)
                self._imported.add(files_of_modules(list(sys.modules.values())))


def load(loader: Callable[[], Callable[..., Any]], imported: Imported) -> Callable[..., Any]:
    """Load an application, and say which files it is made of; also when it cannot be loaded.

    Args:
        loader: loads it.
        imported: where to say so.

    Returns:
        The application, which goes on saying so.
    """
    # Python tells compiled code by the size and second of its source, and two saves can have both in common.
    sys.dont_write_bytecode = True
    try:
        application = loader()
    except BaseException as error:
        imported.add(files_of_error(error))
        raise
    finally:
        imported.add(files_of_modules(list(sys.modules.values())))
    return Telling(application, imported)


def files_of_modules(modules: Iterable[object]) -> Iterator[str]:
    """Yield the application's files among those of some modules.

    Args:
        modules: values of `sys.modules`, which may be anything.
    """
    for module in modules:
        if isinstance(module, ModuleType):
            # Past a lazy module's own way, which would import it.
            file = object.__getattribute__(module, "__dict__").get("__file__")
            if isinstance(file, str) and is_application(file):
                yield os.path.abspath(file)


def files_of_error(error: BaseException) -> Iterator[str]:
    """Yield the application's files that an error went through, whose modules were not imported then.

    Args:
        error: its cause counts instead, if it has one.
    """
    error = error.__cause__ or error
    step = error.__traceback__
    while step is not None:
        if is_application(step.tb_frame.f_code.co_filename):
            yield os.path.abspath(step.tb_frame.f_code.co_filename)
        step = step.tb_next
    if isinstance(error, SyntaxError) and error.filename and is_application(error.filename):
        yield os.path.abspath(error.filename)


def is_application(file: str) -> bool:
    """Return whether a module's file can be one that somebody edits.

    Args:
        file: a path, or what a traceback has in its place, such as "<string>".
    """
    if file.startswith("<") or file.endswith(".pyc"):
        return False
    path = os.path.abspath(file)
    if not INSTALLED.isdisjoint(path.split(os.sep)):
        return False
    return not path.startswith(_not_edited())


@cache
def _not_edited() -> tuple[str, ...]:
    import sysconfig

    folders = (_PREFORK, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return tuple(f"{folder}{os.sep}" for folder in folders)
