"""What changed between two states: with the changes the one is the other, whatever was done to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.pointers import applied

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.diff import state_changes

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

_names = st.text(max_size=3) | st.sampled_from(["a", "b", "a/b", "~1", "", "~", "/"])
_scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, 0.0, -1.5]) | st.text(max_size=2)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3), max_leaves=8
)
_objects = st.dictionaries(_names, _json, max_size=4)


def state(result: Any = None, **members: Any) -> AssessmentRecord:
    return AssessmentRecord(
        assessment_id="a-1",
        state=AssessmentState.PROCESSING,
        version=3,
        created_at=NOW,
        updated_at=NOW,
        request_data={"userId": "ann"},
        result_data=result,
        **members,
    )


def wire(record: AssessmentRecord) -> Any:
    return orjson.loads(record.to_json())


def exact(value: Any) -> bytes:
    """JSON by which 1, 1.0 and true differ."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@given(st.none() | _objects, st.none() | _objects, _objects)
def test_with_its_changes_a_state_is_the_other(before: Any, after: Any, request: dict[str, Any]) -> None:
    one, other = state(before), state(after).model_copy(update={"request_data": request})

    changes = state_changes(one, other)

    assert exact(applied(wire(one), changes)) == exact(wire(other))
    assert len({change["field"] for change in changes}) == len(changes)


@given(st.none() | _objects)
def test_a_state_does_not_differ_from_itself(result: Any) -> None:
    assert state_changes(state(result), state(result)) == []


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1}, {"a": 2}, [{"field": "/resultData/a", "from": 1, "to": 2}]),
        ({"a": 1}, {"a": 1.0}, [{"field": "/resultData/a", "from": 1, "to": 1.0}]),
        ({"a": None}, {}, [{"field": "/resultData/a", "from": None}]),
        ({}, {"a": None}, [{"field": "/resultData/a", "to": None}]),
        (None, {"a": 1}, [{"field": "/resultData", "from": None, "to": {"a": 1}}]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [{"field": "/resultData/a", "from": [1, 2], "to": [1, 3]}]),
        ({"a": {"b/c": {"~": 1}}}, {"a": {"b/c": {"~": 2}}}, [{"field": "/resultData/a/b~1c/~0", "from": 1, "to": 2}]),
    ],
)
def test_changes_are_told_where_they_are(before: Any, after: Any, changes: list[dict[str, Any]]) -> None:
    found = state_changes(state(before), state(after))

    assert exact(found) == exact(changes)


def test_members_have_the_names_of_the_api() -> None:
    found = state_changes(state(), state(started_at=NOW, message="on it", progress=5))

    assert {change["field"]: change["to"] for change in found} == {
        "/progress": 5,
        "/message": "on it",
        "/startedAt": "2026-01-02T03:04:05.678901Z",
    }
