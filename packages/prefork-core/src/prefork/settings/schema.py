# SPDX-License-Identifier: MIT
"""Every setting of the server itself: name, type, default, flags, meaning.

This is the one place where a setting is declared. Names, flags and meanings are gunicorn's
wherever the meaning is the same; where it is not, `gunicorn=` says so, and errors and the
reference page quote it. Nothing here reads a source of settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from prefork.settings.kinds import (
    account,
    assignments,
    choice,
    dictionary,
    field_names,
    field_value,
    fields,
    listing,
    mode,
    networks,
    optional_mode,
    optional_text,
    seconds,
    size,
    size_or_share,
    switch,
    targets,
    text,
    whole,
    whole_or_auto,
)
from prefork.settings.option import option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork.settings.option import Group, Option

G = TypeVar("G", bound="Group")

_APPLICATION: Final = "Application"
_SOCKETS: Final = "Sockets"
_WORKERS: Final = "Workers"
_TIME: Final = "Limits of time"
_REQUESTS: Final = "Limits of a request"
_HEADERS: Final = "Headers and proxies"
_PROCESS: Final = "Process"
_LOGGING: Final = "Logging"
_DEVELOPMENT: Final = "Development"

MOST_THREADS: Final = 256
"""As many as a slot of the scoreboard has records for."""

MOST_WORKERS: Final = 512
"""Two generations, old and new, must fit into the scoreboard's 1,024 slots."""

_MOST_MEMORY: Final = 2**50

DEFAULT_ACCESS_FORMAT: Final = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

_SECURE_SCHEME_HEADERS: Final = MappingProxyType(
    {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings of a server. `Settings()` holds the built-in defaults."""

    config: str | None = option(
        _APPLICATION,
        optional_text("FILE", "a path, `file:PATH` or `python:MODULE`"),
        None,
        flags=("-c", "--config"),
        in_files=False,
        help=(
            "The configuration file: Python, or TOML if its name ends in `.toml`. By default the first that"
            " exists of prefork.conf.py, prefork.toml and a pyproject.toml with [tool.prefork]."
        ),
        gunicorn="gunicorn.conf.py is only read when named by -c.",
    )
    wsgi_app: str | None = option(
        _APPLICATION,
        optional_text("MODULE:APP", "an application such as `module:app` or `module:create_app()`"),
        None,
        flags=(),
        help=(
            "The application: a module and a name in it, or a factory to be called. A file can have it as"
            " wsgi_app; then it can be left out here."
        ),
    )
    chdir: str | None = option(
        _APPLICATION,
        optional_text("FOLDER", "a folder"),
        None,
        help="Change to this folder before the application is loaded; modules in it are importable.",
    )
    pythonpath: tuple[str, ...] = option(
        _APPLICATION,
        listing("FOLDERS", "folders, divided by commas"),
        (),
        help="More folders to import from.",
    )
    raw_env: tuple[str, ...] = option(
        _APPLICATION,
        assignments(),
        (),
        flags=("-e", "--env"),
        help="Environment variables to set before the application is loaded.",
    )

    bind: tuple[str, ...] = option(
        _SOCKETS,
        listing("ADDRESS", "addresses: HOST:PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER, divided by commas"),
        ("127.0.0.1:8000",),
        flags=("-b", "--bind"),
        help="Where to listen: HOST:PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER. May be repeated.",
    )
    backlog: int = option(
        _SOCKETS,
        whole(at_least=1),
        2048,
        help="How many connections may wait in the kernel; it caps this at its own limit (somaxconn).",
    )
    unix_socket_mode: int = option(
        _SOCKETS,
        mode(),
        0o660,
        help="The mode of Unix sockets.",
    )

    workers: int | Literal["auto"] = option(
        _WORKERS,
        whole_or_auto(1, MOST_WORKERS),
        "auto",
        flags=("-w", "--workers"),
        help=(
            "How many worker processes serve. `auto` is two for each CPU that the process may use (cgroup"
            " quota, affinity) and one more. The variable WEB_CONCURRENCY changes the default. With"
            " max_workers: how many at the start."
        ),
        gunicorn="The default is `auto`, not 1.",
    )
    min_workers: int = option(
        _WORKERS,
        whole(1, MOST_WORKERS),
        1,
        help="With max_workers: how many workers there are at least, however low the load is.",
    )
    max_workers: int = option(
        _WORKERS,
        whole(0, MOST_WORKERS),
        0,
        help=(
            "Let the load decide how many workers there are, from min_workers to this. More are started"
            " within a second when all threads are busy; one at a time goes after half a minute of low load."
            " 0 keeps the number at workers."
        ),
    )
    worker_class: str = option(
        _WORKERS,
        text("NAME", "the name of an installed worker"),
        "sync",
        flags=("-k", "--worker-class"),
        help="The kind of worker, by the name that its package registers.",
    )
    threads: int = option(
        _WORKERS,
        whole(1, MOST_THREADS),
        1,
        flags=("--threads",),
        help=(
            "How many threads of each worker call the application. More than one makes a sync worker a"
            " gthread worker."
        ),
    )
    worker_connections: int = option(
        _WORKERS,
        whole(at_least=1),
        1000,
        help="How many connections one worker holds at most.",
    )
    max_requests: int = option(
        _WORKERS,
        whole(),
        0,
        help="Replace a worker after so many requests, the successor first; 0 never.",
    )
    max_requests_jitter: int = option(
        _WORKERS,
        whole(),
        0,
        help="Add a random number up to this to max_requests, so that workers are not replaced together.",
    )
    max_worker_lifetime: float = option(
        _WORKERS,
        seconds(),
        0.0,
        help="Replace a worker that has served for so long, the successor first. Seconds; 0 never.",
    )
    max_worker_lifetime_jitter: float = option(
        _WORKERS,
        seconds(),
        0.0,
        help="Add up to this to max_worker_lifetime, so that workers are not replaced together. Seconds.",
    )
    max_worker_memory: int = option(
        _WORKERS,
        size(0, _MOST_MEMORY),
        0,
        help=(
            "Replace a worker that has grown and has more memory of its own, the successor first. What it"
            " shares with other processes does not count. Bytes; 0 never."
        ),
    )
    max_worker_memory_hard: int = option(
        _WORKERS,
        size(0, _MOST_MEMORY),
        0,
        help="Kill a worker that has more memory of its own, with its requests. Bytes; 0 never.",
    )
    max_memory: int | str = option(
        _WORKERS,
        size_or_share(_MOST_MEMORY),
        0,
        help=(
            "Replace the largest worker that has grown while all together have more memory of their own."
            " Bytes, or a share such as `80%` of what the cgroup, or the machine, has; 0 never."
        ),
    )
    reload_batch: int = option(
        _WORKERS,
        whole(0, MOST_WORKERS),
        0,
        help="How many workers a reload starts at a time; 0 is a quarter of them, at least one.",
    )
    preload_app: bool = option(
        _WORKERS,
        switch(),
        False,
        flags=("--preload",),
        help=(
            "Load the application once, in a template process that forks the workers, so that they share its"
            " memory. Linux only; elsewhere each worker loads it, with a warning."
        ),
        gunicorn="A reload loads new code, too, and the arbiter never imports the application.",
    )
    warmup: tuple[str, ...] = option(
        _WORKERS,
        targets(),
        (),
        help=(
            "A path, or a URL if the host matters, that the template has the application answer before it"
            " forks. An exception, or a status of 500 or more, is a failed boot. May be repeated."
        ),
    )
    refork: int = option(
        _WORKERS,
        whole(),
        0,
        help=(
            "Make a worker that has answered so many requests the next template, once in each generation, and"
            " replace the others by workers that it forks: they share what requests have made. Needs"
            " preload_app; 0 never."
        ),
    )

    timeout: float = option(
        _TIME,
        seconds(),
        30.0,
        flags=("-t", "--timeout"),
        help=(
            "Kill a worker whose request makes no progress for so long, after its other threads have finished"
            " theirs. Seconds; 0 never."
        ),
        gunicorn="A client that is slow to send or take bytes is not counted here.",
    )
    request_timeout: float = option(
        _TIME,
        seconds(),
        0.0,
        help=(
            "Kill a worker whose request takes longer, however much progress it makes. Seconds; 0 never. The"
            " time for which the application waits for its client does not count."
        ),
    )
    slow_request: float = option(
        _TIME,
        seconds(),
        0.0,
        help=(
            "Log a request that takes longer, with the stacks of its worker, while it runs on. Seconds; 0"
            " never. Waits for the client do not count."
        ),
    )
    blocked_loop: float = option(
        _TIME,
        seconds(),
        2.0,
        help=(
            "Log, with its stacks, that a worker whose requests share one loop (gevent, tornado, …) does not"
            " turn it for so long, because a call blocks all of them. Seconds; 0 never. After `timeout` it is"
            " killed."
        ),
    )
    graceful_timeout: float = option(
        _TIME,
        seconds(),
        30.0,
        help="How long running requests may take to finish when a worker must stop. Seconds; 0 for ever.",
    )
    boot_timeout: float = option(
        _TIME,
        seconds(),
        60.0,
        help="How long a worker may take from its fork until it is ready. Seconds; 0 for ever.",
    )
    header_timeout: float = option(
        _TIME,
        seconds(),
        10.0,
        help="How long the head of a request may take from its first byte on. Seconds; 0 for ever.",
    )
    body_timeout: float = option(
        _TIME,
        seconds(),
        30.0,
        help="How long to wait for more of a request's body. Seconds; 0 for ever.",
    )
    write_timeout: float = option(
        _TIME,
        seconds(),
        30.0,
        help="How long to wait until a client takes more of a response. Seconds; 0 for ever.",
    )
    keepalive: float = option(
        _TIME,
        seconds(),
        75.0,
        flags=("--keep-alive",),
        help=(
            "How long a connection may be idle between requests. Seconds; 0 closes after each response, as"
            " a sync worker always does."
        ),
        gunicorn="The default is 75, not 2: above the idle time of common balancers.",
    )
    queue_timeout: float = option(
        _TIME,
        seconds(),
        0.0,
        help=(
            "Answer 503 to a request that had to wait longer for a thread. Seconds; 0 never. The time in the"
            " kernel's queues counts, and that since the X-Request-Start of a trusted proxy."
        ),
    )
    drain_delay: float = option(
        _TIME,
        seconds(),
        0.0,
        help=(
            "How long to go on serving after TERM, so that balancers notice, while each response says that it"
            " is the last on its connection. Seconds."
        ),
    )
    min_rate: int = option(
        _TIME,
        size(0, 2**31 - 1),
        100,
        help="Bytes per second below which a body or response is a stall. 0 turns it off.",
    )

    limit_request_line: int = option(
        _REQUESTS,
        size(16, 1024**2),
        8190,
        help="Bytes of the request line.",
        gunicorn="There is no unlimited (0), and the value counts as given: gunicorn caps it at 8190.",
    )
    limit_request_fields: int = option(
        _REQUESTS,
        whole(1, 32768),
        100,
        help="How many header fields a request may have.",
    )
    limit_request_field_size: int = option(
        _REQUESTS,
        size(16, 1024**2),
        8190,
        flags=("--limit-request-field_size", "--limit-request-field-size"),
        help="Bytes of one header field, name and value.",
        gunicorn="There is no unlimited (0).",
    )

    body_memory: int = option(
        _REQUESTS,
        size(0, 2**40),
        64 * 1024**2,
        help=(
            "Memory of a worker for request bodies that arrive before the application is called, so that slow"
            " uploads hold no thread. Bodies up to 64 KiB always do, larger ones up to an eighth of this."
        ),
    )

    header_map: str = option(
        _HEADERS,
        choice("drop", "refuse"),
        "drop",
        help="What becomes of header fields with an underscore in the name, which could pose as others.",
        gunicorn="`dangerous` does not exist: rename the fields, or list them in forwarder_headers.",
    )
    forwarded_allow_ips: tuple[str, ...] = option(
        _HEADERS,
        networks(),
        ("127.0.0.1", "::1"),
        help=(
            "Peers whose proxy headers count: addresses, CIDR networks, or * for all. Unix peers always do."
            " The variable FORWARDED_ALLOW_IPS changes the default."
        ),
    )
    secure_scheme_headers: Mapping[str, str] = option(
        _HEADERS,
        fields(),
        _SECURE_SCHEME_HEADERS,
        flags=(),
        help="Header fields, and the value of each, by which a trusted proxy says that its client used TLS.",
    )
    forwarder_headers: tuple[str, ...] = option(
        _HEADERS,
        field_names(),
        ("SCRIPT_NAME", "PATH_INFO"),
        help="Fields with an underscore in the name that a trusted proxy may send; * for any.",
    )
    server_header: str = option(
        _HEADERS,
        field_value(),
        "prefork",
        help="The value of the Server field in responses; empty for none.",
    )

    daemon: bool = option(
        _PROCESS,
        switch(),
        False,
        flags=("-D", "--daemon"),
        help="Run in the background.",
    )
    pidfile: str | None = option(
        _PROCESS,
        optional_text("FILE", "a path"),
        None,
        flags=("-p", "--pid"),
        help="Write the arbiter's process id to this file, and lock it.",
    )
    control_socket: str | None = option(
        _PROCESS,
        optional_text("PATH", "a path"),
        None,
        help=(
            "Listen on this Unix socket for `preforkctl`, which shows and steers the server. Only root and"
            " the user who starts the server can use it; by default there is none."
        ),
        gunicorn="There is none by default, so no two servers can share one by accident.",
    )
    status_bind: tuple[str, ...] = option(
        _PROCESS,
        listing("ADDRESS", "addresses: HOST:PORT, [IPV6]:PORT, unix:PATH or fd://NUMBER, divided by commas"),
        (),
        help=(
            "Answer probes at /livez and /readyz, and /status and /metrics, on this address, by a process of"
            " its own, which does so when every worker is stuck. Addresses are as of bind. May be repeated;"
            " by default there is none."
        ),
    )
    user: str | int | None = option(
        _PROCESS,
        account(),
        None,
        flags=("-u", "--user"),
        help="The user, name or number, that workers run as.",
    )
    group: str | int | None = option(
        _PROCESS,
        account(),
        None,
        flags=("-g", "--group"),
        help="The group, name or number, that workers run as.",
    )
    initgroups: bool = option(
        _PROCESS,
        switch(),
        False,
        help="Give workers all groups of their user.",
    )
    umask: int | None = option(
        _PROCESS,
        optional_mode(),
        None,
        flags=("-m", "--umask"),
        help="The file mode creation mask; by default the inherited one.",
        gunicorn="The default is the inherited mask, not 0; Unix sockets have unix_socket_mode.",
    )
    proc_name: str | None = option(
        _PROCESS,
        optional_text("NAME", "a name"),
        None,
        flags=("-n", "--name"),
        help="The name in process titles; by default the application.",
    )
    sendfile: bool = option(
        _PROCESS,
        switch(),
        True,
        help="Send files of wsgi.file_wrapper with sendfile(2).",
        gunicorn="The variable SENDFILE is not read.",
    )

    accesslog: str | None = option(
        _LOGGING,
        optional_text("FILE", 'a path, or "-" for standard output'),
        None,
        flags=("--access-logfile",),
        help="Where to write a line for each request: a file, or - for standard output; by default nowhere.",
    )
    access_log_format: str = option(
        _LOGGING,
        text("FORMAT", "a format of %(atom)s"),
        DEFAULT_ACCESS_FORMAT,
        flags=("--access-logformat",),
        help="The format of that line.",
    )
    errorlog: str = option(
        _LOGGING,
        text("FILE", 'a path, or "-" for standard error'),
        "-",
        flags=("--error-logfile", "--log-file"),
        help="Where to write the server's own log: a file, or - for standard error.",
    )
    loglevel: str = option(
        _LOGGING,
        choice("debug", "info", "warning", "error", "critical"),
        "info",
        flags=("--log-level",),
        help="The least level that the server's own log shows.",
    )
    log_format: str = option(
        _LOGGING,
        choice("text", "json"),
        "text",
        help="The format of both logs.",
    )
    capture_output: bool = option(
        _LOGGING,
        switch(),
        False,
        help="Send standard output and error of workers to errorlog, if that is a file.",
    )
    logconfig_dict: Mapping[str, Any] | None = option(
        _LOGGING,
        dictionary(),
        None,
        help="A logging.config.dictConfig table, applied after the server's own logging is set up.",
    )
    statsd_host: str | None = option(
        _LOGGING,
        optional_text("HOST:PORT", "`HOST:PORT`, or `unix://PATH` of a datagram socket"),
        None,
        help="Send counts and times of requests to this statsd server.",
    )
    statsd_prefix: str | None = option(
        _LOGGING,
        optional_text("PREFIX", "a text"),
        None,
        help="What begins the name of each metric; a dot is added.",
    )
    dogstatsd_tags: str | None = option(
        _LOGGING,
        optional_text("TAGS", "tags, `name:value`, divided by commas"),
        None,
        help="Tags for each metric, in the form of DogStatsD.",
    )

    reload: bool = option(
        _DEVELOPMENT,
        switch(),
        False,
        help=(
            "Reload when a file of the application has changed. For development; needs"
            " `pip install 'prefork-core[reload]'`."
        ),
        gunicorn="Code that cannot be loaded, whatever it raises, leaves the old code serving.",
    )
    reload_extra_files: tuple[str, ...] = option(
        _DEVELOPMENT,
        listing("FILE", "paths or glob patterns, divided by commas"),
        (),
        flags=("--reload-extra-file",),
        help=(
            "More files that reload watches, such as templates: paths, folders with all that is below, or"
            " patterns such as `templates/**/*.html`. May be repeated."
        ),
    )

    contributed: tuple[tuple[Option, Any], ...] = field(default=(), repr=False)
    """The options of the worker class that serves, with their values; `of` has them by type."""

    def of(self, group: type[G]) -> G:
        """Return the options that a worker class has declared.

        Args:
            group: its `settings`; of other worker classes all values are the defaults.
        """
        given = {option.name: value for option, value in self.contributed}
        chosen = {name: given[name] for name in group.__dataclass_fields__ if name in given}
        return group(**chosen)
