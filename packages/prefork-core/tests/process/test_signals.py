# SPDX-License-Identifier: MIT
"""Each test runs in a forked process, because signal handlers are the whole process's."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

import pytest
from in_a_child import passes_in_a_child

from prefork.process.signals import COMMANDS, Command, Inbox, held, ignore, take_unheard

if TYPE_CHECKING:
    pass


def readable(inbox: Inbox, seconds: float = 5.0) -> bool:
    return bool(select.select([inbox], [], [], seconds)[0])


@pytest.mark.parametrize(("number", "command"), COMMANDS.items())
def test_each_signal_becomes_its_command_and_kills_nobody(number: signal.Signals, command: Command) -> None:
    def check() -> None:
        inbox = Inbox()
        os.kill(os.getpid(), number)
        assert readable(inbox)
        assert inbox.read() == [command]

    assert passes_in_a_child(check)


def test_signals_are_read_in_the_order_of_their_arrival() -> None:
    def check() -> None:
        inbox = Inbox()
        for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGTERM, signal.SIGTTIN):
            os.kill(os.getpid(), number)
        assert inbox.read() == [Command.MORE, Command.FEWER, Command.STOP, Command.MORE]

    assert passes_in_a_child(check)


def test_without_a_signal_there_is_nothing_to_read() -> None:
    def check() -> None:
        inbox = Inbox()
        assert not readable(inbox, 0.0)
        assert inbox.read() == []

    assert passes_in_a_child(check)


def test_a_flood_of_signals_does_not_block_or_raise() -> None:
    def check() -> None:
        inbox = Inbox()
        for _ in range(70_000):
            signal.raise_signal(signal.SIGCHLD)
        assert len(inbox.read()) >= 60_000

    assert passes_in_a_child(check)


def test_a_signal_for_a_new_child_does_not_reach_its_parent() -> None:
    def check() -> None:
        inbox = Inbox()
        with held():
            pid = os.fork()
            if pid == 0:
                os.kill(os.getpid(), signal.SIGTERM)
                inbox.leave_to_child()
        if pid == 0:
            os._exit(0)  # never reached: SIGTERM ends it when it is let through
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
        assert Command.STOP not in inbox.read()

    assert passes_in_a_child(check)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP, signal.SIGTTIN, signal.SIGWINCH])
def test_a_new_child_survives_signals_that_are_meant_for_its_handlers(number: signal.Signals) -> None:
    def check() -> None:
        inbox = Inbox()
        with held():
            inbox.leave_to_child()
            os.kill(os.getpid(), number)

    assert passes_in_a_child(check)


def test_a_new_child_knows_that_it_was_told_of_its_logs_before_it_could_listen() -> None:
    def check() -> None:
        inbox = Inbox()
        with held():
            os.kill(os.getpid(), signal.SIGUSR1)
            inbox.leave_to_child()
        assert take_unheard()
        assert not take_unheard(), "once is enough"

    assert passes_in_a_child(check)


def test_a_child_that_will_be_another_program_ignores_what_could_end_that() -> None:
    """Handlers do not survive it, and the default of SIGUSR1 is death."""

    def check() -> None:
        Inbox().leave_to_child(executes=True)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN

    assert passes_in_a_child(check)


def test_a_signal_held_back_arrives_afterwards() -> None:
    def check() -> None:
        inbox = Inbox()
        with held():
            os.kill(os.getpid(), signal.SIGHUP)
            assert inbox.read() == []
        assert inbox.read() == [Command.RELOAD]

    assert passes_in_a_child(check)


def test_a_closed_inbox_ignores_signals() -> None:
    def check() -> None:
        inbox = Inbox()
        inbox.close()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    assert passes_in_a_child(check)


def test_an_ending_process_is_killed_by_nothing_that_is_meant_for_a_living_one() -> None:
    """Python gives all handlers back at its end, but leaves what is ignored."""

    def check() -> None:
        Inbox().leave_to_child()
        signal.signal(signal.SIGUSR1, lambda *_: None)
        ignore()
        for number in COMMANDS:
            os.kill(os.getpid(), number)
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL, "or nobody could wait for a child"

    assert passes_in_a_child(check)
