# SPDX-License-Identifier: MIT
"""A generation: the settings that some workers run with, and what was opened for them.

It decides what a reload opens anew, what it keeps, and in which order, so that a failure
leaves all as it was. When workers of a generation are started is not known here.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from prefork import autoreload
from prefork.autoreload.imported import Imported
from prefork.errors import ConfigError, PreforkError
from prefork.net.listener import open_listener, parse_bind, stop_queueing
from prefork.observe.log import open_logs
from prefork.process import cpus, identity, lineage, memory
from prefork.settings.schema import MOST_WORKERS
from prefork.supervisor.messages import Policy
from prefork.workers import registry

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Mapping, Sequence

    from prefork.hooks import Hooks
    from prefork.net.listener import Listener
    from prefork.observe.log import Logs
    from prefork.settings import Loaded, Origin, Settings
    from prefork.worker import Worker

OF_THE_START: Final = ("daemon", "pidfile", "control_socket", "backlog", "unix_socket_mode", "umask")
"""Settings that a reload does not change."""
_OF_THE_LOGS: Final = (
    "accesslog",
    "access_log_format",
    "errorlog",
    "loglevel",
    "log_format",
    "logconfig_dict",
    "statsd_host",
    "statsd_prefix",
    "dogstatsd_tags",
)


@dataclass(frozen=True, slots=True)
class Generation:
    """The settings that some workers run with, and what was opened for them.

    Args:
        number: counts the reloads, from 1.
        settings: the settings.
        hooks: of the same configuration.
        folder: where its workers run, without symbolic links: a `current` that a deploy has
            moved since does not move workers that are started after a roll-back.
        worker_type: the class that serves.
        workers: how many, and why.
        listeners: what its workers accept from.
        logs: both logs.
        origins: where each setting is from.
        imported: where its workers say which files they have imported; None when nobody watches files.
        preload: whether a template forks its workers.
        status_listeners: where its status process answers probes.
    """

    number: int
    settings: Settings
    hooks: Hooks
    folder: str
    worker_type: type[Worker]
    workers: cpus.Count
    listeners: Sequence[Listener]
    logs: Logs
    origins: Mapping[str, Origin] = field(default_factory=dict)
    imported: Imported | None = None
    preload: bool = False
    status_listeners: Sequence[Listener] = ()

    @property
    def policy(self) -> Policy:
        """What the settings decide about supervision."""
        settings = self.settings
        return Policy(
            workers=self.workers.workers,
            min_workers=settings.min_workers,
            max_workers=settings.max_workers,
            # In development all at once, or old and new code would answer in turns.
            reload_batch=settings.reload_batch or (self.workers.workers if settings.reload else 0),
            boot_timeout=settings.boot_timeout,
            graceful_timeout=settings.graceful_timeout,
            drain_delay=settings.drain_delay,
            lifetime=settings.max_worker_lifetime,
            lifetime_jitter=settings.max_worker_lifetime_jitter,
            watched=settings.reload,
            memory=settings.max_worker_memory,
            memory_hard=settings.max_worker_memory_hard,
            memory_total=memory.allowance(settings.max_memory),
            preload=self.preload,
            status=bool(self.status_listeners),
            refork=settings.refork if self.preload and self.worker_type.reforks else 0,
        )

    @property
    def name(self) -> str:
        """What the server is called in process titles."""
        return self.settings.proc_name or self.settings.wsgi_app or ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What could be found wrong with settings before anything is opened, and is not."""

    worker_type: type[Worker]
    owner: identity.Owner | None
    workers: cpus.Count


def check(settings: Settings) -> Checked:
    """Look at all that can be wrong before a socket is opened or a process forked.

    Args:
        settings: the settings.

    Raises:
        ConfigError: an address, user, group or worker class cannot be used, files cannot be watched, or a
            limit cannot be kept.
    """
    for text in (*settings.bind, *settings.status_bind):
        parse_bind(text)
    identity.check_privileges(settings.user, settings.group)
    if settings.reload:
        autoreload.check_installed()
    memory.check(settings)
    return Checked(
        registry.serving(settings),
        identity.owner(settings.user, settings.group),
        _count(settings),
    )


def _count(settings: Settings) -> cpus.Count:
    """Return how many workers there are at first, and why.

    Raises:
        ConfigError: min_workers is above max_workers.
    """
    count = cpus.workers(settings.workers, MOST_WORKERS)
    least, most = settings.min_workers, settings.max_workers
    if not most:
        return count
    if least > most:
        raise ConfigError(f"min_workers is {least}, but max_workers only {most}")
    return cpus.Count(max(least, min(count.workers, most)), f"{least} to {most} as the load asks for")


def preloads(settings: Settings, log: logging.Logger) -> bool:
    """Return whether a template is to fork the workers, and prepare this process for its grandchildren.

    Args:
        settings: preload_app is read.
        log: told when the platform cannot do it.
    """
    if not settings.preload_app or settings.reload:
        return False  # after each save another template would be loaded; settings.idle says so
    if lineage.adopt_orphans():
        return True
    log.warning("preload_app has no effect: this platform has no subreapers, so each worker loads for itself")
    return False


def open_listeners(
    texts: Iterable[str],
    settings: Settings,
    owner: identity.Owner | None,
    there: Iterable[Listener] = (),
) -> list[Listener]:
    """Open a listener for each address; one that is there already is used again.

    Args:
        texts: the addresses, as `bind` has them.
        settings: backlog and unix_socket_mode are read.
        owner: whom Unix sockets are to belong to.
        there: open listeners.

    Raises:
        ConfigError: one cannot be opened; those opened for this call are closed again.
    """
    usable: defaultdict[str, list[Listener]] = defaultdict(list)
    for listener in there:
        usable[str(listener.address)].append(listener)
    fresh: list[Listener] = []
    found: list[Listener] = []
    try:
        for text in texts:
            address = parse_bind(text)
            if usable[str(address)]:
                found.append(usable[str(address)].pop(0))
            else:
                fresh.append(open_listener(address, settings.backlog, settings.unix_socket_mode, owner))
                found.append(fresh[-1])
    except PreforkError:
        close_listeners(fresh)
        raise
    return found


def close_listeners(listeners: Iterable[Listener]) -> None:
    """Close listeners for good, and remove the paths of Unix sockets that are ours.

    Args:
        listeners: no process needs them any more.
    """
    for listener in listeners:
        listener.close(unlink=True)


def quiet(listeners: Iterable[Listener]) -> None:
    """Let the queues of listeners run dry.

    Args:
        listeners: nobody is to be queued there any more.
    """
    for listener in listeners:
        stop_queueing(listener)


def follow(
    old: Generation, loaded: Loaded, number: int, start: str, inherited: Sequence[Listener]
) -> Generation:
    """Make the next generation; the process changes its folder and logs to it.

    Args:
        old: the present one.
        loaded: the new settings.
        number: of the new one.
        start: the folder that the server was started in.
        inherited: listeners from systemd, which stand in for `bind`.

    Returns:
        The new generation, which shares with the old one what has not changed.

    Raises:
        ConfigError: something cannot be opened; then all is as it was.
    """
    settings = loaded.settings
    checked = check(settings)
    folder = enter_folder(settings, start)
    listeners: Sequence[Listener] = inherited
    probed: Sequence[Listener] = ()
    try:
        try:
            if not inherited:
                listeners = open_listeners(settings.bind, settings, checked.owner, old.listeners)
            probed = open_listeners(settings.status_bind, settings, checked.owner, old.status_listeners)
            logs = _follow_logs(old, settings, folder, checked.owner)
        except PreforkError:
            there = [*old.listeners, *old.status_listeners, *inherited]
            close_listeners(listener for listener in (*listeners, *probed) if listener not in there)
            raise
    except PreforkError:
        os.chdir(old.folder)
        raise
    return Generation(
        number,
        settings,
        loaded.hooks,
        folder,
        checked.worker_type,
        checked.workers,
        listeners,
        logs,
        loaded.origins,
        old.imported or imported(settings),
        preloads(settings, logs.error),
        probed,
    )


def imported(settings: Settings) -> Imported | None:
    """Return a list for what workers import, None when nobody watches files.

    Args:
        settings: reload is read.
    """
    return Imported() if settings.reload else None


def enter_folder(settings: Settings, start: str) -> str:
    """Change to the folder that workers run in, and return it without symbolic links.

    Args:
        settings: chdir is read.
        start: the folder that the server was started in.

    Raises:
        ConfigError: there is no such folder.
    """
    folder = os.path.realpath(os.path.join(start, settings.chdir or ""))
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(f"chdir: cannot change to {folder}: {error.strerror}") from error
    return folder


def _follow_logs(old: Generation, settings: Settings, folder: str, owner: identity.Owner | None) -> Logs:
    same = all(getattr(settings, name) == getattr(old.settings, name) for name in _OF_THE_LOGS)
    if same and folder == old.folder:
        return old.logs
    return open_logs(settings, owner)
