"""What is agreed with compliance servers: what is written is read back, and anything else is a fault of its kind."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.executor.answers import parse_report
from assessmentstore.executor.faults import ComplianceError, FaultKind
from assessmentstore.models.base import JsonObject
from assessmentstore.models.compliance import ComplianceOrder

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
RESULT = st.fixed_dictionaries({}, optional={"overallScore": st.integers(0, 100), "own": WORDS})
REPORTS = st.one_of(
    st.fixed_dictionaries(
        {"assessmentId": WORDS, "status": st.sampled_from(["pending", "processing"])},
        optional={"progress": st.integers(0, 100), "message": WORDS},
    ),
    st.fixed_dictionaries({"assessmentId": WORDS, "status": st.just("completed"), "result": RESULT}),
    st.fixed_dictionaries({"assessmentId": WORDS, "status": st.just("failed"), "error": WORDS}),
)


@given(REPORTS)
def test_a_report_is_written_as_it_was_read(report: JsonObject) -> None:
    assert parse_report("s", orjson.dumps(report)).to_wire() == report


@given(st.binary(max_size=60) | st.recursive(st.none() | st.booleans() | st.integers() | WORDS, st.lists).map(repr))
def test_whatever_comes_it_is_a_report_or_a_bad_answer(body: bytes | str) -> None:
    with pytest.raises(ComplianceError) as found:
        parse_report("s", body if isinstance(body, bytes) else body.encode())

    assert found.value.kind is FaultKind.BAD_ANSWER


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"status": "cancelled"}, "/status"),
        ({"status": "completed", "result": None}, "a completed attempt has to have a result"),
        ({"status": "failed"}, "a failed attempt has to have an error"),
        ({"progress": 101}, "between 0 and 100"),
        ({"progress": 1.5}, "/progress"),
        ({"message": 7}, "/message"),
        ({"assessmentId": ""}, "/assessmentId"),
    ],
)
def test_a_wrong_member_is_named(change: dict[str, object], place: str) -> None:
    report = {"assessmentId": "a", "status": "processing", "progress": 5, "message": "five"} | change

    with pytest.raises(ComplianceError, match=place):
        parse_report("s", orjson.dumps(report))


def test_the_idempotency_key_names_the_attempt() -> None:
    assert ComplianceOrder(assessment_id="a", attempt=3, request={}).idempotency_key == "a:3"
