# SPDX-License-Identifier: MIT
"""What a program consists of, made immortal before a fork.

Python counts references where the objects are. So a worker that only uses a function writes to its page, and
the kernel copies that. From 3.12 on an object can be immortal (PEP 683): its count has a value that nobody
changes, as that of None. Here modules, classes, functions, code, constants and names get it.

It decides which objects: those whose end would do nothing but free memory, and to free what is shared frees
none. Objects of an application's classes are not among them, nor lists, nor dictionaries that are no
namespace: they may hold what has to end, as a socket has.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import re
import sys
import types
from enum import Enum, auto
from importlib import machinery
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_VERSIONS: Final = ((3, 12), (3, 13))
"""Those it was tested with. Before them nothing is immortal; after them the count has flags beside it."""


class _Kind(Enum):
    """What becomes of the objects of a class."""

    MORTAL = auto()
    """They may end."""
    PART = auto()
    """They never need to end."""
    BUNDLE = auto()
    """They are as what they hold."""
    BOUND = auto()
    """They are as the object that they are bound to."""
    OWNER = auto()
    """They never need to end, nor do their namespaces."""


_NAMED: Final = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)
_KINDS: Final[tuple[tuple[_Kind, tuple[type, ...]], ...]] = (
    (_Kind.OWNER, (type, types.ModuleType)),
    (_Kind.BOUND, (types.BuiltinFunctionType,)),
    (_Kind.BUNDLE, (tuple, frozenset)),
    (_Kind.PART, (str, bytes, int, float, complex, re.Pattern)),
    (_Kind.PART, (types.CodeType, types.FunctionType, types.CellType, type(functools.cache(len)))),
    (_Kind.PART, (property, staticmethod, classmethod, *_NAMED)),
    # A module has them, and each import that finds it loaded asks them.
    (_Kind.PART, (machinery.ModuleSpec, machinery.SourceFileLoader, machinery.ExtensionFileLoader)),
)
_AT_ONCE: Final = 2_000
"""Objects that are looked at together: what they refer to takes memory meanwhile."""
_HEAP_TYPE: Final = 1 << 9
"""The flag of classes whose names are objects (Py_TPFLAGS_HEAPTYPE)."""


def make_immortal() -> int:
    """Make immortal what this process has of a program, where Python can.

    Returns:
        How many objects have become immortal.
    """
    if not is_possible():
        return 0
    kinds = _Kinds()
    count = 0
    # Those that the collector tracks come once. The rest are found at these.
    waiting = gc.get_objects()
    while waiting:
        batch = waiting[-_AT_ONCE:]
        del waiting[-_AT_ONCE:]
        count += sum(kinds.keep(found) for found in batch)
        # By address, because most are referred to by many.
        shown = gc.get_referents(*(found for found in batch if not _is_module(found)))
        parts = {id(part): part for part in chain(shown, *map(_names, batch))}
        waiting += [part for part in parts.values() if not (_is_immortal(part) or gc.is_tracked(part))]
    return count


def is_possible() -> bool:
    """Return whether this is a Python that has immortal objects, in the way known here."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in _VERSIONS
        and "t" not in sys.abiflags  # without the global lock there are two counts
        and not hasattr(sys, "gettotalrefcount")  # one that checks its counts
    )


class _Kinds(dict[type, _Kind]):
    """The kind of each class."""

    def __missing__(self, key: type) -> _Kind:
        # Not isinstance(), which would ask the object, and one that is lazy would wake up.
        kind = next((kind for kind, bases in _KINDS if issubclass(key, bases)), _Kind.MORTAL)
        self[key] = kind
        return kind

    def keep(self, found: Any) -> int:
        """Make an object immortal if it never needs to end, and its namespaces; return how many that were."""
        count = int(self._is_lasting(found) and _keep(found))
        if self[type(found)] is _Kind.OWNER:
            count += sum(map(_keep, _namespace(found)))
        return count

    def _is_lasting(self, found: Any) -> bool:
        kind = self[type(found)]
        if kind is _Kind.BUNDLE:
            return all(map(self._is_lasting, gc.get_referents(found)))
        if kind is _Kind.BOUND:
            return self[type(found.__self__)] is _Kind.OWNER or found.__self__ is None
        return kind is not _Kind.MORTAL or _is_immortal(found)


def _namespace(owner: Any) -> Iterator[Any]:
    """Yield the dictionaries that a module or class consists of, and a class's descriptors."""
    for found in _names(owner) if _is_module(owner) else gc.get_referents(owner):
        if type(found) is dict:
            yield found
            if issubclass(type(owner), type):
                yield from filter(_is_descriptor, found.values())


def _is_module(found: object) -> bool:
    """Return whether an object is a module: those must not be asked what they refer to.

    One in C may show the collector objects that have ended. `_asyncio` does so with those that it keeps for
    its next iterators: whoever holds one has it end a second time, and then it is given out twice.
    """
    return issubclass(type(found), types.ModuleType)


def _is_descriptor(found: object) -> bool:
    return any("__get__" in _NAMESPACE(base) for base in _BASES(type(found)))


def _is_immortal(found: object) -> bool:
    return sys.getrefcount(found) == _IMMORTAL


def _keep(found: object) -> bool:
    """Make an object immortal; return whether it was not."""
    if _is_immortal(found):
        return False
    ctypes.c_ssize_t.from_address(id(found)).value = _IMMORTAL
    return True


def _names(found: Any) -> Iterable[Any]:
    """Return what an object refers to and does not show the collector: names, and all that code has."""
    kind = type(found)
    if kind is dict:
        return list(found)
    if issubclass(kind, types.ModuleType):
        return (_MODULE_NAMESPACE(found),)
    if kind is types.CodeType:
        lasting = (found.co_consts, found.co_names, found.co_filename, found.co_name, found.co_qualname)
        return (*lasting, found.co_linetable, found.co_exceptiontable, *found.co_varnames, *found.co_freevars)
    if kind in _NAMED:
        return (found.__name__,)
    if issubclass(kind, type) and _FLAGS(found) & _HEAP_TYPE:
        return (_NAME(found), _FULL_NAME(found))
    return ()


# A metaclass may have its own way to answer these.
_BASES, _FLAGS, _FULL_NAME, _NAME, _NAMESPACE = (
    vars(type)[name].__get__ for name in ("__mro__", "__flags__", "__qualname__", "__name__", "__dict__")
)
_MODULE_NAMESPACE: Final = vars(types.ModuleType)["__dict__"].__get__
_IMMORTAL: Final = sys.getrefcount(None)
"""Where it is no count, this is the value that makes an object immortal."""
