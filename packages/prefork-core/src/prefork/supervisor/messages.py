# SPDX-License-Identifier: MIT
"""The whole vocabulary of supervision: wire words, events, actions.

It decides what can be said. It knows nothing of who says it or how it travels.

* An `Order` goes from the arbiter to a worker, a `Report` from a worker to the arbiter;
  each is one byte on the channel between them.
* An `Event` is something that happened, told to `machine.Machine.step`.
* An `Action` is something that `step` wants done, and the arbiter does at once.

A child is named by its serial number, a template by its number. Neither is used twice, so a word that
comes late can never be taken for another one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from prefork.worker import StopReason


class Order(Enum):
    """What the arbiter tells a worker. No byte at all (end of file) means `DRAIN`."""

    DRAIN = b"d"
    LEAVE = b"l"
    QUICK = b"q"
    REFORK = b"f"
    """Leave, and then be the next template. A line comes with it, over which a template gets its orders."""

    @property
    def reason(self) -> StopReason:
        """What the order means to a worker class."""
        return StopReason.LEAVE if self is Order.REFORK else StopReason[self.name]


class Report(Enum):
    """What a worker tells the arbiter."""

    READY = b"r"
    """The application is loaded, and connections are accepted from now on."""
    RETIRE = b"m"
    """Enough requests served: start a successor, then tell me to leave."""
    WARM = b"w"
    """As many requests served as `refork` asks for."""
    TEMPLATE = b"t"
    """Nothing in hand any more, nor what no fork can carry over: a template from now on, as it was told."""


class Level(IntEnum):
    """How loud a line of the log is; the numbers are those of `logging`."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Reason(Enum):
    """Why a worker is ended by force; kills are counted by it."""

    TIMEOUT = "timeout"
    REQUEST_TIMEOUT = "request_timeout"
    BOOT_TIMEOUT = "boot_timeout"
    GRACEFUL_TIMEOUT = "graceful_timeout"
    MEMORY = "memory"
    OPERATOR = "operator"
    """The operator has given it up."""
    HANGUP = "hangup"
    """It has closed its channel, so it could not be told anything any more."""


class Plight(Enum):
    """What is left of a worker that has a stuck request."""

    SERVES = "serves"
    """Other threads take requests."""
    LEAVES = "leaves"
    """It stops, and other requests are not finished yet."""
    EMPTY = "empty"
    """It stops, and nothing but stuck requests is left."""
    LOST = "lost"
    """All its threads are stuck."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings of one generation decide about supervision. Times are in seconds."""

    workers: int
    """How many there are at first; and later, unless max_workers is set."""
    min_workers: int = 1
    max_workers: int = 0
    """Between these the load decides how many there are; 0 is not at all."""
    reload_batch: int = 0
    """How many workers of a new generation boot at once; 0 is a quarter of them."""
    boot_timeout: float = 60.0
    """From the fork to ready; 0 is no limit."""
    graceful_timeout: float = 30.0
    """From the order to stop to the kill; 0 is no limit."""
    drain_delay: float = 0.0
    """From the signal to stop until the order."""
    lifetime: float = 0.0
    """From ready to the search for a successor; 0 is for ever."""
    lifetime_jitter: float = 0.0
    """At most so much is added to it, other for each worker."""
    watched: bool = False
    """A change of the code brings the next reload: new replaces old at once, and a boot that fails waits."""
    preload: bool = False
    """Whether workers are forked by a template process that has loaded the application."""
    refork: int = 0
    """After so many requests a worker can become the template; 0 is never."""
    status: bool = False
    """Whether a status process answers probes."""
    memory: int = 0
    """Bytes of its own with which a worker gets a successor; 0 is no limit."""
    memory_hard: int = 0
    """Bytes of its own with which a worker is killed; 0 is no limit."""
    memory_total: int = 0
    """Bytes of their own of all workers with which the largest gets a successor; 0 is no limit."""

    @property
    def weighs(self) -> bool:
        """Whether anybody wants to know how much memory a worker has."""
        return bool(self.memory or self.memory_hard or self.memory_total)


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended: by a signal, or with an exit code.

    Args:
        code: the exit code; None when a signal ended it.
        signal: the number of the signal; None when it exited.
        signal_name: such as "SIGKILL"; empty when it exited.
    """

    code: int | None = None
    signal: int | None = None
    signal_name: str = ""

    def __str__(self) -> str:
        return f"killed by {self.signal_name}" if self.code is None else f"exit code {self.code}"


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Start:
    """The arbiter is set up: start the first generation."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened, but it is the time that `next_deadline` named."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A `Spawn` succeeded. With a template this comes when the worker has said its pid."""

    serial: int
    pid: int


@dataclass(frozen=True, slots=True)
class ForkFailed:
    """A `Spawn` failed: no process, memory or descriptor was to be had, or the template did not fork."""

    serial: int
    why: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker sent a word."""

    serial: int
    report: Report


@dataclass(frozen=True, slots=True)
class HungUp:
    """A worker's end of the channel is closed: it is dying, or has lost its descriptors."""

    serial: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """A worker has a request that takes too long. It is said again as long as that is so."""

    serial: int
    reason: Reason = Reason.TIMEOUT
    plight: Plight = Plight.LOST


@dataclass(frozen=True, slots=True)
class Discard:
    """The operator gives a worker up, with the requests that it has."""

    serial: int


@dataclass(frozen=True, slots=True)
class Weighed:
    """It was looked how much memory a worker has: bytes that it shares with no other process."""

    serial: int
    weight: int


@dataclass(frozen=True, slots=True)
class Reaped:
    """A child has ended, and its pid is free."""

    serial: int
    death: Death


@dataclass(frozen=True, slots=True)
class Sampled:
    """It was looked how busy the server is."""

    workers: int
    """How many serve."""
    threads: int
    """How many they have together."""
    requests: int
    """How many of them have a request in hand, and requests that wait within a worker."""
    waiting: int
    """Connections in the queues of the listeners."""
    is_counted: bool = True
    """Whether all of those were counted. Otherwise it is only known of a queue that somebody is in it, and as
    many are assumed as there are threads."""


@dataclass(frozen=True, slots=True)
class TemplateForked:
    """A `StartTemplate` succeeded."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class TemplateFailed:
    """A `StartTemplate` failed: no process, memory or descriptor was to be had."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class TemplateReady:
    """A template has loaded the application: it forks workers from now on."""

    number: int


@dataclass(frozen=True, slots=True)
class TemplateEnded:
    """A template has been reaped."""

    number: int
    death: Death


@dataclass(frozen=True, slots=True)
class StatusForked:
    """A `StartStatus` succeeded."""

    generation: int
    pid: int


@dataclass(frozen=True, slots=True)
class StatusFailed:
    """A `StartStatus` failed: no process, memory or descriptor was to be had."""

    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class StatusSilent:
    """A status process gives no sign of life any more."""

    generation: int


@dataclass(frozen=True, slots=True)
class StatusEnded:
    """A status process has been reaped."""

    generation: int
    death: Death


@dataclass(frozen=True, slots=True)
class Reload:
    """New settings are loaded and their listeners open: replace the workers."""

    generation: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Resize:
    """The operator wants so many workers more, or fewer."""

    by: int


@dataclass(frozen=True, slots=True)
class Park:
    """The operator wants no workers at all, but the arbiter to stay (SIGWINCH of a daemon)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The operator wants the server to end."""

    quick: bool = False


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The operator wants another arbiter in place of this one."""

    hand_over: bool = False
    """Whether this one is to go as soon as that one is ready; otherwise the operator says so."""


@dataclass(frozen=True, slots=True)
class SuccessorForked:
    """A `StartSuccessor` succeeded."""

    pid: int


@dataclass(frozen=True, slots=True)
class SuccessorFailed:
    """A `StartSuccessor` failed."""

    why: str


@dataclass(frozen=True, slots=True)
class SuccessorReady:
    """The successor has all its workers ready."""


@dataclass(frozen=True, slots=True)
class SuccessorEnded:
    """The successor has been reaped."""

    how: str
    """In words."""


@dataclass(frozen=True, slots=True)
class OtherLeaves:
    """The other arbiter, successor or predecessor, has begun to stop."""


@dataclass(frozen=True, slots=True)
class PredecessorGone:
    """The arbiter that this one succeeds has ended, or does so at this moment."""


Event = (
    Start
    | Tick
    | Forked
    | ForkFailed
    | Reported
    | HungUp
    | Overdue
    | Discard
    | Weighed
    | Reaped
    | Sampled
    | TemplateForked
    | TemplateFailed
    | TemplateReady
    | TemplateEnded
    | StatusForked
    | StatusFailed
    | StatusSilent
    | StatusEnded
    | Reload
    | Resize
    | Park
    | Stop
    | Upgrade
    | SuccessorForked
    | SuccessorFailed
    | SuccessorReady
    | SuccessorEnded
    | OtherLeaves
    | PredecessorGone
)


# ---------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker; answer with `Forked` or `ForkFailed` before the next event.

    Where the policy says `preload` the template of the generation forks, and the answer may come later.
    Orders and signals that come in between are kept for the worker.
    """

    serial: int
    slot: int
    generation: int
    template: int = 0
    """Which template is to fork; 0 for the arbiter."""


@dataclass(frozen=True, slots=True)
class Promote:
    """Take the process of a worker that is no worker any more for a template."""

    serial: int
    template: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a worker an order. It may be dead already; then nothing happens."""

    serial: int
    order: Order


@dataclass(frozen=True, slots=True)
class Explain:
    """Log what a worker has in hand, with the stacks of all its threads. It runs on."""

    serial: int
    why: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Abort:
    """Send SIGABRT, on which the worker shows its stacks and ends; log why, and its requests."""

    serial: int
    why: str
    reason: Reason
    explained: bool = False
    """The stacks are in the log already."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL; log why, and its requests."""

    serial: int
    why: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class StartTemplate:
    """Fork a template; answer with `TemplateForked` or `TemplateFailed` before the next event."""

    number: int
    generation: int


@dataclass(frozen=True, slots=True)
class StopTemplate:
    """Tell a template to end."""

    number: int


@dataclass(frozen=True, slots=True)
class AbortTemplate:
    """Send a template SIGABRT, so that it shows where it is; log why."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class KillTemplate:
    """Send a template SIGKILL; log why."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class StartSuccessor:
    """Start another arbiter; answer with `SuccessorForked` or `SuccessorFailed` before the next event."""


@dataclass(frozen=True, slots=True)
class StopSuccessor:
    """Tell the successor to stop."""

    quick: bool


@dataclass(frozen=True, slots=True)
class KillSuccessor:
    """Send the successor SIGKILL."""


@dataclass(frozen=True, slots=True)
class TellReady:
    """Tell the predecessor that all workers of this arbiter are ready."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Be the server: take the predecessor's pidfile and control socket, and tell the service manager."""


@dataclass(frozen=True, slots=True)
class StartStatus:
    """Fork a status process; answer with `StatusForked` or `StatusFailed` before the next event."""

    generation: int


@dataclass(frozen=True, slots=True)
class StopStatus:
    """Tell a status process to end."""

    generation: int


@dataclass(frozen=True, slots=True)
class KillStatus:
    """Send a status process SIGKILL; log why."""

    generation: int
    why: str


@dataclass(frozen=True, slots=True)
class StopQueueing:
    """Let the kernel queue no further connection, so that the queue can run dry.

    It is said again when another arbiter stops that has had the same listeners.
    """


@dataclass(frozen=True, slots=True)
class Serving:
    """A worker is ready for the first time since the start."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The server has begun to end."""


@dataclass(frozen=True, slots=True)
class Resized:
    """The number of workers wanted has changed; `old` is None at the start."""

    new: int
    old: int | None


@dataclass(frozen=True, slots=True)
class Reloaded:
    """All workers wanted of the new generation are ready."""

    generation: int


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The generation is given up; its settings are not the server's any more."""

    generation: int
    to: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The last child of a generation that is not wanted any more has been reaped."""

    generation: int


@dataclass(frozen=True, slots=True)
class Say:
    """Write a line to the log."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End the arbiter: there is no child any more, or none that can be waited for."""

    code: int


Action = (
    Spawn
    | Promote
    | Send
    | Explain
    | Abort
    | Kill
    | StartTemplate
    | StopTemplate
    | AbortTemplate
    | KillTemplate
    | StartStatus
    | StopStatus
    | KillStatus
    | StartSuccessor
    | StopSuccessor
    | KillSuccessor
    | TellReady
    | TakeOver
    | StopQueueing
    | Serving
    | Stopping
    | Resized
    | Reloaded
    | RolledBack
    | Gone
    | Say
    | Exit
)
