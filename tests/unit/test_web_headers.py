"""Request headers and query values, well formed and not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from assessmentstore.models.errors import RejectedError
from assessmentstore.models.filters import StatsQuery
from assessmentstore.web.headers import (
    accepts_problem,
    expected_version,
    idempotency_key,
    none_match,
    prefers_async,
    trace_context,
)

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("values", "matches"),
    [
        ([], False),
        (["*"], True),
        (['"3"'], True),
        (['W/"3"'], True),
        (['"1", "3"'], True),
        (['"1","2" , W/"3"'], True),
        (['"2"'], False),
        (['"33"'], False),
        (["3"], False),
        ([""], False),
        (['"a,b", "3"'], True),
        (['"1"', '"3"'], True),
        (['"1"', '"2"'], False),
    ],
)
def test_if_none_match_is_compared_weakly(values: list[str], matches: bool) -> None:
    assert none_match(values, 3) is matches


@pytest.mark.parametrize(("values", "version"), [([], None), (["*"], None), (['"3"'], 3), ([' "12" '], 12)])
def test_if_match_names_the_version_that_is_expected(values: list[str], version: int | None) -> None:
    assert expected_version(values) == version


@pytest.mark.parametrize(
    "values",
    [
        *(["3"], ['W/"3"'], ['"3", "4"'], ['"abc"'], ['""'], [""], ['"-1"'], ['"٣"'], ['"99999999999"']),
        *(['"03"'], ['"0"'], ['"3"', '"4"'], ['"3"', "*"]),
    ],
    ids=repr,
)
def test_an_if_match_that_is_no_version_is_refused(values: list[str]) -> None:
    with pytest.raises(RejectedError, match="If-Match"):
        expected_version(values)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        (["abc"], "abc"),
        ([" abc "], "abc"),
        (['"abc"'], "abc"),
        ([r'"a\"b\\c"'], r"a\"b\\c".replace(r"\"", '"').replace("\\\\", "\\")),
        (["x" * 255], "x" * 255),
        (['"' + "x" * 255 + '"'], "x" * 255),
    ],
)
def test_an_idempotency_key_is_bare_or_quoted(values: list[str], key: str | None) -> None:
    assert idempotency_key(values) == key


@pytest.mark.parametrize(
    "values", [[""], ['""'], ['"a'], ["x" * 256], ["schlüssel"], ["a\x07b"], ["a", "b"], ['"a"b"']]
)
def test_an_idempotency_key_that_is_none_is_refused(values: list[str]) -> None:
    with pytest.raises(RejectedError, match="Idempotency-Key"):
        idempotency_key(values)


@pytest.mark.parametrize(
    ("values", "asynchronous"),
    [
        ([], False),
        (["respond-async"], True),
        (["return=minimal, Respond-Async; wait=10"], True),
        (["return=minimal", "respond-async"], True),
        (["respond-asynchronously"], False),
    ],
)
def test_prefer_may_ask_for_an_answer_before_the_work_is_done(values: list[str], asynchronous: bool) -> None:
    assert prefers_async(values) is asynchronous


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([], False),
        (["*/*"], False),
        (["application/json"], False),
        (["application/problem+json"], True),
        (["application/json, application/problem+json"], True),
        (["application/json", "Application/Problem+JSON;q=0.5"], False),
        (["application/json;q=0.5, application/problem+json;q=0.9"], True),
        (["application/problem+json;q=0"], False),
        (["application/problem+json;q=high"], False),
    ],
)
def test_problems_are_for_those_who_like_them_no_less_than_json(values: list[str], problem: bool) -> None:
    assert accepts_problem(values) is problem


def test_a_plus_sign_of_a_time_zone_may_come_as_a_blank() -> None:
    assert StatsQuery.model_validate({"timezone": "Etc/GMT 3"}).timezone == "Etc/GMT+3"


@pytest.mark.parametrize("name", ["localtime", "Factory", "utc", "Z", "+05:45", "posix/UTC", "../UTC", ""])
def test_what_is_no_name_of_a_time_zone_is_refused(name: str) -> None:
    """`localtime` is that of whichever host answers."""
    with pytest.raises(ValidationError, match="the name of a time zone"):
        StatsQuery.model_validate({"timezone": name})


def test_a_text_of_a_wrong_length_is_told_in_characters() -> None:
    with pytest.raises(ValidationError, match="at least 1 character"):
        StatsQuery.model_validate({"serverName": ""})


def test_a_trace_context_is_passed_on() -> None:
    assert trace_context(TRACE) == TRACE


@pytest.mark.parametrize(
    "header", [None, "", "x", TRACE.upper(), TRACE + "-x", "ff" + TRACE[2:], f"00-{'0' * 32}-{TRACE[36:]}"]
)
def test_a_missing_or_broken_trace_context_is_replaced_by_a_new_one(header: str | None) -> None:
    new = trace_context(header)

    assert new != header
    assert trace_context(new) == new
