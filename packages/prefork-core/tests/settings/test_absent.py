# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.hooks import TABLE as HOOKS
from prefork.settings import Settings
from prefork.settings.absent import ABSENT, Absent, Verdict
from prefork.settings.option import Table

# Every setting of gunicorn 27.0.1, by section of its documentation.
GUNICORN = tuple(
    """
config wsgi_app
control_socket control_socket_mode control_socket_disable
reload reload_engine reload_extra_files spew check_config print_config
dirty_apps dirty_workers dirty_timeout dirty_threads dirty_graceful_timeout
on_dirty_starting dirty_post_fork dirty_worker_init dirty_worker_exit
http_protocols http2_cleartext http2_max_concurrent_streams http2_initial_window_size http2_max_frame_size
http2_max_header_list_size
accesslog access_log_format disable_redirect_access_to_syslog errorlog loglevel capture_output logger_class
logconfig logconfig_dict logconfig_json syslog syslog_addr syslog_prefix syslog_facility
enable_stdio_inheritance statsd_host statsd_prefix dogstatsd_tags enable_backlog_metric
proc_name default_proc_name
keyfile certfile ca_certs cert_reqs ciphers do_handshake_on_connect suppress_ragged_eofs ssl_version
limit_request_line limit_request_fields limit_request_field_size
on_starting on_reload when_ready pre_fork post_fork post_worker_init worker_int worker_abort pre_exec
pre_request post_request child_exit worker_exit nworkers_changed on_exit ssl_context
preload_app sendfile reuse_port chdir daemon raw_env pidfile worker_tmp_dir user group umask initgroups
tmp_upload_dir secure_scheme_headers forwarded_allow_ips forwarder_headers header_map strip_header_spaces
permit_obsolete_folding permit_unconventional_http_method permit_unconventional_http_version
casefold_http_method pythonpath paste raw_paste_global_conf proxy_protocol proxy_allow_ips protocol
uwsgi_allow_ips root_path
bind backlog
workers worker_class threads worker_connections max_requests max_requests_jitter timeout graceful_timeout
keepalive asgi_loop asgi_lifespan asgi_disconnect_grace_period websocket_max_message_size http_parser
""".split()  # noqa: SIM905  (a hundred quoted names are harder to compare)
)


def test_the_inventory_is_whole() -> None:
    assert len(set(GUNICORN)) == len(GUNICORN) == 120


@pytest.mark.parametrize("name", GUNICORN)
def test_every_setting_of_gunicorn_is_ours_or_answered(name: str) -> None:
    owners = [name in Table(Settings), name in HOOKS, name in ABSENT]
    assert owners.count(True) == 1


def test_nothing_is_answered_that_gunicorn_does_not_have() -> None:
    assert set(ABSENT) <= set(GUNICORN)


def test_no_flag_of_gunicorn_has_another_meaning_here() -> None:
    theirs = [flag for row in ABSENT.values() for flag in row.flags]
    assert len(theirs) == len(set(theirs))
    assert not set(theirs) & set(Table(Settings).flags)


@pytest.mark.parametrize("row", ABSENT.values(), ids=lambda row: row.name)
def test_every_answer_is_a_sentence(row: Absent) -> None:
    assert row.instead.endswith((".", "`"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dirty_threads", 1),
        ("dirty_threads", "1"),
        ("certfile", None),
        ("reuse_port", False),
        ("proxy_protocol", "off"),
        ("http_protocols", "h1"),
        ("dirty_apps", []),
        ("suppress_ragged_eofs", True),
    ],
)
def test_a_value_that_asks_for_nothing_does_not_matter(name: str, value: object) -> None:
    assert not ABSENT[name].matters(value)


@pytest.mark.parametrize("name", ["certfile", "proxy_protocol", "permit_obsolete_folding", "protocol"])
def test_what_changes_security_or_behaviour_is_refused(name: str) -> None:
    assert ABSENT[name].verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("asgi_loop", "aio_loop"),
        ("asgi_lifespan", "aio_lifespan"),
        ("websocket_max_message_size", "aio_websocket_max_size"),
        ("root_path", "aio_root_path"),
    ],
)
def test_what_the_worker_class_for_asgi_has_is_named(name: str, ours: str) -> None:
    assert f" {ours}." in ABSENT[name].instead


@pytest.mark.parametrize(
    "name", ["worker_tmp_dir", "reuse_port", "control_socket_mode", "enable_backlog_metric"]
)
def test_what_only_tunes_is_ignored(name: str) -> None:
    assert ABSENT[name].verdict is Verdict.IGNORED
