# SPDX-License-Identifier: MIT
from __future__ import annotations

import faulthandler
import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from deadlines import eventually
from serving import Forked

from prefork.process import stacks
from prefork.process.stacks import INSIST, MOST, QUIET, SIGNAL, StackEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def showing(life: Callable[[], object], *, main_calls: bool = False) -> Iterator[tuple[Forked, StackEnd]]:
    """Give a process that shows its stacks."""
    ours, theirs = stacks.make()
    ready, is_ready = os.pipe()

    def run() -> int:
        ours.close()
        faulthandler.disable()  # pytest's
        signal.signal(signal.SIGABRT, lambda *_: os._exit(7))
        stacks.show_on_signals(theirs, main_calls=main_calls, more=lambda: "and wh\xe4t waits\n")
        os.write(is_ready, b"!")
        life()
        return 0

    with Forked(run) as process:
        os.close(theirs)
        os.read(ready, 1)
        yield process, ours
    for descriptor in (ready, is_ready):
        os.close(descriptor)
    ours.close()


def wait_for_ever() -> None:
    threading.Event().wait()


def hold_the_lock() -> None:
    """Be in C code that does not give the interpreter's lock back."""
    re.fullmatch("(a*)*b", "a" * 100)


def sleep_beside() -> None:
    threading.Thread(target=wait_for_ever, daemon=True).start()
    hold_the_lock()


def ask(process: Forked, end: StackEnd, number: signal.Signals, words: str) -> str:
    """Ask until the stacks have some words in them; return them."""

    def asked() -> str:
        assert process.running
        process.signal(number)
        until = time.monotonic() + 1.0  # then it is asked again
        while not end.is_complete(now := time.monotonic()) and now < until:
            end.receive(now)
        text = end.take()
        return text if words in text else ""

    return eventually(asked)


def shown(end: StackEnd) -> str:
    """Return what a process has shown that is dead."""
    end.receive(1.0)
    return end.take()


def test_a_process_that_is_asked_shows_its_stacks_and_lives_on() -> None:
    with showing(wait_for_ever) as (process, end):
        for _ in range(2):
            assert "most recent call first" in ask(process, end, SIGNAL, "in wait_for_ever")
        assert process.running


@pytest.mark.parametrize("main_calls", [True, False])
def test_stacks_are_shown_while_c_code_holds_the_interpreters_lock(*, main_calls: bool) -> None:
    with showing(hold_the_lock, main_calls=main_calls) as (process, end):
        ask(process, end, INSIST, "in hold_the_lock")


def start_threads_for_ever() -> None:
    """Have threads begin and end, which changes what is read while stacks are shown."""

    def run() -> None:
        while True:
            thread = threading.Thread(target=sorted, args=([3, 1, 2],))
            thread.start()
            thread.join()

    for _ in range(4):
        threading.Thread(target=run, daemon=True).start()
    wait_for_ever()


def test_a_process_with_busy_threads_survives_being_asked() -> None:
    """In C, without the lock of the interpreter, it would not: some dozens of times are enough."""
    with showing(start_threads_for_ever) as (process, end):
        ask(process, end, SIGNAL, "in wait_for_ever")
        heard = 0
        while heard < 500_000:
            process.signal(SIGNAL)
            end.receive(1.0)
            heard += len(end.take())
            assert process.running


def test_all_threads_are_shown() -> None:
    with showing(sleep_beside) as (process, end):
        assert "in wait_for_ever" in ask(process, end, INSIST, "in hold_the_lock")


def test_other_threads_are_not_touched_while_the_main_thread_does_not_answer() -> None:
    """They run on, for all that is known."""
    with showing(sleep_beside, main_calls=True) as (process, end):
        assert "in wait_for_ever" not in ask(process, end, INSIST, "in hold_the_lock")


def test_an_abort_shows_the_stacks_before_the_handler_in_python() -> None:
    with showing(wait_for_ever) as (process, end):
        process.signal(signal.SIGABRT)
        assert process.status() == 7
        assert "in run" in shown(end)


def test_a_crash_shows_the_stacks() -> None:
    with showing(lambda: os.kill(os.getpid(), signal.SIGSEGV)) as (process, end):
        assert process.status() == -signal.SIGSEGV
        text = shown(end)
        assert text.startswith("Fatal Python error: Segmentation fault")


def test_the_end_of_the_process_ends_what_can_come() -> None:
    with showing(lambda: None) as (process, end):
        process.status()
        assert not end.receive(1.0)


def test_nobody_who_shows_stacks_waits_for_a_reader() -> None:
    with showing(wait_for_ever) as (process, _):
        for _ in range(300):
            process.signal(SIGNAL)
            os.sched_yield()
        process.signal(signal.SIGABRT)
        assert process.status() == 7


def test_more_is_shown_behind_the_threads() -> None:
    with showing(wait_for_ever) as (process, end):
        shown = ask(process, end, SIGNAL, "waits")
        assert shown.index("most recent call first") < shown.index("and wh\\xe4t waits")


def test_stacks_are_complete_when_nothing_has_come_for_a_moment() -> None:
    end, write = stacks.make()
    os.write(write, b"File")
    assert end.receive(100.0)
    assert not end.is_complete(100.0 + QUIET / 2)
    os.write(write, b" x")
    end.receive(100.0 + QUIET / 2)
    assert not end.is_complete(100.0 + QUIET)
    assert end.is_complete(100.0 + 2 * QUIET)
    assert end.take() == "File x"
    assert not end.is_complete(200.0)
    end.close()
    os.close(write)


def test_no_more_is_kept_than_a_log_can_bear() -> None:
    end, write = stacks.make()
    for _ in range(2 * MOST // 32768):
        os.write(write, b"x" * 32768)
        end.receive(1.0)
    assert end.take() == "x" * MOST
    end.close()
    os.close(write)
