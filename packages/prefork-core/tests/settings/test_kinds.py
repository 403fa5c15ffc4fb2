# SPDX-License-Identifier: MIT
from __future__ import annotations

import ssl
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork.errors import ConfigError
from prefork.settings import kinds
from prefork.settings.kinds import Kind, Misfit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("0.25", 0.25), ("500ms", 0.5), ("30s", 30.0), ("1m30s", 90.0), ("2h", 7200.0), (7, 7.0)],
)
def test_a_time_is_seconds_or_a_text_with_units(text: object, seconds: float) -> None:
    assert kinds.seconds().read(text) == seconds


@pytest.mark.parametrize(
    "wrong", ["", "-1", -1, "30 s", "s", "1x", "1e3", float("inf"), float("nan"), True, None]
)
def test_what_is_not_a_time_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.seconds().read(wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8190", 8190),
        ("64k", 65536),
        ("64K", 65536),
        ("1MiB", 1024**2),
        ("2 m", 2 * 1024**2),
        ("9b", 9),
        (7, 7),
    ],
)
def test_sizes_count_in_powers_of_1024(text: object, size: int) -> None:
    assert kinds.size(0, 2**31 - 1).read(text) == size


@pytest.mark.parametrize("wrong", ["64kB", "1.5k", "k", "-1", "11", 11, True, None])
def test_a_size_that_could_be_read_two_ways_or_is_out_of_range_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.size(0, 10).read(wrong)


@pytest.mark.parametrize(
    ("text", "found"), [("80%", "80%"), (" 7 % ", "7%"), ("100%", "100%"), ("2g", 2 * 1024**3), (0, 0)]
)
def test_a_share_stays_one_and_a_size_is_a_size(text: object, found: object) -> None:
    assert kinds.size_or_share(2**40).read(text) == found


@pytest.mark.parametrize("wrong", ["0%", "101%", "-5%", "1.5%", "%", "80 percent", 0.8, 2**40 + 1, None])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.size_or_share(2**40).read(wrong)


@pytest.mark.parametrize(
    ("given_mode", "mode"), [("660", 0o660), ("0o660", 0o660), ("0007", 7), (0o27, 0o27)]
)
def test_a_mode_as_a_text_is_octal_and_as_a_number_is_what_it_is(given_mode: object, mode: int) -> None:
    assert kinds.mode().read(given_mode) == mode


def test_a_mode_written_as_a_decimal_number_is_refused_with_what_was_meant() -> None:
    with pytest.raises(Misfit, match="0o660 meant"):
        kinds.mode().read(660)


@pytest.mark.parametrize("wrong", ["888", "-1", "1777", "rw", None, -1])
def test_what_is_not_a_mode_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.mode().read(wrong)


@pytest.mark.parametrize(
    ("text", "on"), [("1", True), ("Yes", True), ("off", False), (1, True), (False, False)]
)
def test_a_switch_knows_the_usual_words(text: object, on: bool) -> None:
    assert kinds.switch().read(text) is on


@pytest.mark.parametrize("wrong", ["", "2", 2, "enabled", None, [1]])
def test_what_is_not_a_switch_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.switch().read(wrong)


@pytest.mark.parametrize("wrong", ["0", 0, "5", "1.0", 1.0, True, "x", "\uff11", None])
def test_what_is_not_a_whole_number_within_the_range_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.whole(1, 4).read(wrong)


def test_a_number_may_be_a_text_in_a_file() -> None:
    assert kinds.whole().read("4") == 4


def test_a_number_may_be_left_to_the_server() -> None:
    kind = kinds.whole_or_auto(1, 4)
    assert (kind.read("AUTO"), kind.read("3")) == ("auto", 3)


def test_a_choice_ignores_case() -> None:
    assert kinds.choice("debug", "info").read("INFO") == "info"


@pytest.mark.parametrize("given_list", ["a, b", ["a", "b"], ("a,b",), "a,,b,"])
def test_a_list_is_a_list_or_a_text_with_commas(given_list: object) -> None:
    assert kinds.listing("X", "texts").read(given_list) == ("a", "b")


def test_a_comma_in_an_assignment_belongs_to_its_value() -> None:
    assert kinds.assignments().read(["A=1,2", "B="]) == ("A=1,2", "B=")


@pytest.mark.parametrize("wrong", ["A", "=1", [1], "A=\0"])
def test_what_is_not_an_assignment_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.assignments().read(wrong)


def test_a_function_that_is_named_is_imported_when_it_is_called() -> None:
    named = kinds.function().read("os.path:join")
    assert named is not None
    assert named("a", "b") == "a/b"
    assert named == kinds.function().read("os.path:join")
    assert kinds.function().write(named) == '"os.path:join"'
    for absent in ("nowhere_at_all:f", "os.path:nothing"):
        missing = kinds.function().read(absent)
        assert missing is not None
        with pytest.raises(ConfigError, match=f"there is no function {absent}: "):
            missing()
    number = kinds.function().read("ssl.CERT_NONE")
    assert number is not None
    with pytest.raises(ConfigError, match=r"ssl\.CERT_NONE is not a function"):
        number()


def test_a_function_is_one_that_is_given_or_none() -> None:
    assert kinds.function().read(len) is len
    assert kinds.function().read("") is None
    assert kinds.function().read(None) is None


@pytest.mark.parametrize("wrong", ["alone", ":f", "a:b:c", "a b:c", "1:2", 5])
def test_what_names_no_function_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.function().read(wrong)


def test_targets_are_paths_and_urls() -> None:
    given = ["/", "/shop?a=1,2", "http://shop.example/", "https://10.0.0.1:8443/x"]
    assert kinds.targets().read(given) == tuple(given)


@pytest.mark.parametrize("wrong", ["shop", "//shop.example/", "ftp://a/", "http://shop.example", "/a b", 7])
def test_what_nobody_could_ask_for_is_no_target(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.targets().read(wrong)


def test_networks_are_addresses_networks_or_all() -> None:
    assert kinds.networks().read("127.0.0.1,10.0.0.0/8,::1,*") == ("127.0.0.1", "10.0.0.0/8", "::1", "*")


@pytest.mark.parametrize("wrong", ["localhost", "10.0.0.1/8", "300.1.1.1"])
def test_a_network_that_is_none_is_refused_with_the_reason(wrong: str) -> None:
    with pytest.raises(Misfit, match=r"\d|localhost"):
        kinds.networks().read(wrong)


def test_field_names_are_upper_case_as_in_environ() -> None:
    assert kinds.field_names().read("script_name") == ("SCRIPT_NAME",)
    assert kinds.fields().read({"x-forwarded-proto": "https"}) == {"X-FORWARDED-PROTO": "https"}
    assert kinds.fields().read("X-A=on,X-B=1") == {"X-A": "on", "X-B": "1"}


@pytest.mark.parametrize("wrong", [{"a b": "x"}, {"a": 1}, {1: "x"}, "a", 3])
def test_a_table_of_fields_holds_names_and_values_only(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.fields().read(wrong)


@pytest.mark.parametrize("wrong", ["a\r\nX: 1", " a", "a\0", "é", 1])
def test_a_field_value_cannot_split_a_response(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.field_value().read(wrong)


def test_a_field_value_may_be_empty() -> None:
    assert kinds.field_value().read("") == ""


def test_an_account_is_a_name_a_number_or_nothing() -> None:
    account = kinds.account()
    assert [account.read(value) for value in ("www", "33", 33, "", None)] == ["www", 33, 33, None, None]


def test_an_empty_optional_text_is_nothing() -> None:
    assert kinds.optional_text("FILE").read("") is None


@pytest.mark.parametrize("wrong", [3, " ", "a\0b"])
def test_what_is_not_a_text_is_refused(wrong: object) -> None:
    with pytest.raises(Misfit):
        kinds.optional_text("FILE").read(wrong)


def test_an_empty_table_is_nothing() -> None:
    assert kinds.dictionary().read({}) is None


def test_an_enum_of_the_standard_library_counts_as_its_number() -> None:
    assert kinds.whole().read(ssl.CERT_REQUIRED) == 2


_KINDS: tuple[Kind[Any], ...] = (
    kinds.whole(),
    kinds.whole_or_auto(1, 4),
    kinds.size(0, 10),
    kinds.size_or_share(10),
    kinds.seconds(),
    kinds.mode(),
    kinds.optional_mode(),
    kinds.switch(),
    kinds.choice("a", "b"),
    kinds.text("X"),
    kinds.optional_text("X"),
    kinds.field_value(),
    kinds.account(),
    kinds.networks(),
    kinds.targets(),
    kinds.assignments(),
    kinds.field_names(),
    kinds.fields(),
    kinds.dictionary(),
    kinds.function(),
)

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=5,
)


@given(st.sampled_from(_KINDS), _VALUES)
def test_every_kind_reads_a_value_or_raises_misfit(kind: Kind[Any], value: object) -> None:
    """Nothing else escapes, whatever a configuration file holds."""
    try:
        kind.read(value)
    except Misfit:
        pass


@given(st.sampled_from(_KINDS), _VALUES)
def test_what_was_read_reads_as_itself(kind: Kind[Any], value: object) -> None:
    try:
        first = kind.read(value)
    except Misfit:
        return
    assert kind.read(first) == first or first != first  # noqa: PLR0124  (NaN inside a free table)


@given(
    st.recursive(
        st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
        max_leaves=6,
    )
)
def test_what_is_written_as_toml_is_read_back_by_tomllib(value: object) -> None:
    assert tomllib.loads(f"value = {kinds.as_toml(value)}")["value"] == value
