# SPDX-License-Identifier: MIT
"""Which thread of a worker waits for all connections, and when another one takes that over.

One thread leads: it waits in the poll set and serves what comes. It lends the lead while it is in the
application, and takes it back when that was quick, which costs two operations on a deque. Only a request
that takes long loses it: to the main thread, which looks every few milliseconds, or, where the last ones
were long, before the application is called. So quick requests are served by one thread without a switch,
and none waits long behind a slow one. (docs/decisions/0011.)

Knows nothing of sockets. Correct without the GIL: the lead is one object in a deque, whoever pops it has it.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Lender = TypeVar("Lender")

TICK: Final = 0.002
"""Seconds between two looks at a request that holds the lead: it loses it after one to two of them."""

_EXPECTED: Final = 16
"""Requests after a long one before which the lead is given away, and after each that was long too."""

_LONG: Final = 0.001
"""Seconds that a long request takes. To give the lead away and get another costs a twentieth of it."""


class Lead(Generic[Lender]):
    """The lead of one worker's threads; with one thread that never leaves, it stays where it is.

    Args:
        lost: told, by the main thread, who has lost the lead to a long request.

    Attributes:
        ended: whether there is nothing more to lead.
    """

    def __init__(self, lost: Callable[[Lender], None]) -> None:
        self._lost = lost
        self._lent: deque[Lender] = deque()
        self._followers: deque[threading.Lock] = deque()
        self._offered: deque[None] = deque()
        self._calls = 0
        self._expected = 0
        self._asleep = False
        self._alarm = threading.Lock()
        self._alarm.acquire()
        self.ended = False

    def lend(self, lender: Lender) -> None:
        """Let others take the lead from now on: this thread goes into the application.

        Args:
            lender: what `lost` is told if it comes to that.
        """
        self._calls += 1
        self._lent.append(lender)
        if self._asleep:
            self.wake()

    def take_back(self) -> bool:
        """Return whether the lead is still this thread's."""
        try:
            self._lent.pop()
        except IndexError:
            return False
        return True

    def _take_from_lender(self) -> bool:
        try:
            lender = self._lent.pop()
        except IndexError:
            return False
        self._lost(lender)
        return True

    @property
    def expects_long(self) -> bool:
        """Whether the next request is likely to take long."""
        return self._expected > 0

    def note_length(self, began: float) -> None:
        """Note how long a request took that was expected to be long.

        Args:
            began: monotonic seconds.
        """
        self._expected = _EXPECTED if monotonic() - began > _LONG else self._expected - 1

    # Threads that follow

    def follow(self, own: threading.Lock) -> bool:
        """Wait until this thread has the lead, and return True; or False when there is nothing more to lead.

        Args:
            own: the thread's own lock, acquired.
        """
        self._followers.append(own)
        # After that, not before: whoever offers the lead, or ends it, looks for followers afterwards.
        if self.ended:
            return False
        if self.claim():
            self._followers.remove(own)
        else:
            own.acquire()
        return not self.ended

    def claim(self) -> bool:
        """Take the lead if it is on offer; return whether it was."""
        try:
            self._offered.pop()
        except IndexError:
            return False
        return True

    def pass_on(self) -> bool:
        """Pass the lead, which the caller has, to a thread that follows; return False if there is none."""
        try:
            self._followers.pop().release()
        except IndexError:
            return False
        return True

    def give_away(self) -> None:
        """Pass the lead to a thread that follows, or to the main thread."""
        if not self.pass_on():
            self.offer()
            self.wake()

    # The main thread

    def offer(self) -> None:
        """Let any thread have the lead that becomes free."""
        self._offered.append(None)

    def offer_to_followers(self) -> bool:
        """Offer the lead, and pass it on at once if a thread follows; return whether one did."""
        self.offer()
        if not self._followers or not self.claim():
            return False
        if self.pass_on():
            return True
        self.offer()
        return False

    def wake(self) -> None:
        """Wake the main thread."""
        self._asleep = False
        try:
            self._alarm.release()
        except RuntimeError:
            return  # another thread has done so

    def end(self) -> None:
        """Let the main thread come back from `watch_over`, and all others from `follow`."""
        self.ended = True
        while self.pass_on():
            pass
        self.wake()

    def watch_over(self) -> bool:
        """Wait, as the main thread, until the lead is on offer, or a request has held it for too long.

        Returns:
            Whether the main thread may have it now; it is on offer still. False when all is over.
        """
        seen, idle = -1, False
        while not self.ended:
            if not idle:
                self._alarm.acquire(timeout=TICK)
            else:
                # Until there is a request: to be woken costs less than to look a few times more.
                self._asleep = True
                if not self._lent and not self._offered:  # else a thread may have missed the flag
                    self._alarm.acquire()
                self._asleep, idle = False, False
            if self._offered:
                return True
            idle = not self._lent
            if idle or self._calls != seen:
                seen = self._calls
            elif self._take_from_lender():
                self._expected = _EXPECTED
                self.give_away()
        return False
