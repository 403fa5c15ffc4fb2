# SPDX-License-Identifier: MIT
"""The hooks of a configuration file: their names, signatures, and when each one runs.

Names and signatures are gunicorn's. A hook is checked when the configuration is loaded, so
that a wrong one stops a start or a reload and not a request. This module never calls one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from prefork.settings import Settings


class Server(Protocol):
    """What hooks are given as `server`: the arbiter's facts."""

    @property
    def pid(self) -> int:
        """The arbiter's process id."""

    @property
    def cfg(self) -> Settings:
        """The resolved settings."""

    @property
    def log(self) -> logging.Logger:
        """The error log."""

    @property
    def num_workers(self) -> int:
        """How many workers there should be."""


class Worker(Protocol):
    """What hooks are given as `worker`: the facts of one worker process."""

    @property
    def pid(self) -> int:
        """Its process id; 0 before it is forked."""

    @property
    def age(self) -> int:
        """A number that grows with every worker started."""

    @property
    def cfg(self) -> Settings:
        """The resolved settings."""

    @property
    def log(self) -> logging.Logger:
        """The error log."""


class Process(Enum):
    """The process that runs a hook."""

    ARBITER = "arbiter"
    WORKER = "worker"
    SUCCESSOR = "new process"


ServerHook: TypeAlias = Callable[[Server], object]
WorkerHook: TypeAlias = Callable[[Worker], object]
ServerWorkerHook: TypeAlias = Callable[[Server, Worker], object]
NumberHook: TypeAlias = Callable[[Server, int, int | None], object]
RequestHook: TypeAlias = Callable[[Worker, Any], object]
ResponseHook: TypeAlias = Callable[[Worker, Any, Any, Any], object]


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one configuration; None where there is none. `TABLE` says when each runs."""

    on_starting: ServerHook | None = None
    on_reload: ServerHook | None = None
    when_ready: ServerHook | None = None
    pre_fork: ServerWorkerHook | None = None
    post_fork: ServerWorkerHook | None = None
    post_worker_init: WorkerHook | None = None
    worker_int: WorkerHook | None = None
    worker_abort: WorkerHook | None = None
    pre_request: RequestHook | None = None
    post_request: ResponseHook | None = None
    child_exit: ServerWorkerHook | None = None
    worker_exit: ServerWorkerHook | None = None
    nworkers_changed: NumberHook | None = None
    pre_exec: ServerHook | None = None
    on_exit: ServerHook | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """One kind of hook.

    Args:
        name: its name in a configuration file.
        parameters: the names of what it is given, in order.
        process: who runs it.
        moment: when.
        least: how few parameters it may take; fewer than all means the last are left out.
    """

    name: str
    parameters: tuple[str, ...]
    process: Process
    moment: str
    least: int

    def load(self, value: object) -> Callable[..., object]:
        """Check a value given for this hook.

        Args:
            value: a callable, or "module.function" or "module:function" naming one.

        Returns:
            A callable that takes all `parameters`.

        Raises:
            ValueError: it is not callable, cannot be imported, or takes other arguments.
        """
        function = _imported(value) if isinstance(value, str) else value
        if not callable(function):
            raise ValueError("it is not callable")  # noqa: TRY004  (one error for every wrong value)
        for count in range(len(self.parameters), self.least - 1, -1):
            if _takes(function, count):
                return function if count == len(self.parameters) else _first(function, count)
        raise ValueError(f"it cannot be called with ({', '.join(self.parameters)})")

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.parameters)})"


def _hook(signature: str, process: Process, moment: str, least: int | None = None) -> Hook:
    name, _, rest = signature.removesuffix(")").partition("(")
    parameters = tuple(rest.split(", "))
    return Hook(name, parameters, process, moment, len(parameters) if least is None else least)


_ALL: Final = (
    _hook("on_starting(server)", Process.ARBITER, "before listeners are opened"),
    _hook("on_reload(server)", Process.ARBITER, "on HUP, when the new configuration has been accepted"),
    _hook("when_ready(server)", Process.ARBITER, "when the first workers are ready to serve"),
    _hook("pre_fork(server, worker)", Process.ARBITER, "before each fork of a worker"),
    _hook(
        "post_fork(server, worker)",
        Process.WORKER,
        "after the fork; with preload_app privileges are dropped by then, else afterwards",
    ),
    _hook("post_worker_init(worker)", Process.WORKER, "when the application is loaded"),
    _hook("worker_int(worker)", Process.WORKER, "on INT or QUIT"),
    _hook("worker_abort(worker)", Process.WORKER, "on ABRT, which the arbiter sends on a timeout"),
    _hook("pre_request(worker, req)", Process.WORKER, "before the application is called"),
    _hook("post_request(worker, req, environ, resp)", Process.WORKER, "after each response", least=2),
    _hook("child_exit(server, worker)", Process.ARBITER, "when a worker has ended"),
    _hook("worker_exit(server, worker)", Process.WORKER, "before a worker exits"),
    _hook("nworkers_changed(server, new, old)", Process.ARBITER, "when the number of workers is changed"),
    _hook(
        "pre_exec(server)",
        Process.SUCCESSOR,
        "on USR2, in the new process before it becomes the new arbiter; one that raises ends the upgrade",
    ),
    _hook("on_exit(server)", Process.ARBITER, "last of all"),
)

TABLE: Final[Mapping[str, Hook]] = {hook.name: hook for hook in _ALL}
"""The hooks by name."""


def _imported(dotted: str) -> object:
    import importlib

    module, sign, name = dotted.partition(":") if ":" in dotted else dotted.rpartition(".")
    if not sign or not module or not name:
        raise ValueError('a text must be "module.function"')
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _takes(function: Callable[..., object], count: int) -> bool:
    import inspect

    try:
        inspect.signature(function).bind(*(None,) * count)
    except TypeError:
        return False
    except ValueError:
        return True  # Some callables written in C have no signature to check.
    return True


def _first(function: Callable[..., object], count: int) -> Callable[..., object]:
    return lambda *arguments: function(*arguments[:count])
