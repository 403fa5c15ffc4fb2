# SPDX-License-Identifier: MIT
"""What holds for every library of greenlets: the promises of `prefork.worker.Greenlets`."""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork.worker import Greenlets


class GreenletRules:
    """Tests to inherit; a class says which library it is, and how a test uses that itself."""

    def library(self) -> Greenlets:
        """Return what is tested."""
        raise NotImplementedError

    def sleep(self, seconds: float) -> None:
        """Let other greenlets run for some seconds."""
        raise NotImplementedError

    def spawn(self, call: Callable[[], object]) -> Callable[[], object]:
        """Call a function in a greenlet; return what waits for its end."""
        raise NotImplementedError

    @pytest.fixture
    def pipe(self) -> Iterator[tuple[int, int]]:
        """Open a pipe for a test."""
        ends = os.pipe()
        yield ends
        for end in ends:
            os.close(end)

    def test_a_function_is_called_as_soon_as_its_greenlet_waits(self) -> None:
        called: list[str] = []
        self.library().defer(lambda: called.append("deferred"))
        assert called == []
        self.sleep(0.01)
        assert called == ["deferred"]

    def test_a_function_that_is_taken_back_is_not_called(self) -> None:
        called: list[str] = []
        green = self.library()
        green.defer(lambda: called.append("taken back"))()
        kept = green.defer(lambda: called.append("kept"))
        self.sleep(0.01)
        kept()  # too late, and no harm
        assert called == ["kept"]

    def test_others_run_in_a_pause(self) -> None:
        order: list[str] = []
        wait = self.spawn(lambda: order.append("other"))
        self.library().pause()
        order.append("own")
        wait()
        assert order == ["other", "own"]

    def test_a_wait_ends_when_the_descriptor_is_ready_or_time_is_up(self, pipe: tuple[int, int]) -> None:
        read, write = pipe
        green = self.library()
        assert not green.wait(read, 0.01, to_write=False)
        assert green.wait(write, inf, to_write=True)

        def write_soon() -> None:
            self.sleep(0.01)
            os.write(write, b".")

        self.spawn(write_soon)
        assert green.wait(read, inf, to_write=False)
