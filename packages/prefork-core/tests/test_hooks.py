# SPDX-License-Identifier: MIT
from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest

from prefork.hooks import TABLE, Hook, Hooks


def recorder(count: int) -> Any:
    """Return a function of so many parameters that returns what it was given."""
    names = ", ".join(f"p{number}" for number in range(count))
    return eval(f"lambda {names}: [{names}]")


def test_there_is_an_attribute_for_every_hook_in_the_order_of_the_table() -> None:
    assert [field.name for field in dataclasses.fields(Hooks)] == list(TABLE)


@pytest.mark.parametrize("hook", TABLE.values(), ids=str)
def test_a_hook_with_gunicorns_parameters_is_taken_as_it_is(hook: Hook) -> None:
    function = recorder(len(hook.parameters))
    assert hook.load(function) is function


@pytest.mark.parametrize("hook", TABLE.values(), ids=str)
def test_a_hook_with_one_parameter_too_many_or_too_few_is_refused(hook: Hook) -> None:
    for count in (hook.least - 1, len(hook.parameters) + 1):
        with pytest.raises(ValueError, match=r"cannot be called with \("):
            hook.load(recorder(count))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_post_request_is_given_as_many_arguments_as_it_takes(count: int) -> None:
    hook = TABLE["post_request"].load(recorder(count))
    assert hook("worker", "req", "environ", "resp") == ["worker", "req", "environ", "resp"][:count]


def test_methods_partials_and_optional_parameters_count_as_called() -> None:
    class Holder:
        def on_exit(self, server: object, extra: int = 0) -> None: ...

    TABLE["on_exit"].load(Holder().on_exit)
    TABLE["on_exit"].load(functools.partial(recorder(2), 1))
    TABLE["on_exit"].load(lambda *everything: everything)


@pytest.mark.parametrize("text", ["functools.partial", "functools:partial"])
def test_a_hook_can_be_named(text: str) -> None:
    assert TABLE["post_fork"].load(text) is functools.partial


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nowhere_at_all.hook", "No module named 'nowhere_at_all'"),
        ("functools.nothing", "no attribute 'nothing'"),
        ("functools", "a text must be"),
        ("functools:", "a text must be"),
        (3, "not callable"),
        ("math:pi", "not callable"),
    ],
)
def test_what_is_no_function_is_refused_with_the_reason(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TABLE["on_exit"].load(value)
