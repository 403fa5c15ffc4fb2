# SPDX-License-Identifier: MIT
"""What the loop stands on, for each kind of poll set.

Where there is no kqueue, `Kqueue` runs over a model of one (builders/kqueue_model.py): that shows what it
asks for, not what a real one answers.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from typing import Any, Final

import kqueue_model
import pytest
from deadlines import eventually

from prefork.net.poller import READ, WRITE, Epoll, Kqueue, Poller

HAS_KQUEUE: Final = hasattr(select, "kqueue")
SETS: Final[dict[str, Callable[[], Any]]] = {
    "kqueue" if HAS_KQUEUE else "kqueue-model": lambda: Kqueue(select if HAS_KQUEUE else kqueue_model),
}
if sys.platform == "linux":
    SETS["epoll"] = Epoll


@pytest.fixture(params=sorted(SETS))
def poller(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = SETS[request.param]()
    yield made
    made.close()


@pytest.fixture
def pairs() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Makes connected pairs, whose ends are closed at the end."""
    with ExitStack() as stack:

        def pair() -> tuple[socket.socket, socket.socket]:
            left, right = socket.socketpair()
            left.setblocking(False)
            stack.enter_context(left)
            stack.enter_context(right)
            return left, right

        yield pair


Pairs = Callable[[], tuple[socket.socket, socket.socket]]


def fds(events: list[tuple[int, int]]) -> list[int]:
    return [fd for fd, _ in events]


def fill(sock: socket.socket) -> None:
    """Send until the kernel takes no more."""
    try:
        while True:
            sock.send(b"x" * 65536)
    except BlockingIOError:
        return


def test_the_platforms_own_kind_is_the_one_that_is_used() -> None:
    assert Poller is (Epoll if sys.platform == "linux" else Kqueue)


def test_it_says_who_can_be_read_and_who_can_be_written(poller: Any, pairs: Pairs) -> None:
    left, right = pairs()
    poller.watch(left.fileno(), READ)
    assert poller.wait(0.0) == []
    right.send(b"x")
    [(fd, events)] = poller.wait(5.0)
    assert fd == left.fileno()
    assert events & READ
    poller.change(left.fileno(), WRITE)
    assert poller.wait(5.0) == [(left.fileno(), WRITE)]
    poller.change(left.fileno(), READ)
    assert fds(poller.wait(5.0)) == [left.fileno()]


def test_what_is_not_taken_is_reported_again(poller: Any, pairs: Pairs) -> None:
    left, right = pairs()
    poller.watch(left.fileno(), READ)
    right.send(b"xy")
    for _ in range(3):
        assert fds(poller.wait(5.0)) == [left.fileno()]
        left.recv(1)
        right.send(b"z")
    left.recv(100)
    assert poller.wait(0.0) == []


def test_who_takes_nothing_cannot_be_written_until_it_does(poller: Any, pairs: Pairs) -> None:
    left, right = pairs()
    fill(left)
    poller.watch(left.fileno(), WRITE)
    assert poller.wait(0.0) == []
    while right.recv(65536, socket.MSG_DONTWAIT) and not (events := poller.wait(0.0)):
        pass
    assert events == [(left.fileno(), WRITE)]


@pytest.mark.parametrize("end", [socket.socket.close, lambda peer: peer.shutdown(socket.SHUT_WR)])
def test_it_is_woken_by_the_peers_end_too(poller: Any, pairs: Pairs, end: Callable[[Any], None]) -> None:
    left, right = pairs()
    poller.watch(left.fileno(), READ)
    end(right)
    assert fds(poller.wait(inf)) == [left.fileno()]


def test_it_is_woken_by_the_end_of_who_takes_nothing(poller: Any, pairs: Pairs) -> None:
    left, right = pairs()
    fill(left)
    poller.watch(left.fileno(), WRITE)
    right.close()
    assert fds(poller.wait(inf)) == [left.fileno()]


@pytest.mark.parametrize("events", [READ, WRITE])
def test_what_is_forgotten_wakes_nobody(poller: Any, pairs: Pairs, events: int) -> None:
    left, right = pairs()
    right.send(b"x")
    poller.watch(left.fileno(), events)
    poller.forget(left.fileno())
    assert poller.wait(0.0) == []
    poller.watch(left.fileno(), events)
    assert fds(poller.wait(5.0)) == [left.fileno()]


def test_what_is_not_watched_cannot_be_forgotten_or_changed(poller: Any, pairs: Pairs) -> None:
    left, _ = pairs()
    with pytest.raises(FileNotFoundError):
        poller.forget(left.fileno())
    with pytest.raises(FileNotFoundError):
        poller.change(left.fileno(), WRITE)


def test_what_is_closed_is_forgotten_and_its_number_free_for_another(poller: Any, pairs: Pairs) -> None:
    left, right = pairs()
    poller.watch(left.fileno(), READ)
    right.send(b"x")
    number = left.fileno()
    left.close()
    assert poller.wait(0.0) == []
    other, peer = pairs()
    assert other.fileno() == number
    poller.watch(number, READ)
    assert poller.wait(0.0) == []
    peer.send(b"x")
    assert fds(poller.wait(5.0)) == [number]


def test_what_was_ready_first_comes_first(poller: Any, pairs: Pairs) -> None:
    made = [pairs() for _ in range(5)]
    for left, _ in made:
        poller.watch(left.fileno(), READ)
    order = [made[index] for index in (3, 0, 4, 1, 2)]
    for _, right in order:
        right.send(b"x")
    assert fds(poller.wait(5.0)) == [left.fileno() for left, _ in order]


def test_a_listener_wakes_while_somebody_waits_for_it_to_accept(poller: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        poller.share(listener.fileno())
        assert poller.wait(0.0) == []
        with socket.create_connection(listener.getsockname()):
            assert fds(poller.wait(5.0)) == [listener.fileno()]
            poller.forget(listener.fileno())
            assert poller.wait(0.0) == []
            poller.share(listener.fileno())
            assert fds(poller.wait(5.0)) == [listener.fileno()]
            listener.accept()[0].close()
            assert poller.wait(0.0) == []


@pytest.mark.parametrize("make", SETS.values(), ids=SETS)
def test_each_process_has_a_set_of_its_own_for_a_listener_of_all(make: Callable[[], Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        pid = os.fork()
        mine = make()
        mine.share(listener.fileno())
        if pid == 0:
            os._exit(0 if fds(mine.wait(20.0)) == [listener.fileno()] else 1)
        with socket.create_connection(listener.getsockname()):
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            # Linux tells only one of them, and this one did not wait.
            mine.forget(listener.fileno())
            mine.share(listener.fileno())
            assert fds(mine.wait(5.0)) == [listener.fileno()]
        mine.close()


@pytest.mark.parametrize("make", SETS.values(), ids=SETS)
def test_who_waits_notices_what_a_thread_watches_meanwhile(make: Callable[[], Any], pairs: Pairs) -> None:
    left, right = pairs()
    right.send(b"x")
    made, found = make(), []
    thread = threading.Thread(target=lambda: found.extend(made.wait(20.0)))
    thread.start()
    made.watch(left.fileno(), READ)
    thread.join()
    assert fds(found) == [left.fileno()]
    made.close()


def test_a_deadline_has_passed_when_the_wait_for_it_is_over(poller: Any) -> None:
    """Otherwise the loop would turn without having anything to do."""
    for _ in range(5):
        deadline = time.monotonic() + 0.0023
        poller.wait(deadline - time.monotonic())
        assert time.monotonic() >= deadline
    assert poller.wait(-1.0) == []


def test_a_wait_that_a_signal_interrupts_goes_on(poller: Any, pairs: Pairs) -> None:
    left, right = pairs()
    poller.watch(left.fileno(), READ)
    main, handled = threading.get_ident(), []
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))

    def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGUSR1)
        eventually(lambda: handled)
        right.send(b"x")

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert fds(poller.wait(20.0)) == [left.fileno()]
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
