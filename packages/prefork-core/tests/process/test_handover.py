# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any

import pytest

from prefork.errors import ConfigError
from prefork.process.handover import (
    VARIABLE,
    Handed,
    Handover,
    Hangup,
    Link,
    Staffing,
    Word,
    complain,
    end_of,
    make,
    render,
    take,
)
from prefork.settings import load

PID = 4712
LEFT = Handover(
    4711,
    PID,
    9,
    (
        Handed(5, "127.0.0.1:8000"),
        Handed(6, "unix:/run/web.sock", (3, 77)),
        Handed(7, "fd://3", activated=True),
    ),
    Staffing(4, 1, 0, 2),
)


def link() -> tuple[Link, Link]:
    ours, theirs = make()
    return ours, Link(theirs)


# The variable


def test_what_is_left_arrives_and_is_taken_once() -> None:
    environ = {VARIABLE: render(LEFT), "HOME": "/"}
    assert take(environ, PID) == LEFT
    assert environ == {"HOME": "/"}
    assert take(environ, PID) is None


def test_what_is_meant_for_another_process_is_only_hidden() -> None:
    environ = {VARIABLE: render(LEFT)}
    assert take(environ, PID + 1) is None
    assert environ == {}


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(render(LEFT)), **fields})


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        changed(version=2),
        changed(listeners=[{}]),
        changed(staffing={"workers": 1}),
        changed(listeners=3),
    ],
)
def test_what_cannot_be_understood_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="its version hands over in another way"):
        take({VARIABLE: text}, PID)


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert take({VARIABLE: changed(colour="red")}, PID) == LEFT


def test_the_variable_is_no_setting() -> None:
    loaded = load(["app:app"], {VARIABLE: render(LEFT)}, os.getcwd())
    assert not loaded.warnings


# The link


def test_words_arrive_in_order_with_their_text() -> None:
    ours, theirs = link()
    theirs.say(Word.KEEPS, "5 6")
    theirs.say(Word.READY)
    theirs.say(Word.FAILED, "two\nlines  here")
    assert ours.hear() == [(Word.KEEPS, "5 6"), (Word.READY, ""), (Word.FAILED, "two lines here")]
    assert ours.hear() == []


def test_words_that_are_not_known_are_passed_over_and_halves_are_kept() -> None:
    ours, raw = make()
    raw.sendall(b"sings loudly\nrea")
    assert ours.hear() == []
    raw.sendall(b"dy\n")
    assert ours.hear() == [(Word.READY, "")]


def test_what_has_no_end_is_not_kept_for_ever() -> None:
    ours, raw = make()
    for _ in range(10):
        raw.sendall(b"x" * 8192)
        assert ours.hear() == []
    raw.sendall(b"\nready\n")
    assert ours.hear() == [(Word.READY, "")]


def test_the_last_words_come_before_the_end() -> None:
    ours, theirs = link()
    theirs.say(Word.FAILED, "no port")
    theirs.close()
    assert ours.hear() == [(Word.FAILED, "no port")]
    for _ in range(2):
        with pytest.raises(Hangup):
            ours.hear()


def test_to_speak_never_waits_and_never_fails() -> None:
    ours, theirs = link()
    for _ in range(2000):
        ours.say(Word.FAILED, "x" * 5000)
    theirs.close()
    ours.say(Word.GOING)


def test_the_end_of_the_other_one_can_be_waited_for() -> None:
    ours, theirs = link()
    theirs.say(Word.READY)
    assert not ours.wait_end(0.01), "a word is no end"
    timer = threading.Timer(0.05, theirs.close)
    timer.start()
    assert ours.wait_end(20.0)
    timer.join()


def test_a_descriptor_that_is_no_socket_is_no_link() -> None:
    read, write = os.pipe()
    os.close(write)
    with pytest.raises(ConfigError, match=f"descriptor {read} is no link to arbiter 4711"):
        end_of(LEFT._replace(link=read))
    os.close(read)


def test_an_inherited_link_is_not_inherited_further() -> None:
    ours, theirs = make()
    theirs.set_inheritable(True)
    end = end_of(LEFT._replace(link=theirs.detach()))
    assert not os.get_inheritable(end.fileno())
    end.say(Word.READY)
    assert ours.hear() == [(Word.READY, "")]


def test_a_process_that_does_not_become_the_successor_says_why() -> None:
    ours, theirs = make()
    environ = {VARIABLE: render(LEFT._replace(link=theirs.detach()))}
    complain(environ, PID, "wrokers is no setting")
    assert ours.hear() == [(Word.FAILED, "wrokers is no setting")]


@pytest.mark.parametrize(
    "environ", [{}, {VARIABLE: "nonsense"}, {VARIABLE: render(LEFT._replace(link=9999))}]
)
def test_without_a_predecessor_nobody_hears_it(environ: dict[str, str]) -> None:
    complain(environ, PID, "why")


def test_both_ends_are_closed_on_exec() -> None:
    ours, theirs = make()
    assert not os.get_inheritable(ours.fileno())
    assert not theirs.get_inheritable()
    assert theirs.family == socket.AF_UNIX
