# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from prefork.errors import ConfigError
from prefork.process import patching


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = [(module, dict(vars(module))) for module in (os, select, time)]
    yield
    for module, names in before:
        vars(module).update(names)


def green(*_: object) -> None:
    """Stand for what a library of greenlets has."""


def refusal(patch: Callable[[], object]) -> ConfigError:
    with pytest.raises(ConfigError) as caught, patching.refused():
        patch()
    return caught.value


def patch_some() -> None:
    time.sleep = time.monotonic = green  # type: ignore[assignment]
    del select.poll
    os.fork = green  # type: ignore[assignment]


def test_who_patches_nothing_is_not_hindered() -> None:
    with patching.refused():
        done = True
    assert done


def test_what_is_replaced_or_taken_away_is_named() -> None:
    assert refusal(patch_some).message.endswith(": os.fork, select.poll, time.sleep")


def test_all_is_put_back_also_what_the_server_does_not_need() -> None:
    before = time.sleep, time.monotonic, select.poll, os.fork
    refusal(patch_some)
    assert before == (time.sleep, time.monotonic, select.poll, os.fork)


def test_the_main_thread_is_known_by_what_it_was() -> None:
    def patch() -> None:
        main = threading.main_thread()
        threading._active[7] = threading._active.pop(main.ident)  # type: ignore[attr-defined]
        main._ident = 7  # type: ignore[attr-defined]
        time.sleep = green

    ident = threading.main_thread().ident
    refusal(patch)
    assert threading.main_thread().ident == ident
    assert threading.current_thread() is threading.main_thread()


def test_a_function_that_the_server_does_not_need_may_be_wrapped() -> None:
    with patching.refused():
        os.getcwd = green  # type: ignore[assignment]
    assert os.getcwd is green  # type: ignore[comparison-overlap]


def test_another_error_comes_first_and_the_patch_is_undone() -> None:
    def patch() -> None:
        time.sleep = green
        raise ZeroDivisionError

    sleep = time.sleep
    with pytest.raises(ZeroDivisionError), patching.refused():
        patch()
    assert time.sleep is sleep


def fork() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def test_functions_for_forks_are_registered_but_not_those_that_came_with_a_patch() -> None:
    ran: list[str] = []
    with patching.refused():
        os.register_at_fork(before=lambda: ran.append("good"))

    def patch() -> None:
        os.register_at_fork(before=lambda: ran.append("bad"))
        time.sleep = green

    refusal(patch)
    fork()
    assert ran == ["good"]


def test_who_has_kept_the_function_that_registers_can_use_it_later() -> None:
    ran: list[str] = []
    with patching.refused():
        register = os.register_at_fork
    register(before=lambda: ran.append("later"))
    fork()
    assert ran == ["later"]
