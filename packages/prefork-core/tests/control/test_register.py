# SPDX-License-Identifier: MIT
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefork.control.register import Parent, Place, Register, parse, render
from prefork.control.report import Listening, Reforks, Totals

TIMES = st.floats(0, 1e10)
COUNTS = st.integers(0, 2**62)
REGISTERS = st.builds(
    Register,
    version=st.text(),
    pid=COUNTS,
    started=TIMES,
    began=TIMES,
    mode=st.text(),
    generation=COUNTS,
    target=COUNTS,
    rolled_back=st.text(),
    upgrade=st.text(),
    places=st.lists(st.builds(Place, COUNTS, COUNTS, COUNTS, st.text(), TIMES, COUNTS)).map(tuple),
    listeners=st.lists(st.builds(Listening, st.text(), st.none() | COUNTS, st.booleans())).map(tuple),
    past=st.builds(Totals, COUNTS, COUNTS, COUNTS, TIMES, COUNTS),
    templates=st.lists(st.builds(Parent, COUNTS, COUNTS, st.text(), TIMES, st.none() | COUNTS)).map(tuple),
    reforks=st.builds(Reforks, COUNTS, COUNTS),
)


@given(REGISTERS)
def test_what_is_written_down_is_read_again(register: Register) -> None:
    assert parse(render(register)) == register
