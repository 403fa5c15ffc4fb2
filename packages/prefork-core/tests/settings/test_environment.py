# SPDX-License-Identifier: MIT
from __future__ import annotations

from prefork.settings import Settings
from prefork.settings.environment import platform, prefixed, unread
from prefork.settings.option import Table


def found(environ: dict[str, str]) -> dict[str, tuple[object, str]]:
    return {item.name: (item.value, str(item.origin)) for item in prefixed(environ)}


def test_prefixed_variables_are_settings_by_their_lower_case_name() -> None:
    assert found({"PREFORK_WORKERS": "4", "HOME": "/"}) == {"workers": ("4", "env PREFORK_WORKERS")}


def test_the_variable_with_more_flags_is_no_setting() -> None:
    assert found({"PREFORK_CMD_ARGS": "-w4"}) == {}


def test_links_to_kubernetes_services_are_no_settings() -> None:
    """A cluster gives every pod such variables for a service named prefork or prefork-web."""
    links = {
        "PREFORK_SERVICE_HOST": "10.0.0.1",
        "PREFORK_WEB_SERVICE_PORT_HTTP": "80",
        "PREFORK_PORT": "tcp://10.0.0.1:80",
        "PREFORK_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert found(links) == {}


def test_a_plain_port_is_a_mistake_to_be_told() -> None:
    assert found({"PREFORK_PORT": "8000"}) == {"port": ("8000", "env PREFORK_PORT")}


def test_platform_variables_change_defaults_unless_they_are_empty() -> None:
    environ = {"PORT": "8080", "WEB_CONCURRENCY": "", "FORWARDED_ALLOW_IPS": "*"}
    given = [(item.name, item.value, str(item.origin)) for item in platform(Table(Settings), environ)]
    assert given == [
        ("bind", "0.0.0.0:8080", "env PORT"),
        ("forwarded_allow_ips", "*", "env FORWARDED_ALLOW_IPS"),
    ]


def test_arguments_for_gunicorn_are_pointed_out() -> None:
    assert list(unread({"GUNICORN_CMD_ARGS": "-w4"})) == [
        "GUNICORN_CMD_ARGS is not read: use PREFORK_CMD_ARGS"
    ]
    assert list(unread({})) == []
