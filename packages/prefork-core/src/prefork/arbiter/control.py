# SPDX-License-Identifier: MIT
"""What an operator can have the arbiter do through the control socket, and when that is answered.

It decides what each command means: a look at the server, or an event for the machine. How requests and
answers travel is `control.server`; what an event leads to is `supervisor.machine`.
"""

from __future__ import annotations

import os
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from prefork.control import metrics, report
from prefork.control.protocol import Command, Refused, Trouble
from prefork.control.server import BACKLOG, ControlServer
from prefork.errors import ConfigError
from prefork.net.listener import Address, Family, open_listener
from prefork.net.peer import peer_uid
from prefork.settings.show import described
from prefork.status.look import snapshot
from prefork.supervisor.children import State
from prefork.supervisor.fleet import Mode
from prefork.supervisor.kinship import Phase
from prefork.supervisor.messages import Discard, Resize, Stop, Upgrade

if TYPE_CHECKING:
    import selectors
    import socket
    from collections.abc import Callable, Mapping

    from prefork.arbiter.generation import Generation
    from prefork.control.protocol import Request
    from prefork.control.register import Register
    from prefork.control.report import Snapshot
    from prefork.control.server import Conversation, Ready
    from prefork.process.scoreboard import Scoreboard
    from prefork.supervisor.children import Child
    from prefork.supervisor.fleet import Fleet
    from prefork.supervisor.messages import Event

MODE: Final = 0o600
"""Of the socket: its owner's only."""

_ASKED: Final = frozenset({State.READY, State.RETIRING, State.STOPPING})
"""Workers in these states show their stacks to who asks."""
_UP: Final = frozenset({Mode.STARTING, Mode.RUNNING})


class Arbiter(Protocol):
    """What the arbiter's loop lets an operator see and do."""

    @property
    def fleet(self) -> Fleet:
        """Which workers there are and should be; only to be read."""

    @property
    def board(self) -> Scoreboard:
        """What the workers show of themselves."""

    @property
    def present(self) -> Generation:
        """The generation that is the server's."""

    def register(self) -> Register:
        """Return what only the arbiter knows of the server."""

    @property
    def no_upgrade(self) -> str:
        """Why there can be no upgrade now; empty when there can."""

    def tell(self, event: Event) -> None:
        """Tell the machine, and do what it answers."""

    def reload(self) -> int | str:
        """Begin a reload; return the number of the new generation, or why there is none."""

    def show_stacks(self, serial: int, then: Callable[[str, str], None]) -> bool:
        """Have a worker show its stacks; return False when there is none."""


class _Collecting(NamedTuple):
    """Stacks that a client waits for."""

    wanted: int
    found: list[dict[str, Any]]


class _Reloading(NamedTuple):
    """What a client waits for."""

    generation: int
    began: float


class Control:
    """The control socket of one arbiter.

    Args:
        server: its clients.
        path: of its socket.
    """

    def __init__(self, server: ControlServer, path: str) -> None:
        self._server = server
        self._path = path
        self._reloading: dict[Conversation, _Reloading] = {}
        self._upgrading: dict[Conversation, float] = {}
        """Who waits for an upgrade, and since when."""
        self._stopping: list[Conversation] = []
        self._collecting: dict[Conversation, _Collecting] = {}

    def attach(self, arbiter: Arbiter, selector: selectors.BaseSelector) -> None:
        """Begin to serve.

        Args:
            arbiter: who does what is asked.
            selector: the arbiter's.
        """
        self._arbiter = arbiter
        self._server.attach(selector)

    def turn(self, ready: Ready, now: float) -> None:
        """Do what is to be done on one turn of the arbiter's loop, after all else.

        Args:
            ready: what the selector has found.
            now: monotonic seconds.
        """
        requests = self._server.receive(ready, now)
        self._tell_outcomes(now)
        for client, request in requests:
            self._serve(client, request, now)
        self._tell_outcomes(now)
        self._server.settle(now)

    def next_deadline(self, now: float) -> float:
        """Return when `turn` is to be called though nothing is ready; infinity for never.

        Args:
            now: monotonic seconds.
        """
        return self._server.next_deadline(now)

    def _serve(self, client: Conversation, request: Request, now: float) -> None:
        try:
            result = self._HANDLERS[request.command](self, client, request.arguments, now)
        except Refused as refused:
            client.refuse(refused, now)
            return
        if result is None:
            client.wait()
        else:
            client.answer(result, now)

    # ------------------------------------------------------------ commands

    def _status(self, _client: Conversation, _given: Mapping[str, int], now: float) -> dict[str, Any]:
        return report.status(self._look(now))

    def _workers(self, _client: Conversation, _given: Mapping[str, int], now: float) -> dict[str, Any]:
        return report.workers(self._look(now))

    def _metrics(self, _client: Conversation, _given: Mapping[str, int], now: float) -> dict[str, Any]:
        return {"text": metrics.text(self._look(now))}

    def _settings(self, _client: Conversation, _given: Mapping[str, int], _now: float) -> dict[str, Any]:
        present = self._arbiter.present
        return {
            "generation": present.number,
            "settings": described(present.settings, present.origins),
        }

    def _reload(self, client: Conversation, _given: Mapping[str, int], now: float) -> None:
        begun = self._arbiter.reload()
        if isinstance(begun, str):
            raise Refused(Trouble.REFUSED, begun)
        self._reloading[client] = _Reloading(begun, now)

    def _upgrade(self, client: Conversation, _given: Mapping[str, int], now: float) -> None:
        if why := self._arbiter.no_upgrade:
            raise Refused(Trouble.REFUSED, why)
        self._arbiter.tell(Upgrade(hand_over=True))
        self._upgrading[client] = now

    def _scale(self, _client: Conversation, given: Mapping[str, int], _now: float) -> dict[str, Any]:
        fleet = self._arbiter.fleet
        if fleet.is_going:
            raise Refused(Trouble.REFUSED, "the server is stopping")
        was = fleet.target
        self._arbiter.tell(Resize(given["workers"] - was))
        return {"target": fleet.target, "was": was}

    def _stop(self, client: Conversation, given: Mapping[str, int], _now: float) -> None:
        quick = bool(given.get("quick"))
        # A second one would be taken for "quickly now", as a second signal is.
        if quick or self._arbiter.fleet.mode in _UP:
            self._arbiter.tell(Stop(quick=quick))
        self._stopping.append(client)

    def _kill_slot(self, _client: Conversation, given: Mapping[str, int], _now: float) -> dict[str, Any]:
        child = self._in_slot(given["slot"])
        self._arbiter.tell(Discard(child.serial))
        return {"slot": child.slot, "pid": child.pid, "generation": child.generation}

    def _in_slot(self, slot: int) -> Child:
        for child in self._arbiter.fleet.children:
            if child.slot == slot:
                return child
        raise Refused(Trouble.REFUSED, f"there is no worker in slot {slot}")

    def _stacks(self, client: Conversation, given: Mapping[str, int], _now: float) -> None:
        children = [self._in_slot(given["slot"])] if "slot" in given else self._arbiter.fleet.children
        # One that is booting would die of the signal: it has no handler yet.
        asked = [child for child in children if child.ready_at is not None and child.state in _ASKED]
        if not asked:
            raise Refused(Trouble.REFUSED, "there is no worker that can show its stacks now")
        self._collecting[client] = collecting = _Collecting(len(asked), [])
        for child in asked:
            row = {"slot": child.slot, "pid": child.pid, "generation": child.generation}
            note = partial(_note, collecting.found, row)
            if not self._arbiter.show_stacks(child.serial, note):
                note("it has ended", "")

    _HANDLERS: ClassVar[Mapping[Command, Callable[..., dict[str, Any] | None]]] = {
        Command.STATUS: _status,
        Command.WORKERS: _workers,
        Command.METRICS: _metrics,
        Command.SETTINGS: _settings,
        Command.RELOAD: _reload,
        Command.UPGRADE: _upgrade,
        Command.SCALE: _scale,
        Command.STOP: _stop,
        Command.KILL_SLOT: _kill_slot,
        Command.STACKS: _stacks,
    }

    def _look(self, now: float) -> Snapshot:
        return snapshot(self._arbiter.register(), self._arbiter.board, now)

    # ------------------------------------------------------------ what takes its time

    def _tell_outcomes(self, now: float) -> None:
        """Answer those whose reload or upgrade has come to its end, and those whose stacks are here."""
        for client, collecting in list(self._collecting.items()):
            if len(collecting.found) == collecting.wanted:
                del self._collecting[client]
                rows = sorted(collecting.found, key=itemgetter("slot"))
                client.answer({"workers": rows}, now)
        for client, waits_for in list(self._reloading.items()):
            try:
                result = self._outcome(waits_for, now)
            except Refused as refused:
                del self._reloading[client]
                client.refuse(refused, now)
                continue
            if result is not None:
                del self._reloading[client]
                client.answer(result, now)
        failed = self._failed_upgrade() if self._upgrading else None
        if failed is not None:
            for client in self._upgrading:
                client.refuse(failed, now)
            self._upgrading.clear()

    def _failed_upgrade(self) -> Refused | None:
        """Return what became of an upgrade; None while it is under way, or is to be told at the end."""
        kinship = self._arbiter.fleet.kinship
        if kinship.phase is not Phase.ALONE:
            return None
        if not kinship.failure:
            return Refused(Trouble.REFUSED, "the upgrade was given up: the server is stopping")
        return Refused(Trouble.ROLLED_BACK, f"the upgrade failed: {kinship.failure}; this server serves on")

    def _outcome(self, waits_for: _Reloading, now: float) -> dict[str, Any] | None:
        """Return what became of a reload, None while it is under way."""
        fleet = self._arbiter.fleet
        number = waits_for.generation
        if fleet.mode not in _UP:
            raise Refused(Trouble.REFUSED, "the reload was given up: the server is stopping")
        if fleet.generation > number:
            raise Refused(Trouble.REFUSED, "the reload was given up for a newer one")
        if fleet.generation < number:
            why = f"{fleet.rolled_back}; generation {fleet.generation} serves on"
            raise Refused(Trouble.ROLLED_BACK, f"the reload was rolled back: {why}")
        if fleet.rollout is not None or fleet.mode is Mode.STARTING:
            return None
        return {"generation": number, "workers": fleet.target, "took": round(now - waits_for.began, 3)}

    # ------------------------------------------------------------ the end

    def shut(self) -> None:
        """Take no more clients, and remove the socket's path."""
        self._server.shut()

    def farewell(self, code: int, now: float) -> None:
        """Answer those who wait for the end. They see it when this process closes its descriptors.

        Args:
            code: what the server exits with.
            now: monotonic seconds.
        """
        for client in self._stopping:
            client.answer({"exit_code": code}, now)
        for client in self._reloading:
            client.refuse(Refused(Trouble.REFUSED, f"the server has ended with exit code {code}"), now)
        kinship = self._arbiter.fleet.kinship
        for client, began in self._upgrading.items():
            if kinship.has_ready:
                client.answer({"pid": kinship.other, "took": round(now - began, 3)}, now)
            else:
                client.refuse(Refused(Trouble.REFUSED, f"the server has ended with exit code {code}"), now)

    def move(self, from_suffix: str, *, in_use: bool) -> None:
        """Give the socket the path without its suffix.

        Args:
            from_suffix: what it has at its end.
            in_use: whether another arbiter is there that has agreed.

        Raises:
            ConfigError: somebody else is there, or it cannot be replaced.
        """
        path = self._path.removesuffix(from_suffix)
        try:
            self._server.move(path, in_use=in_use)
        except OSError as error:
            raise ConfigError(f"control_socket: cannot take {path}: {error.strerror}") from error
        self._path = path

    def close_in_child(self) -> None:
        """Close after a fork what is the arbiter's."""
        self._server.close_in_child()


def _note(found: list[dict[str, Any]], row: dict[str, Any], words: str, stacks: str) -> None:
    found.append({**row, "words": words, "stacks": stacks})


def open_control(path: str) -> Control:
    """Open a control socket.

    Args:
        path: where; relative to the present folder.

    Raises:
        ConfigError: it cannot be opened, or another server has it.
    """
    address = Address(Family.UNIX, os.path.abspath(path))
    try:
        door = open_listener(address, BACKLOG, MODE)
    except ConfigError as error:
        hint = "each server needs a path of its own, in a folder that it may write to"
        raise ConfigError(f"control_socket: {error.message}", hint=hint) from error
    return Control(ControlServer(door, _may_ask), address.host)


def _may_ask(sock: socket.socket) -> bool:
    """Say whether the peer is root or who runs the arbiter. So does the mode, but that can be changed."""
    try:
        uid = peer_uid(sock)
    except OSError:
        return False
    return uid is None or uid in {0, os.geteuid()}
