# SPDX-License-Identifier: MIT
"""Where Python has no immortal objects nothing may become one, so each test says what is so there, too."""

from __future__ import annotations

import _asyncio
import asyncio
import gc
import os
import subprocess
import sys
import threading
import types
import weakref
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

import pytest

from prefork.process import immortal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CAN: Final = immortal.is_possible()
SOURCE: Final = '''
"""A module of an application."""
import socket, threading, weakref
HOST = "a name that no other module has"
NUMBERS = (10_000_000_001, 2.5, frozenset({b"bytes that no other module has"}))

def outer(given="a default of its own"):
    limit = 10_000_000_002
    def inner():
        return limit, 10_000_000_003
    return inner

inner = outer()

class Shop:
    opened: int
    __slots__ = ("door", "__weakref__")

    @property
    def sign(self):
        return "what is written on the door"

    @classmethod
    def build(cls):
        return cls()

class Kept:
    """An object with what has to end."""
    def __init__(self, what):
        self.what = what

shop = Shop()
listener = socket.socket()
receive = listener.recv
pair = (listener, 1)
row = [Kept(listener)]
table = {"a": Kept(listener)}
'''
MORTAL: Final = ("shop", "listener", "receive", "pair", "row", "table")
"""What of that may hold something that has to end."""
END: Final = """
import atexit, json, sys
from prefork.process import immortal
class Ends:
    def __del__(self):
        print("ended")
kept = Ends()
atexit.register(print, "at exit")
immortal.make_immortal()
json.dumps({"a": [1, 2.5]})
sys.exit(7)
"""


def in_child(check: Callable[[], object]) -> None:
    """Check something in a process that ends then, because the tests' own has to stay as it is."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def is_immortal(found: object) -> bool:
    return sys.getrefcount(found) == sys.getrefcount(None)


def load() -> Any:
    module = types.ModuleType("application")
    exec(compile(SOURCE, "application.py", "exec"), module.__dict__)
    sys.modules["application"] = module
    immortal.make_immortal()
    return module


def parts(site: Any) -> Iterator[tuple[str, object]]:
    """Yield what such a module consists of, with a name for each."""
    yield "module", site
    yield "its namespace", site.__dict__
    yield "what is written in it", site.HOST
    yield "numbers", site.NUMBERS[0]
    yield "a tuple of them", site.NUMBERS
    yield "a set of bytes", site.NUMBERS[2]
    yield "its bytes", next(iter(site.NUMBERS[2]))
    yield "a function", site.outer
    yield "its code", site.outer.__code__
    yield "its constants", site.outer.__code__.co_consts
    yield "code in code", site.inner.__code__
    yield "a constant in code in code", site.inner.__code__.co_consts[-1]
    yield "default arguments", site.outer.__defaults__[0]
    yield "what a function closes over", site.inner.__closure__[0]
    yield "a name", next(name for name in vars(site) if name == "outer")
    yield "a class", site.Shop
    yield "its namespace", next(found for found in gc.get_referents(site.Shop) if type(found) is dict)
    yield "the classes it is made of", site.Shop.__mro__
    yield "a property", vars(site.Shop)["sign"]
    yield "a class method", vars(site.Shop)["build"]
    yield "a slot", vars(site.Shop)["door"]
    yield "how the module was found", threading.__spec__
    yield "and loaded", threading.__loader__


def test_what_asyncio_keeps_for_its_next_iterators_stays_as_it_is() -> None:
    """It shows them to the collector; who holds one gives it back twice, and the list of them has no end."""

    async def use() -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(8)]
        for future in futures:
            loop.call_soon(future.set_result, None)
        await asyncio.gather(*(wait_for(future) for future in futures))

    async def wait_for(future: asyncio.Future[None]) -> None:
        await future

    def check() -> None:
        asyncio.run(use())
        for _ in range(3):
            immortal.make_immortal()
        kept: asyncio.Future[None] = _asyncio.Future(loop=asyncio.new_event_loop())
        iterators = [iter(kept) for _ in range(16)]
        assert len({id(each) for each in iterators}) == len(iterators)

    in_child(check)


def test_what_a_program_consists_of_becomes_immortal() -> None:
    def check() -> None:
        for name, part in parts(load()):
            assert is_immortal(part) is CAN, name

    in_child(check)


def test_what_may_hold_something_that_has_to_end_ends_when_a_module_lets_it_go() -> None:
    """A worker that replaces what the template has opened closes it by that."""

    def check() -> None:
        site = load()
        assert not any(is_immortal(getattr(site, name)) for name in MORTAL)
        ends = [weakref.ref(site.shop), weakref.ref(site.row[0]), weakref.ref(site.table["a"])]
        number = site.listener.fileno()
        for name in MORTAL:
            delattr(site, name)
        assert [end() for end in ends] == [None] * 3
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)

    in_child(check)


def test_descriptors_of_classes_of_its_own_are_parts_of_a_class() -> None:
    class Site:
        @cached_property
        def figure(self) -> int:
            return 1

        @staticmethod
        @cache
        def other() -> int:
            return 2

    def check() -> None:
        immortal.make_immortal()
        assert is_immortal(vars(Site)["figure"]) is CAN
        assert is_immortal(Site.other) is CAN
        assert (Site().figure, Site.other()) == (1, 2)

    in_child(check)


def test_nothing_is_asked_what_it_is() -> None:
    """An object that stands for another one makes that when somebody asks for its class."""

    class Lazy:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise AssertionError("it was asked")

    class Strange(type):
        def __getattribute__(cls, name: str) -> Any:
            raise AssertionError(name)

    lazy = [Lazy(), (Lazy(),), Strange("Site", (), {"lazy": Lazy()})]
    in_child(lambda: immortal.make_immortal() and lazy)


def test_it_has_an_end_and_leaves_little_for_a_second_time() -> None:
    def check() -> None:
        first = immortal.make_immortal()
        gc.collect()
        second = immortal.make_immortal()
        assert (first > 10_000 and second < 100) if CAN else first == second == 0

    in_child(check)


def test_names_and_constants_can_be_used_as_before() -> None:
    def check() -> None:
        site = load()
        for _ in range(1_000):
            assert site.inner() == (10_000_000_002, 10_000_000_003)
            assert site.Shop.build().sign == "what is written on the door"
        held = [site.Shop] * 10_000 + [site.outer] * 10_000
        held.clear()
        assert is_immortal(site.Shop) is CAN
        site.HOST = "another"
        site.Shop.build = None
        del site.outer
        gc.collect()

    in_child(check)


def test_an_interpreter_ends_in_order_afterwards() -> None:
    """What ends with it does, and what is to be done at its end is done."""
    result = subprocess.run([sys.executable, "-c", END], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "at exit\nended\n", "")


def test_nothing_is_imported_for_it() -> None:
    """By then a template may have given up the privilege to read the files of Python."""
    source = "import sys; from prefork.process import immortal as i; sys.meta_path.clear(); i.make_immortal()"
    subprocess.run([sys.executable, "-c", source], check=True)


@pytest.mark.parametrize(
    ("version", "name"),
    [((3, 11, 9), "cpython"), ((3, 14, 0), "cpython"), ((3, 12, 1), "pypy")],
)
def test_other_pythons_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], name: str
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "implementation", types.SimpleNamespace(name=name))
    assert immortal.make_immortal() == 0


def test_so_is_one_without_a_global_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "abiflags", "t")
    assert not immortal.is_possible()
