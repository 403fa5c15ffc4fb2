# SPDX-License-Identifier: MIT
from __future__ import annotations

import os

import pytest

from prefork.process.bulletin import SIZE, Bulletin


def test_nothing_is_read_before_something_is_written() -> None:
    assert Bulletin().read() == b""


def test_the_last_text_is_read_as_a_whole_also_when_it_is_shorter() -> None:
    bulletin = Bulletin()
    for text in (b"long" * 1000, b"short", b"", b"again"):
        bulletin.write(text, 1.0)
        assert bulletin.read() == text


def test_each_side_sees_when_the_other_one_turned() -> None:
    """Also when there is nothing new to say."""
    bulletin = Bulletin()
    bulletin.write(b"same", 5.0)
    bulletin.write(b"same", 6.5)
    bulletin.turn(7.5)
    assert (bulletin.written_at, bulletin.read_at) == (6.5, 7.5)


def test_another_process_reads_it() -> None:
    bulletin = Bulletin()
    pid = os.fork()
    if pid == 0:
        bulletin.write(b"from the arbiter", 8.0)
        os._exit(0)
    os.waitpid(pid, 0)
    assert bulletin.read() == b"from the arbiter"
    assert bulletin.written_at == 8.0


def test_a_text_that_is_half_written_is_not_read() -> None:
    """Its writer is stopped, perhaps for ever; what was said before holds."""
    bulletin = Bulletin()
    bulletin.write(b"before", 1.0)
    assert bulletin.read() == b"before"
    bulletin._ints[0] = 5
    assert bulletin.read() == b"before"
    bulletin._ints[0] = -1
    assert bulletin.read() == b"before"


def test_what_is_too_long_is_refused_and_changes_nothing() -> None:
    bulletin = Bulletin()
    bulletin.write(b"before", 1.0)
    with pytest.raises(ValueError, match="more than fit"):
        bulletin.write(bytes(SIZE), 2.0)
    assert bulletin.read() == b"before"


def test_it_can_be_given_up() -> None:
    bulletin = Bulletin()
    bulletin.close()
    with pytest.raises(ValueError, match="released"):
        bulletin.read()
