"""The counters' laws: what is counted in and out again leaves nothing, and steps add up to the whole way."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.store.totals import TotalsChange, totals_change

START = datetime(2026, 1, 31, 23, 50, tzinfo=UTC)

requests = st.fixed_dictionaries(
    {"assessmentType": st.sampled_from(["health", "security"]), "priority": st.integers(1, 10)},
    optional={
        "userId": st.sampled_from(["ann", "bob", "", "x" * 256]),
        "serverName": st.sampled_from(["web-1", "y" * 300]),
        "source": st.sampled_from(["installer", "compliance"]),
    },
)
changes = st.fixed_dictionaries(
    {
        "state": st.sampled_from(AssessmentState),
        "retry_count": st.integers(0, 2),
        "completed_at": st.none() | st.integers(1, 500).map(lambda seconds: START + timedelta(seconds=seconds)),
        "progress": st.integers(0, 100),
    }
)


@st.composite
def lives(draw: st.DrawFn) -> list[AssessmentRecord | None]:
    """One assessment as it is, is changed, and perhaps deleted."""
    common: dict[str, Any] = {"assessment_id": draw(st.sampled_from("abc")), "version": 1, "updated_at": START}
    common |= {"created_at": START, "started_at": START, "request_data": draw(requests)}
    states = [AssessmentRecord(**common, **draw(changes)) for _ in range(draw(st.integers(1, 4)))]
    return [None, *states, *([None] if draw(st.booleans()) else [])]


def counts(change: TotalsChange) -> Counter[Any]:
    """Every counter by its name."""
    tables: dict[str, Any] = {"totals": change.totals, "servers": change.servers, "created": change.created}
    return Counter(
        {
            (name, key, place): number
            for name, counters in tables.items()
            for key, values in counters.items()
            for place, number in enumerate(values)
            if isinstance(number, int) and number
        }
    )


def added(first: Counter[Any], second: Counter[Any]) -> Counter[Any]:
    total = Counter(first)
    for key, number in second.items():
        total[key] += number
    return Counter({key: number for key, number in total.items() if number})


@given(lives())
def test_steps_add_up_to_the_whole_way(life: list[AssessmentRecord | None]) -> None:
    steps: Counter[Any] = Counter()
    for before, after in pairwise(life):
        steps = added(steps, counts(totals_change({"a": before}, {"a": after})))

    assert steps == counts(totals_change({"a": None}, {"a": life[-1]}))


@given(lives())
def test_what_is_counted_in_and_out_leaves_nothing(life: list[AssessmentRecord | None]) -> None:
    state = life[1]

    there = counts(totals_change({"a": None}, {"a": state}))
    back = counts(totals_change({"a": state}, {"a": None}))

    assert added(there, back) == Counter()
    assert there


def test_an_assessment_counts_for_everybody_and_for_its_owner() -> None:
    state = AssessmentRecord(
        assessment_id="a",
        state=AssessmentState.PENDING,
        version=1,
        created_at=START,
        updated_at=START,
        request_data={"assessmentType": "health", "priority": 7, "userId": "ann", "serverName": "web-1"},
    )

    change = totals_change({}, {"a": state})

    assert sorted(change.totals) == [("", "health", "", 7, "pending"), ("ann", "health", "", 7, "pending")]
    assert {key[1] for key in change.created} == {START.replace(minute=45)}


def test_progress_moves_no_counter() -> None:
    state = AssessmentRecord(
        assessment_id="a",
        state=AssessmentState.PROCESSING,
        version=2,
        created_at=START,
        updated_at=START,
        started_at=START,
        request_data={"assessmentType": "health", "priority": 7},
    )

    change = totals_change({"a": state}, {"a": state.model_copy(update={"version": 3, "progress": 50})})

    assert change.rows(0) == [[], [], []]
