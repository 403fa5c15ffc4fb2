# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from prefork.http import Limits, Request, parse_head
from prefork.http.forwarded import Forwarded
from prefork_tornado import requests

NOTHING = Forwarded("http", "", {})


def head(target: str = "/", *lines: str) -> Request:
    text = "\r\n".join([f"GET {target} HTTP/1.1", "Host: here", *lines, "", ""])
    request = parse_head(text.encode("latin-1"), Limits())
    assert request is not None
    return request


@pytest.mark.parametrize(
    ("target", "path"), [("/a?b", "/a?b"), ("http://there/a?b", "/a?b"), ("http://there", "/")]
)
def test_handlers_see_the_path_whatever_the_form_of_the_target(target: str, path: str) -> None:
    assert requests.start_line(head(target)) == ("GET", path, "HTTP/1.1")


def test_the_host_of_an_absolute_target_counts() -> None:
    assert requests.fields(head("http://there/"), NOTHING)["Host"] == "there"


def test_repeated_fields_keep_their_lines() -> None:
    headers = requests.fields(head("/", "a: 1", "b: \xe4", "A: 2"), NOTHING)
    assert headers.get_list("A") == ["1", "2"]
    assert headers["b"] == "\xe4"


def test_a_field_with_an_underscore_is_there_if_it_is_permitted() -> None:
    request = head("/", "X_Real_Ip: a", "Remote_User: b")
    assert "X_Real_Ip" not in requests.fields(request, NOTHING)
    permitted = requests.fields(request, Forwarded("http", "", {"HTTP_REMOTE_USER": "b"}))
    assert (permitted["Remote_User"], "X_Real_Ip" in permitted) == ("b", False)
