# SPDX-License-Identifier: MIT
"""Threads that take turns in leading a loop, and call the application (`workers.lead`, decision 11).

The one that leads lends the lead while it is in the application. When that takes long another one leads, and
the first puts its connection back without the lead. Knows nothing of sockets or HTTP.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from prefork.workers.lead import Lead
from prefork.workers.loop import Loop, Lost
from prefork.wsgi.serve import WANTS_CALL
from prefork.wsgi.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork.workers.context import WorkerContext
    from prefork.wsgi.connection import Connection
    from prefork.wsgi.serve import Service, Wants

_LAST: Final = 2.0
"""Seconds for which a worker that has drained, and is to fork, waits for the end of its threads."""


class Threads:
    """The threads of a worker.

    Args:
        ctx: the worker's context.
        service: serves each connection.
    """

    def __init__(self, ctx: WorkerContext, service: Service) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._service = service
        aways = threading.Lock()
        self._watches = [
            Watch(ctx.slot.thread(number), settings.timeout, ctx.slot, aways)
            for number in range(settings.threads)
        ]
        self._lead: Lead[Watch] = Lead(self._lost)
        self._crash: BaseException | None = None
        self._new_first = False
        self._loop: Loop[Watch] = Loop(ctx, service, self, concurrent=settings.threads > 1)
        self._place = self._loop.place  # bound once, not for each request

    def run(self) -> None:
        """Serve until the worker is told to stop, and then until it has drained.

        This thread, which must be the main thread, watches over the lead. It has it only while all others are
        in the application, and then reads and writes for them.
        """
        self._loop.begin()
        threads = [
            threading.Thread(target=self._live, args=(watch,), name=f"prefork-{number}", daemon=True)
            for number, watch in enumerate(self._watches)
        ]
        for thread in threads:
            thread.start()
        self._lead.offer()
        while self._lead.watch_over():
            self._lead_for_all()
        if self._crash is not None:
            raise self._crash
        self._loop.close_all()
        # Otherwise not waited for: what runs then has had its graceful_timeout.
        until = monotonic() + _LAST
        for thread in threads if self._ctx.is_to_fork else ():
            thread.join(max(until - monotonic(), 0.0))

    def aborted(self) -> None:
        """Leave an access line for each request in hand: the worker is about to be killed."""
        for conn in self.in_hand():
            self._service.killed(conn)

    def _live(self, watch: Watch) -> None:
        """The life of a thread that serves. One that dies ends the worker: it may have had the lead."""
        try:
            self._attend(watch)
        except BaseException as error:  # noqa: BLE001 (raised again by the main thread)
            self._crash = error
            self._lead.end()

    def _attend(self, watch: Watch) -> None:
        watch.belongs_here()
        own = threading.Lock()
        own.acquire()
        while True:
            if not self._lead.follow(own):
                return
            self._loop.acceptor.balance()
            lost = Lost.NOTHING
            while lost is Lost.NOTHING:
                lost = self._turn(watch)
            if lost is Lost.ALL:
                self._lead.end()
                return
            # One, then it is the others' turn: who has a connection open must not keep new ones out.
            conn = self._loop.next_turn()
            if conn is not None:
                self._serve_late(conn, watch)

    def _turn(self, watch: Watch) -> Lost:
        """Wait for something and serve it, as the thread that leads."""
        loop = self._loop
        if not self._lead.expects_long or loop.stopping:
            return loop.turn(watch)
        self._new_first = not self._new_first
        for fd in list(loop.acceptor.fds) if self._new_first else ():
            if loop.accept_in_a_row(fd, watch) < 0:
                return Lost.LEAD
        # The lead goes with the first that is served. Who is ready too is read now, and so keeps its place.
        lost = loop.handle(loop.wait(), None)
        conn = loop.next_turn() if lost is Lost.NOTHING else None
        if conn is not None and not loop.serve(conn, self._service.proceed, watch):
            return Lost.LEAD
        loop.acceptor.balance()
        return lost

    # The application

    def call(self, conn: Connection, leader: Watch) -> bool:
        """Answer a request, as the thread that leads; return whether it does so still."""
        lead = self._lead
        leader.conn = conn
        if lead.expects_long:
            leader.away()  # before another leads, who may accept
            lead.give_away()
            self._answer_late(conn, leader)
            return False
        lead.lend(leader)
        wants = self._service.respond(conn, leader)
        if lead.take_back():
            leader.conn = None
            self._place(conn, wants)
            return True
        self._place_late(conn, wants, leader)
        return False

    def in_hand(self) -> Iterable[Connection]:
        """Return the connections whose requests are with the application."""
        return [conn for watch in self._watches if (conn := watch.conn) is not None]

    # Without the lead

    def _serve_late(self, conn: Connection, watch: Watch) -> None:
        """Serve a connection whose turn it is, as a thread that does not lead."""
        watch.conn = conn
        wants = self._service.proceed(conn)
        if wants is WANTS_CALL:
            self._answer_late(conn, watch)
        else:
            self._place_late(conn, wants, watch)

    def _answer_late(self, conn: Connection, watch: Watch) -> None:
        watch.away()
        began = monotonic()
        wants = self._service.respond(conn, watch)
        self._lead.note_length(began)
        self._place_late(conn, wants, watch)

    def _place_late(self, conn: Connection, wants: Wants, watch: Watch) -> None:
        with self._loop.lock:
            watch.conn = None
            watch.back()
            self._loop.place(conn, wants)

    def _lost(self, watch: Watch) -> None:
        """Note, as the main thread, that a thread has lost the lead to a long request."""
        with self._loop.lock:
            if watch.conn is not None:  # else the request is over just now
                watch.away()

    # The main thread

    def _lead_for_all(self) -> None:
        """Lead, as the main thread, until another thread does. The lead is on offer while this one waits."""
        if not self._lead.claim():
            return
        loop = self._loop
        since = monotonic()
        while True:
            # Anew each time: a thread that led in between has taken the listeners back.
            loop.acceptor.leave_to_siblings()
            if self._lead.offer_to_followers():
                return
            events = loop.wait_for_all()
            if not self._lead.claim():
                return
            loop.turn_away_late(since)
            if loop.handle(events, None) is Lost.ALL:
                self._lead.end()
                return
