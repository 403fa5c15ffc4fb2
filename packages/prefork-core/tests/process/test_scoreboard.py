# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork.process.scoreboard import SLOT_SIZE, THREADS, Current, Phase, Scoreboard, Stage
from prefork.supervisor.messages import Reason

if TYPE_CHECKING:
    from prefork.process.scoreboard import Slot


def slot_of_a_new_board(index: int = 0) -> Slot:
    return Scoreboard(4).slot(index)


def test_a_new_slot_is_empty_and_idle() -> None:
    slot = slot_of_a_new_board()
    assert (slot.stage, slot.generation, slot.deadline, slot.requests) == (Stage.EMPTY, 0, 0.0, 0)
    assert slot.thread(0).request() is None


def test_every_field_keeps_its_own_value() -> None:
    slot = slot_of_a_new_board(3)
    slot.clear(7, Stage.BOOTING)
    slot.stage = Stage.READY
    slot.thread(0).deadline, slot.idle, slot.connections, slot.away = 12.5, 5, 6, 7
    for _ in range(3):
        slot.thread(0).count_error()
    assert (slot.generation, slot.stage, slot.deadline) == (7, Stage.READY, 12.5)
    assert (slot.errors, slot.busy, slot.idle, slot.requests) == (3, 0, 5, 0)
    assert (slot.connections, slot.away) == (6, 7)


def test_that_the_server_stops_soon_is_known_until_the_next_worker() -> None:
    slot = slot_of_a_new_board()
    seen = [slot.is_parting]
    slot.part()
    seen.append(slot.is_parting)
    slot.clear(2, Stage.BOOTING)
    assert [*seen, slot.is_parting] == [False, True, False]


def test_a_request_is_shown_from_begin_to_end_and_then_counted() -> None:
    slot = slot_of_a_new_board()
    slot.thread(0).begin(b"GET /a?b=c", 99.5, 129.5)
    assert slot.thread(0).request() == Current("GET", "/a?b=c", 99.5, 129.5, Phase.APPLICATION)
    assert (slot.busy, slot.deadline) == (1, 129.5)
    slot.thread(0).phase = Phase.WRITING
    current = slot.thread(0).request()
    assert current is not None
    assert current.phase is Phase.WRITING
    slot.thread(0).end()
    assert slot.thread(0).request() is None
    assert (slot.requests, slot.busy, slot.deadline) == (1, 0, 0.0)


def test_the_client_the_thread_and_what_it_asked_for_are_shown() -> None:
    slot = slot_of_a_new_board()
    record = slot.thread(0)
    record.belong_to(0x7F0012345678)
    record.begin(b"GET /", 99.5, 129.5, b"2001:db8:1111:2222:3333:4444:5555:6666")
    record.allowed = 700.0
    record.count_waited(2.0)
    record.count_waited(0.5)
    assert slot.current() == [
        Current(
            "GET",
            "/",
            99.5,
            129.5,
            Phase.APPLICATION,
            "2001:db8:1111:2222:3333:4444:5555:6666",
            700.0,
            2.5,
            0x7F0012345678,
        )
    ]


def test_the_next_request_begins_with_nothing_asked_for_and_the_same_thread() -> None:
    slot = slot_of_a_new_board()
    record = slot.thread(0)
    record.belong_to(5)
    record.begin(b"GET /", 1.0, 0.0, b"10.0.0.1")
    record.allowed = 700.0
    record.count_waited(2.0)
    record.end()
    record.begin(b"GET /", 2.0)
    (current,) = slot.current()
    assert (current.allowed, current.waited, current.client, current.thread) == (0.0, 0.0, "", 5)


def test_a_request_that_is_only_being_entered_is_not_shown() -> None:
    """Its start is written last; without it, it would be older than any limit."""
    slot = slot_of_a_new_board()
    slot.thread(0).phase = Phase.APPLICATION
    assert slot.current() == []


def test_kills_are_counted_by_reason_on_a_page_that_children_see() -> None:
    board = Scoreboard(4)
    board.slot(3)
    board.count_kill(Reason.TIMEOUT)
    board.count_kill(Reason.TIMEOUT)
    board.count_kill(Reason.GRACEFUL_TIMEOUT)
    counted = {reason.value: count for reason, count in board.kills.items() if count}
    assert counted == {"timeout": 2, "graceful_timeout": 1}
    assert set(board.kills) == set(Reason)


def test_long_text_is_cut_and_never_reaches_the_next_record() -> None:
    board = Scoreboard(2)
    first, second = board.slot(0), board.slot(1)
    second.clear(5, Stage.READY)
    first.thread(0).begin(b"M" * 16 + b" /" + b"x" * 20_000, 1.0)
    current = first.thread(0).request()
    assert current is not None
    assert (len(current.method), len(current.target)) == (16, 119)
    assert (second.generation, second.stage) == (5, Stage.READY)


def test_a_shorter_request_leaves_nothing_of_a_longer_one() -> None:
    slot = slot_of_a_new_board()
    slot.thread(0).begin(b"DELETE /long/long/long", 1.0)
    slot.thread(0).begin(b"GET /", 2.0)
    current = slot.thread(0).request()
    assert current is not None
    assert (current.method, current.target) == ("GET", "/")


def test_text_that_is_not_latin_1_does_not_raise() -> None:
    slot = slot_of_a_new_board()
    slot.thread(0).begin("GET /\u2603".encode("latin-1", "replace"), 1.0)
    current = slot.thread(0).request()
    assert current is not None
    assert current.target == "/?"


def test_time_in_queues_is_summed_up_over_threads() -> None:
    slot = slot_of_a_new_board()
    slot.clear(1, Stage.READY, 2)
    slot.thread(0).count_queued(0.5)
    slot.thread(0).count_queued(0.25)
    slot.thread(1).count_queued(1.0)
    slot.thread(1).begin(b"GET /", 1.0)
    slot.thread(1).end()
    assert (slot.queued, slot.measured, slot.requests) == (1.75, 3, 1)


def test_clearing_forgets_the_request_and_the_counters() -> None:
    slot = slot_of_a_new_board()
    slot.thread(0).begin(b"GET /", 1.0)
    slot.thread(0).end()
    slot.thread(0).begin(b"GET /", 2.0)
    slot.clear(2, Stage.EMPTY)
    assert (slot.thread(0).request(), slot.requests, slot.generation) == (None, 0, 2)


def test_the_records_of_the_next_worker_count_like_those_of_the_first() -> None:
    """The arbiter has looked at the first one's, and the next one inherits what it remembers of that."""
    slot = slot_of_a_new_board()
    for generation in (1, 2):
        slot.clear(generation, Stage.BOOTING, threads=4)
        slot.thread(3).begin(b"GET /", 99.5, 129.5)
        assert (slot.deadline, slot.busy, slot.in_hand()[0]) == (129.5, 1, 1)
        slot.thread(3).end()
        assert (slot.requests, slot.sums().requests) == (1, 1)


def test_slots_do_not_overlap() -> None:
    board = Scoreboard(8)
    for index in range(8):
        board.slot(index).clear(index + 1, Stage.READY)
    assert [board.slot(index).generation for index in range(8)] == list(range(1, 9))


def test_the_sums_of_a_slot_are_those_of_all_its_threads() -> None:
    slot = slot_of_a_new_board()
    slot.clear(1, Stage.READY, 3)
    for number in range(3):
        for _ in range(number + 1):
            slot.thread(number).begin(b"GET /", 1.0)
            slot.thread(number).count_queued(0.25)
            slot.thread(number).end()
    slot.thread(2).count_error()
    assert slot.sums() == (6, 1, 1.5, 6)
    assert slot.sums() == (slot.requests, slot.errors, slot.queued, slot.measured)


def test_the_request_that_began_first_is_found_without_reading_the_others() -> None:
    slot = slot_of_a_new_board()
    slot.clear(1, Stage.READY, 4)
    assert slot.in_hand() == (0, None)
    for number, started in ((0, 7.0), (1, 3.0), (3, 5.0)):
        slot.thread(number).begin(b"GET /%d" % number, started)
    assert slot.in_hand() == (3, slot.current()[0])
    slot.thread(1).end()
    busy, oldest = slot.in_hand()
    assert busy == 2
    assert oldest is not None
    assert oldest.target == "/3"


def test_a_slot_outside_of_the_board_is_an_error() -> None:
    with pytest.raises(IndexError, match="slot 4 of 4"):
        Scoreboard(4).slot(4)


def test_what_a_forked_child_writes_is_seen_by_its_parent() -> None:
    slot = slot_of_a_new_board()
    pid = os.fork()
    if pid == 0:
        slot.thread(0).begin(b"GET /child", 3.0)
        os._exit(0)
    os.waitpid(pid, 0)
    current = slot.thread(0).request()
    assert current is not None
    assert current.target == "/child"


def test_untouched_slots_cost_no_memory() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    board = Scoreboard(10_000)
    board.slot(5_000).clear(1, Stage.READY)
    assert resident() - before < 10_000 * SLOT_SIZE / 50


def test_only_records_that_were_asked_for_are_looked_at() -> None:
    """A worker of greenlets may have a thousand requests in hand, and has three: others cost nothing."""
    slot = slot_of_a_new_board()
    slot.clear(1, Stage.READY, THREADS)
    for number in range(3):
        slot.thread(number).begin(b"GET /%d" % number, 1.0 + number)
    assert [current.target for current in slot.current()] == ["/0", "/1", "/2"]
    assert (slot.threads, slot.busy, len(slot._all())) == (THREADS, 3, 3)
    with pytest.raises(IndexError):
        slot.thread(THREADS)
    slot.clear(2, Stage.READY)
    assert slot.current() == []
