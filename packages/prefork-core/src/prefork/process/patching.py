# SPDX-License-Identifier: MIT
"""What a configuration file must leave as it is: the functions of Python's that the arbiter works with.

Libraries of greenlets replace them (`monkey.patch_all()`). A configuration file is run in the arbiter, which
then would wait for signals, sockets and its children by an event loop that nobody turns. It is decided here
what counts as such a patch. It is undone too: this may happen on a reload, and then the arbiter goes on.
Which library it was is not known.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from prefork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "_thread": ("start_new_thread",),
    "os": ("fork", "waitpid"),
    "select": ("epoll", "kqueue", "poll", "select"),
    "signal": ("signal",),
    "socket": ("socket",),
    "time": ("sleep",),
}
"""What the arbiter and its workers need as it is. Others may be wrapped, as tools that trace do."""

_PATCHED: Final = (
    *_NEEDED,
    "_threading_local",
    "logging",
    "queue",
    "selectors",
    "ssl",
    "subprocess",
    "threading",
)
"""The modules that libraries of greenlets change."""

_MESSAGE: Final = "the configuration file replaces what the server itself needs: {}"
_HINT: Final = (
    "take the patch (monkey.patch_all()) out of it: -k gevent and -k eventlet patch each worker, before the"
    " application is imported"
)


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Run what may be a patch of the standard library, and undo that.

    Raises:
        ConfigError: it was one. What the block itself raises comes first.
    """
    hooks = _ForkHooks()
    originals = _Originals()
    replaced: list[str] = []
    try:
        yield
    finally:
        replaced = originals.replaced()
        if replaced:
            originals.restore()
        hooks.end(keep_all=not replaced)
    if replaced:
        raise ConfigError(_MESSAGE.format(", ".join(replaced)), hint=_HINT)


class _Originals:
    """The standard library as it is now."""

    def __init__(self) -> None:
        self._kept = {name: dict(vars(sys.modules[name])) for name in _PATCHED if name in sys.modules}
        # Of the main thread changes by what it is known.
        found: list[Any] = [
            vars(threading.main_thread()),
            _of_threading("_active"),
            _of_threading("_dangling"),
        ]
        self._collections = [(each, each.copy()) for each in found]

    def replaced(self) -> list[str]:
        """Return what is no longer what it was, as "os.fork"."""
        return [
            f"{module}.{name}"
            for module, names in _NEEDED.items()
            for name in names
            if self._is_replaced(module, name)
        ]

    def _is_replaced(self, module: str, name: str) -> bool:
        kept = self._kept.get(module, {})
        return name in kept and getattr(sys.modules[module], name, None) is not kept[name]

    def restore(self) -> None:
        """Put all back."""
        for module, kept in self._kept.items():
            vars(sys.modules[module]).update(kept)
        for collection, content in self._collections:
            collection.clear()
            collection.update(content)


def _of_threading(name: str) -> Any:
    return getattr(threading, name)


class _ForkHooks:
    """Functions that are to run at forks, held back: there is no way to take one back that Python has."""

    def __init__(self) -> None:
        self._register: Callable[..., None] = os.register_at_fork
        self._held: list[dict[str, Callable[[], object]]] | None = []
        os.register_at_fork = self._hold  # type: ignore[assignment]

    def _hold(self, **hooks: Callable[[], object]) -> None:
        if self._held is None:  # somebody has taken this function for the real one
            self._register(**hooks)
        else:
            self._held.append(hooks)

    def end(self, *, keep_all: bool) -> None:
        """Hold back no more; register what was, or only what is the standard library's."""
        os.register_at_fork = self._register
        held, self._held = self._held or [], None
        for hooks in held:
            if keep_all or all(map(_is_pythons, hooks.values())):
                self._register(**hooks)


def _is_pythons(function: Callable[[], object]) -> bool:
    module = getattr(function, "__module__", None) or ""
    return module.partition(".")[0] in sys.stdlib_module_names
