# SPDX-License-Identifier: MIT
from __future__ import annotations

import threading
import time

from deadlines import eventually

from prefork.workers.lead import Lead


def follower_of(lead: Lead[int]) -> tuple[threading.Thread, list[str]]:
    """Return a thread that follows, and where it notes that it leads."""
    led: list[str] = []
    own = threading.Lock()
    own.acquire()

    def life() -> None:
        lead.follow(own)
        led.append("leads")

    thread = threading.Thread(target=life, daemon=True)
    thread.start()
    return thread, led


def test_a_quick_request_does_not_cost_the_lead() -> None:
    lead = Lead[int](lambda _: None)
    lead.lend(0)
    assert lead.take_back()
    assert not lead.expects_long


def test_an_offered_lead_is_claimed_once() -> None:
    lead = Lead[int](lambda _: None)
    lead.offer()
    assert [lead.claim(), lead.claim()] == [True, False]


def test_a_thread_that_begins_to_follow_takes_the_lead_that_is_on_offer() -> None:
    lead = Lead[int](lambda _: None)
    lead.offer()
    thread, led = follower_of(lead)
    thread.join(5)
    assert led == ["leads"]
    assert not lead.pass_on()  # it is no follower any more


def test_who_follows_gets_the_lead_that_is_passed_on() -> None:
    lead = Lead[int](lambda _: None)
    thread, led = follower_of(lead)
    eventually(lead.pass_on)
    thread.join(5)
    assert led == ["leads"]


def test_a_request_that_takes_long_loses_the_lead_to_a_follower() -> None:
    lead = Lead[int](lambda _: None)
    thread, led = follower_of(lead)
    eventually(lambda: lead._followers)
    lead.lend(0)
    main = threading.Thread(target=lead.watch_over, daemon=True)
    main.start()
    thread.join(5)
    assert led == ["leads"]
    assert not lead.take_back()
    assert lead.expects_long
    lead.end()
    main.join(5)
    assert not main.is_alive()


def test_who_loses_the_lead_is_told_before_another_has_it() -> None:
    told: list[int] = []
    lead = Lead(told.append)
    lead.lend(7)
    assert lead.watch_over()
    assert told == [7]


def test_where_nobody_follows_the_main_thread_may_have_the_lead() -> None:
    lead = Lead[int](lambda _: None)
    lead.lend(0)
    assert lead.watch_over()
    assert lead.claim()
    assert not lead.take_back()


def test_a_worker_without_requests_lets_the_main_thread_sleep_until_there_is_one() -> None:
    lead = Lead[int](lambda _: None)
    main = threading.Thread(target=lead.watch_over, daemon=True)
    main.start()
    eventually(lambda: lead._asleep)
    lead.lend(0)
    eventually(lambda: lead._offered)
    main.join(5)
    assert not main.is_alive()


def test_long_requests_are_expected_until_enough_were_quick() -> None:
    lead = Lead[int](lambda _: None)
    lead.note_length(time.monotonic() - 1.0)
    quick = 0
    while lead.expects_long:
        lead.note_length(time.monotonic() + 1.0)
        quick += 1
    assert quick == 16


def hand_on(lead: Lead[int]) -> None:
    """Do as the main thread does, but for the work."""
    while lead.watch_over():
        while not lead.ended and lead.claim() and not lead.offer_to_followers():
            pass


def test_one_of_many_who_want_it_has_the_lead() -> None:
    """Threads lend it, lose it and get it again; what only the one that leads may touch stays whole."""
    lead = Lead[int](lambda _: None)
    leading: list[int] = []
    turns = [0] * 8
    wrong: list[object] = []
    over = threading.Event()

    def life(number: int) -> None:
        own = threading.Lock()
        own.acquire()
        while not over.is_set():
            lead.follow(own)
            if leading:
                wrong.append((number, list(leading)))
            leading.append(number)
            turns[number] += 1
            leading.remove(number)
            if turns[number] % 3:
                lead.give_away()
            else:
                lead.lend(0)
                if lead.take_back():
                    lead.give_away()

    threads = [threading.Thread(target=life, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    threading.Thread(target=hand_on, args=(lead,), daemon=True).start()
    lead.offer()
    lead.wake()
    eventually(lambda: sum(turns) > 20_000)
    over.set()
    lead.end()
    assert not wrong
