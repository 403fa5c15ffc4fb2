# SPDX-License-Identifier: MIT
from __future__ import annotations

import base64
import json
import logging
import os
import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.errors import ConfigError
from prefork.observe.access import (
    ATOMS,
    DirectAccessLog,
    Exchange,
    LoggerAccessLog,
    compile_json,
    compile_text,
    find_atom,
    shows_queue,
)
from prefork.observe.destination import Destination
from prefork.settings.schema import DEFAULT_ACCESS_FORMAT

GUNICORN_ATOMS = set("hlutrmUqHsBbfaTDMLp")

STARTED = 1_800_000_000.25


def exchange(**changes: Any) -> Exchange:
    """A request that went well."""
    usual = Exchange(
        peer="203.0.113.7",
        method="GET",
        target="/a%20b?x=1&y=2",
        protocol="HTTP/1.1",
        fields={"HTTP_USER_AGENT": "curl/8", "HTTP_REFERER": "http://e.example/", "CONTENT_TYPE": "text/x"},
        environ={"REMOTE_ADDR": "203.0.113.7", "wsgi.url_scheme": "http", "app.user": 7},
        status=200,
        headers=[("Content-Type", "text/html"), ("Set-Cookie", "a"), ("set-cookie", "b")],
        sent=12,
        started=STARTED,
        duration=1.5,
    )
    return replace(usual, **changes)


def unread() -> Exchange:
    """A connection whose head was refused before anything of it was known."""
    return Exchange(peer="203.0.113.7", started=STARTED, status=400, outcome="rejected")


def line(layout: str, of: Exchange | None = None) -> str:
    text = compile_text(layout)(of or exchange()).decode()
    assert text.endswith("\n")
    return text[:-1]


def value(layout: str | None, of: Exchange | None = None) -> Any:
    return json.loads(compile_json(layout)(of or exchange()))


def basic(credentials: bytes, scheme: str = "Basic") -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"{scheme} {base64.b64encode(credentials).decode()}"}


def test_all_atoms_of_gunicorn_are_there_and_two_of_our_own() -> None:
    assert set(ATOMS) == GUNICORN_ATOMS | {"O", "Q"}


def test_the_time_in_queues_is_in_milliseconds_or_not_known() -> None:
    assert line("%(Q)s", Exchange(queued=1.2345)) == "1234"
    assert line("%(Q)s", Exchange(queued=0.0)) == "0"
    assert line("%(Q)s", Exchange()) == "-"
    assert value(None, Exchange(queued=0.25))["queued_ms"] == 250


@pytest.mark.parametrize(
    ("layout", "shown"), [(None, True), ("%(h)s %(Q)s", True), ("%(Q)06d", True), ("%(q)s %%(Q)s", False)]
)
def test_a_format_says_whether_the_time_in_queues_is_to_be_measured(layout: str | None, shown: bool) -> None:
    assert shows_queue(layout) is shown


def test_the_default_format_gives_the_combined_log_line() -> None:
    text = line(DEFAULT_ACCESS_FORMAT)
    assert re.sub(r"\[.*?\]", "[time]", text) == (
        '203.0.113.7 - - [time] "GET /a%20b?x=1&y=2 HTTP/1.1" 200 12 "http://e.example/" "curl/8"'
    )


def test_what_is_missing_is_a_dash() -> None:
    text = line(DEFAULT_ACCESS_FORMAT, Exchange(started=STARTED))
    assert re.sub(r"\[.*?\]", "[time]", text) == '- - - [time] "-" - - "-" "-"'


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("%(m)s|%(U)s|%(q)s|%(H)s", "GET|/a%20b|x=1&y=2|HTTP/1.1"),
        ("%(s)s|%(B)s|%(b)s", "200|12|12"),
        ("%(T)s|%(M)s|%(D)s|%(L)s", "1|1500|1500000|1.500000"),
        ("%(D)012d|%(L).2f|%(s)-5s|%(L)10.1f", "000001500000|1.50|200  |       1.5"),
        ("%(h)-15s|%(a).4s|", "203.0.113.7    |curl|"),
        ("%({user-agent}i)s|%({Content-Type}i)s|%({x-none}i)s", "curl/8|text/x|-"),
        ("%({set-cookie}o)s|%({CONTENT-TYPE}o)s|%({x}o)s", "a, b|text/html|-"),
        ("%({remote_addr}e)s|%({wsgi.url_scheme}e)s|%({APP.USER}e)s|%({x}e)s", "203.0.113.7|http|7|-"),
        ("100%%|%(O)s", "100%|ok"),
        ("“%(m)s”\té\\", "“GET”\té\\"),
        ("", ""),
    ],
)
def test_a_format_says_what_its_atoms_mean(layout: str, text: str) -> None:
    assert line(layout) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0.0, "0 0 0 0.000000"),
        (0.0000019, "0 0 1 0.000002"),
        (2 * 86400 + 3.25, "172803 172803250 172803250000 172803.250000"),
    ],
)
def test_durations_are_right_over_days(duration: float, text: str) -> None:
    assert line("%(T)s %(M)s %(D)s %(L)s", exchange(duration=duration)) == text


def test_the_process_is_the_one_that_writes() -> None:
    assert line("%(p)s") == f"<{os.getpid()}>"


def test_the_time_is_that_of_the_begin() -> None:
    read = datetime.strptime(line("%(t)s"), "[%d/%b/%Y:%H:%M:%S %z]")
    assert read.timestamp() == int(STARTED)


def test_nothing_sent_has_neither_status_nor_size() -> None:
    gone = exchange(status=0, sent=0, outcome="aborted")
    assert line("%(s)s %(b)s %(B)s %(s)d %(O)s", gone) == "- - 0 0 aborted"


def test_an_empty_body_has_a_size() -> None:
    assert line("%(s)s %(b)s", exchange(status=204, sent=0)) == "204 0"


def test_a_head_that_was_not_read_has_no_request_line() -> None:
    assert line('"%(r)s" %(m)s %(U)s %(H)s %(s)s %(O)s', unread()) == '"-" - - - 400 rejected'


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("*", "*", ""),
        ("/a?b?c", "/a", "b?c"),
        ("http://h.example:80/a/b?c", "/a/b", "c"),
        ("http://h.example", "/", ""),
        ("h.example:443", "h.example:443", ""),
        ("/go?to=http://x/", "/go", "to=http://x/"),
    ],
)
def test_path_and_query_are_those_of_every_form_of_target(target: str, path: str, query: str) -> None:
    assert line("%(U)s|%(q)s", exchange(target=target)) == f"{path}|{query}"


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({}, "-"),
        (basic(b"frank:secret"), "frank"),
        (basic(b"frank:secret", "bAsIc"), "frank"),
        (basic(b"frank"), "frank"),
        (basic(b":secret"), "-"),
        (basic(b"two names:x"), "two%20names"),
        (basic(b'a"\n:x'), r"a\"\x0A"),
        (basic("é:x".encode()), r"\xC3\xA9"),
        (basic(b"frank:secret", "Bearer"), "-"),
        ({"HTTP_AUTHORIZATION": "Basic"}, "-"),
        ({"HTTP_AUTHORIZATION": "Basic !!!"}, "-"),
        ({"HTTP_AUTHORIZATION": "Basic \xff\xff"}, "-"),
        ({"HTTP_AUTHORIZATION": "Basic abc"}, "-"),
    ],
)
def test_the_user_is_one_column_and_never_the_password(fields: dict[str, str], user: str) -> None:
    assert line("%(u)s", exchange(fields=fields)) == user


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ("%(Z)s", r"there is no atom %\(Z\)s"),
        ("%({x}x)s", "there is no atom"),
        ("%({}i)s", "there is no atom"),
        ("%()s", "there is no atom"),
        ("%(h)", r"cannot read '%\(h\)'"),
        ("%h", "cannot read '%h'"),
        ("50% off", "cannot read '% off'"),
        ("%(h)d", r"%\(h\)d does not fit"),
        ("%(D).3s", r"%\(D\).3s does not fit"),
        ("%(h)s\n%(a)s", r"holds '\\n'"),
    ],
)
def test_a_format_that_cannot_be_meant_is_a_config_error(layout: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"access_log_format: {says}"):
        compile_text(layout)
    with pytest.raises(ConfigError, match=f"access_log_format: {says}"):
        compile_json(layout)


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_object_of_the_application_cannot_break_the_log() -> None:
    assert line("%({x}e)s", exchange(environ={"x": Unprintable()})) == "<Unprintable that cannot be shown>"


def test_cutting_a_value_cannot_cut_an_escape() -> None:
    """The four first characters, escaped; not four characters of the escaped text."""
    assert line('"%(a).4s"', exchange(fields={"HTTP_USER_AGENT": 'abc"def'})) == r'"abc\""'


# ------------------------------------------------------------------------------------ no input breaks out

hostile = st.text(alphabet=st.one_of(st.sampled_from('"\\\n\r\x00\x1b %- {}'), st.characters()))
exchanges = st.builds(
    Exchange,
    peer=hostile,
    method=hostile,
    target=hostile,
    protocol=hostile,
    fields=st.fixed_dictionaries(
        {
            "HTTP_USER_AGENT": hostile,
            "HTTP_REFERER": hostile,
            "HTTP_X": hostile,
            "HTTP_AUTHORIZATION": st.one_of(
                hostile, st.binary().map(lambda raw: f"Basic {base64.b64encode(raw).decode()}")
            ),
        }
    ),
    environ=st.one_of(st.none(), st.dictionaries(st.just("x"), hostile)),
    status=st.integers(0, 999),
    headers=st.lists(st.tuples(st.just("X"), hostile)),
    sent=st.integers(0, 1 << 70),
    started=st.floats(0, 4e9),
    duration=st.floats(0, 1e9),
    outcome=st.sampled_from(["ok", "rejected", "aborted", "timeout", "error"]),
)
QUOTED = re.compile(r'(?:[ !#-\[\]-~]|\\["\\]|\\x[0-9A-F]{2})*')
EVERYTHING = " ".join(f'"%({name})s"' for name in [*ATOMS, "{x}i", "{x}o", "{x}e"]) + ' "%(a).3s" "%(r)40s"'
COLUMNS = EVERYTHING.count('"') // 2

render_everything = compile_text(EVERYTHING)
render_object = compile_json(None)
render_atoms = compile_json(EVERYTHING)


@given(exchanges)
def test_no_request_breaks_out_of_its_line_or_out_of_a_quoted_column(of: Exchange) -> None:
    text = render_everything(of).decode("ascii")
    assert re.fullmatch(f'"{QUOTED.pattern}"(?: "{QUOTED.pattern}"){{{COLUMNS - 1}}}\n', text)


@given(exchanges)
def test_no_request_breaks_out_of_a_json_line(of: Exchange) -> None:
    for render in (render_object, render_atoms):
        text = render(of).decode("ascii")
        assert text.count("\n") == 1
        assert text.endswith("\n")
        assert isinstance(json.loads(text), dict)


@given(exchanges)
def test_the_quick_pass_over_a_safe_line_leaves_out_no_escape(of: Exchange) -> None:
    """A value is written as it came exactly if it holds nothing that is to be escaped."""
    text = compile_text("%(a)s")(of).decode()[:-1]
    agent = of.fields["HTTP_USER_AGENT"]
    assert (text == agent) == (QUOTED.fullmatch(agent) is not None and "\\" not in agent)


# ----------------------------------------------------------------------------------------------- JSON


def test_a_json_request_has_typed_fields() -> None:
    read = value(None)
    moment = read.pop("time")
    assert datetime.fromisoformat(moment).timestamp() == STARTED
    assert re.search(r"\.\d{3}[+-]", moment)
    assert read == {
        "peer": "203.0.113.7",
        "request": "GET /a%20b?x=1&y=2 HTTP/1.1",
        "method": "GET",
        "target": "/a%20b?x=1&y=2",
        "path": "/a%20b",
        "query": "x=1&y=2",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes": 12,
        "duration_s": 1.5,
        "queued_ms": None,
        "user_agent": "curl/8",
        "referer": "http://e.example/",
        "pid": os.getpid(),
        "outcome": "ok",
    }


def test_what_is_missing_is_null_in_json() -> None:
    read = value(None, Exchange(outcome="timeout"))
    missing = {name for name, item in read.items() if item is None}
    assert missing == {
        "peer", "request", "method", "target", "path", "protocol", "status", "queued_ms", "user_agent",
        "referer",
    }  # fmt: skip
    assert read["outcome"] == "timeout"


def test_a_format_of_ones_own_gives_the_keys_in_json() -> None:
    read = value('%(h)s [%(s)s] "%({user-agent}i)s" %(D)09d %(L)s %({x}o)s 100%%')
    assert read == {
        "h": "203.0.113.7", "s": 200, "{user-agent}i": "curl/8", "D": 1500000, "L": 1.5, "{x}o": None
    }  # fmt: skip
    assert list(read)[:2] == ["h", "s"]


def test_a_percent_sign_in_a_name_is_no_conversion() -> None:
    assert value("%({a%sb}e)s", exchange(environ={"a%sb": "c"})) == {"{a%sb}e": "c"}


@pytest.mark.parametrize(("sent", "read"), [("é".encode().decode("latin-1"), "é"), ("\xe9", "é"), ("€", "€")])
def test_json_has_the_text_that_a_peers_bytes_spell(sent: str, read: str) -> None:
    assert value(None, exchange(fields={"HTTP_USER_AGENT": sent}))["user_agent"] == read


# ------------------------------------------------------------------------------------------------ logs


def test_a_direct_log_writes_to_its_destination(tmp_path: Any) -> None:
    to = Destination("accesslog", str(tmp_path / "log"), standard=1, report=lambda *_: None)
    DirectAccessLog(compile_text("%(m)s"), to).write(exchange())
    to.close()
    assert (tmp_path / "log").read_bytes() == b"GET\n"


class Kept(logging.Handler):
    """Keeps the records that a logger hands on."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def logger_with(handler: logging.Handler, level: int = logging.INFO) -> logging.Logger:
    logger = logging.Logger("prefork.access", level)  # noqa: LOG001 - not the one of the process
    logger.addHandler(handler)
    return logger


def test_a_loggers_record_has_the_line_as_message_and_the_atoms_as_arguments() -> None:
    kept = Kept()
    log = LoggerAccessLog(compile_text("100%% %(m)s %(a)s"), logger_with(kept), pytest.fail)
    log.write(exchange(fields={"HTTP_USER_AGENT": '50%s "x'}))
    record = kept.records[0]
    assert record.getMessage() == r"100% GET 50%s \"x"
    atoms: Any = record.args
    assert (atoms["U"], atoms["s"], atoms["a"], atoms["f"]) == ("/a%20b", 200, r"50%s \"x", "-")
    assert (atoms["{user-agent}i"], atoms["{x}o"]) == (r"50%s \"x", "-")
    with pytest.raises(KeyError):
        atoms["nothing"]


def test_a_logger_that_is_silent_costs_no_line() -> None:
    kept = Kept()
    LoggerAccessLog(compile_text("%(m)s"), logger_with(kept, logging.ERROR), pytest.fail).write(exchange())
    assert not kept.records


def test_a_handler_that_raises_does_not_stop_serving_and_is_told_once() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(f"no room for {record.levelname}")

    told: list[str] = []
    log = LoggerAccessLog(compile_text("%(m)s"), logger_with(Broken()), told.append)
    log.write(exchange())
    log.write(exchange())
    assert told == ["accesslog: the logger prefork.access raised RuntimeError: no room for INFO"]


def test_the_hint_of_an_unknown_atom_names_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        find_atom("x")
    assert " h l u t " in caught.value.hint
