# SPDX-License-Identifier: MIT
from __future__ import annotations

import logging

from prefork.supervisor.messages import Death, Level, Order, Report


def test_every_word_is_one_byte_and_no_two_are_the_same() -> None:
    words = [word.value for word in (*Order, *Report)]
    assert {len(word) for word in words} == {1}
    assert len(set(words)) == len(words)


def test_a_death_is_said_in_the_words_of_an_operator() -> None:
    assert str(Death(code=3)) == "exit code 3"
    assert str(Death(signal=11, signal_name="SIGSEGV")) == "killed by SIGSEGV"


def test_levels_are_those_of_logging() -> None:
    assert {level.name: int(level) for level in Level} == {
        name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR")
    }
