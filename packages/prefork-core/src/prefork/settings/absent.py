# SPDX-License-Identifier: MIT
"""The settings of gunicorn 27 that prefork does not have, and what to do instead.

What a setting without effect would do to an operator decides its verdict: one that only
tunes or observes is ignored with a warning, one that changes what clients get, who is
trusted or where logs go is refused. Settings that prefork has are not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from prefork.settings.kinds import Shape


class Verdict(Enum):
    """What becomes of a setting that prefork does not have."""

    IGNORED = "ignored, with a warning"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Absent:
    """A setting of gunicorn's that prefork does not have.

    Args:
        name: its name in configuration files.
        verdict: what becomes of it.
        instead: what to do instead.
        flags: its spellings on gunicorn's command line.
        shape: how that gives it.
        asks_nothing: values, as texts, that ask for what prefork does anyway.
        is_hook: whether it is a function of a configuration file.
    """

    name: str
    verdict: Verdict
    instead: str
    flags: tuple[str, ...] = ()
    shape: Shape = Shape.ONE
    asks_nothing: tuple[str, ...] = ()
    is_hook: bool = False

    def matters(self, value: object) -> bool:
        """Return whether a value asks for something that prefork does not do."""
        return bool(value) and str(value).strip().lower() not in (*_OFF, *self.asks_nothing)

    def __str__(self) -> str:
        return f"prefork does not have gunicorn's {self.name}: {self.instead}"


_OFF: Final = ("", "0", "false", "no", "off", "none")

_TLS: Final = "TLS is not in this version: end it in a proxy in front, and name that in forwarded_allow_ips."
_TLS_ONLY: Final = "it only concerns TLS, which is not in this version."
_HTTP2: Final = "HTTP/1.1 only: let a proxy in front speak HTTP/2 to clients."
_PROXY: Final = "the PROXY protocol is not in this version: let the balancer set X-Forwarded-* fields."
_UWSGI: Final = "only HTTP is spoken: use proxy_pass (not uwsgi_pass) in front."
_ASGI_LOOP: Final = "ASGI applications are served by -k aio (pip install prefork-aio): set aio_loop."
_ASGI_LIFESPAN: Final = "ASGI applications are served by -k aio (pip install prefork-aio): set aio_lifespan."
_ASGI_LEFT: Final = "with -k aio an application learns at once that its client has left, and may go on."
_WEBSOCKETS: Final = "WebSockets of ASGI are served by -k aio: set aio_websocket_max_size."
_DIRTY: Final = "there are no dirty arbiters: run long tasks in a task queue (Celery, RQ, Dramatiq)."
_STRICT: Final = "messages that RFC 9112 lets a server refuse are always refused: mend the client or proxy."
_SYSLOG: Final = (
    "send the log on by journald or the container's log driver, or by a handler in logconfig_dict."
)
_SYSLOG_ONLY: Final = "it only concerns syslog: configure a SysLogHandler in logconfig_dict."
_LOGCONFIG: Final = "load the file in the configuration file and give the result as logconfig_dict."
_ENGINE: Final = (
    "reload has one, watchfiles. The variable WATCHFILES_FORCE_POLLING makes it poll, where that is needed."
)
_PASTE: Final = "load it in a module: `app = paste.deploy.loadapp('config:file.ini', relative_to='.')`."
_COMMAND: Final = "give it on the command line."

_IGNORED: Final = Verdict.IGNORED
_REFUSED: Final = Verdict.REFUSED
_SWITCH: Final = Shape.SWITCH
_MANY: Final = Shape.MANY

_ROWS: Final = (
    # Commands of ours, too; in gunicorn they may stand in a file.
    Absent("check_config", _IGNORED, _COMMAND),
    Absent("print_config", _IGNORED, _COMMAND),
    # Control
    Absent(
        "control_socket_mode",
        _IGNORED,
        "it is always 0600: root and the user who starts the server may ask.",
        ("--control-socket-mode",),
        asks_nothing=("384", "0o600", "0600", "600"),
    ),
    Absent(
        "control_socket_disable",
        _IGNORED,
        "there is no control socket unless control_socket names one.",
        ("--no-control-socket",),
        _SWITCH,
        asks_nothing=("true", "1", "yes", "on"),
    ),
    # Debugging
    Absent("reload_engine", _IGNORED, _ENGINE, ("--reload-engine",), asks_nothing=("auto", "inotify")),
    Absent("spew", _IGNORED, "use a debugger or `python -m trace`.", ("--spew",), _SWITCH),
    # Dirty arbiters
    Absent("dirty_apps", _REFUSED, _DIRTY, ("--dirty-app",), _MANY),
    Absent("dirty_workers", _REFUSED, _DIRTY, ("--dirty-workers",)),
    Absent("dirty_timeout", _IGNORED, _DIRTY, ("--dirty-timeout",), asks_nothing=("300",)),
    Absent("dirty_threads", _IGNORED, _DIRTY, ("--dirty-threads",), asks_nothing=("1",)),
    Absent("dirty_graceful_timeout", _IGNORED, _DIRTY, ("--dirty-graceful-timeout",), asks_nothing=("30",)),
    Absent("on_dirty_starting", _IGNORED, _DIRTY, is_hook=True),
    Absent("dirty_post_fork", _IGNORED, _DIRTY, is_hook=True),
    Absent("dirty_worker_init", _IGNORED, _DIRTY, is_hook=True),
    Absent("dirty_worker_exit", _IGNORED, _DIRTY, is_hook=True),
    # HTTP/2
    Absent("http_protocols", _REFUSED, _HTTP2, ("--http-protocols",), asks_nothing=("h1",)),
    Absent("http2_cleartext", _REFUSED, _HTTP2, ("--http2-cleartext",)),
    Absent("http2_max_concurrent_streams", _IGNORED, _HTTP2, ("--http2-max-concurrent-streams",)),
    Absent("http2_initial_window_size", _IGNORED, _HTTP2, ("--http2-initial-window-size",)),
    Absent("http2_max_frame_size", _IGNORED, _HTTP2, ("--http2-max-frame-size",)),
    Absent("http2_max_header_list_size", _IGNORED, _HTTP2, ("--http2-max-header-list-size",)),
    # Logging
    Absent(
        "disable_redirect_access_to_syslog",
        _IGNORED,
        "the access log never goes to syslog.",
        ("--disable-redirect-access-to-syslog",),
        _SWITCH,
    ),
    Absent(
        "logger_class",
        _REFUSED,
        "use log_format = json, access_log_format, or handlers and formatters in logconfig_dict.",
        ("--logger-class",),
        asks_nothing=("gunicorn.glogging.logger",),
    ),
    Absent("logconfig", _REFUSED, _LOGCONFIG, ("--log-config",)),
    Absent("logconfig_json", _REFUSED, _LOGCONFIG, ("--log-config-json",)),
    Absent("syslog", _REFUSED, _SYSLOG, ("--log-syslog",), _SWITCH),
    Absent("syslog_addr", _IGNORED, _SYSLOG_ONLY, ("--log-syslog-to",)),
    Absent("syslog_prefix", _IGNORED, _SYSLOG_ONLY, ("--log-syslog-prefix",)),
    Absent("syslog_facility", _IGNORED, _SYSLOG_ONLY, ("--log-syslog-facility",)),
    Absent(
        "enable_stdio_inheritance",
        _IGNORED,
        "a daemon always leaves its terminal: set errorlog and capture_output.",
        ("-R", "--enable-stdio-inheritance"),
        _SWITCH,
    ),
    Absent(
        "enable_backlog_metric",
        _IGNORED,
        "`%(Q)s` in access_log_format is the time for which a request has waited.",
        ("--enable-backlog-metric",),
        _SWITCH,
    ),
    # Process naming
    Absent("default_proc_name", _IGNORED, "set proc_name.", asks_nothing=("gunicorn",)),
    # SSL
    Absent("certfile", _REFUSED, _TLS, ("--certfile",)),
    Absent("keyfile", _REFUSED, _TLS, ("--keyfile",)),
    Absent("ca_certs", _REFUSED, _TLS, ("--ca-certs",)),
    Absent("cert_reqs", _REFUSED, _TLS, ("--cert-reqs",)),
    Absent("ciphers", _REFUSED, _TLS, ("--ciphers",)),
    Absent("ssl_context", _REFUSED, _TLS, is_hook=True),
    Absent("ssl_version", _IGNORED, _TLS_ONLY, ("--ssl-version",)),
    Absent("do_handshake_on_connect", _IGNORED, _TLS_ONLY, ("--do-handshake-on-connect",), _SWITCH),
    Absent(
        "suppress_ragged_eofs",
        _IGNORED,
        _TLS_ONLY,
        ("--suppress-ragged-eofs",),
        _SWITCH,
        asks_nothing=("true",),
    ),
    # Server mechanics
    Absent(
        "reuse_port",
        _IGNORED,
        "workers share one queue, so that none is stranded behind a busy worker.",
        ("--reuse-port",),
        _SWITCH,
    ),
    Absent(
        "worker_tmp_dir", _IGNORED, "workers share memory with the arbiter, not files.", ("--worker-tmp-dir",)
    ),
    Absent("tmp_upload_dir", _IGNORED, "gunicorn does not read it either: set TMPDIR."),
    Absent("strip_header_spaces", _REFUSED, _STRICT, ("--strip-header-spaces",), _SWITCH),
    Absent("permit_obsolete_folding", _REFUSED, _STRICT, ("--permit-obsolete-folding",), _SWITCH),
    Absent(
        "permit_unconventional_http_method",
        _REFUSED,
        "any upper-case token is a method without it, and lower-case ones are always refused: delete it.",
        ("--permit-unconventional-http-method",),
        _SWITCH,
    ),
    Absent(
        "permit_unconventional_http_version",
        _REFUSED,
        _STRICT,
        ("--permit-unconventional-http-version",),
        _SWITCH,
    ),
    Absent(
        "casefold_http_method",
        _REFUSED,
        "methods are case-sensitive (RFC 9110 section 9.1): mend the client, or fold them in a middleware.",
        ("--casefold-http-method",),
        _SWITCH,
    ),
    Absent("paste", _REFUSED, _PASTE, ("--paste", "--paster")),
    Absent("raw_paste_global_conf", _REFUSED, _PASTE, ("--paste-global",), _MANY),
    Absent("proxy_protocol", _REFUSED, _PROXY, ("--proxy-protocol",)),
    Absent(
        "proxy_allow_ips",
        _IGNORED,
        _PROXY,
        ("--proxy-allow-from",),
        asks_nothing=("127.0.0.1,::1", "127.0.0.1"),
    ),
    Absent("protocol", _REFUSED, _UWSGI, ("--protocol",), asks_nothing=("http",)),
    Absent(
        "uwsgi_allow_ips",
        _IGNORED,
        _UWSGI,
        ("--uwsgi-allow-from",),
        asks_nothing=("127.0.0.1,::1", "127.0.0.1"),
    ),
    Absent(
        "root_path",
        _REFUSED,
        "set SCRIPT_NAME in a trusted proxy, mount the application below the path in a middleware, or, for an"
        " ASGI application whose proxy takes the path off, set aio_root_path.",
        ("--root-path",),
    ),
    # Worker processes
    Absent("asgi_loop", _IGNORED, _ASGI_LOOP, ("--asgi-loop",), asks_nothing=("auto",)),
    Absent("asgi_lifespan", _IGNORED, _ASGI_LIFESPAN, ("--asgi-lifespan",), asks_nothing=("auto",)),
    Absent("asgi_disconnect_grace_period", _IGNORED, _ASGI_LEFT, ("--asgi-disconnect-grace-period",)),
    Absent("websocket_max_message_size", _IGNORED, _WEBSOCKETS, ("--websocket-max-message-size",)),
    Absent("http_parser", _IGNORED, "there is one parser for all workers.", ("--http-parser",)),
)

ABSENT: Final = {row.name: row for row in _ROWS}
"""The settings that prefork does not have, by name."""
