"""The board: what `dev` makes of the events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from assessmentstore.dev import board as module
from assessmentstore.dev.board import Board
from assessmentstore.models.assessment import AssessmentState
from assessmentstore.models.events import AssessmentEvent, event_from_json

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def event(kind: str, state: str, *, assessment: str = "a-1", after: float = 0, **more: Any) -> AssessmentEvent:
    value = {
        "type": f"assessment.{kind}",
        "assessmentId": assessment,
        "version": 1,
        "state": state,
        "previousState": None,
        "progress": 0,
        "message": None,
        "commandId": "c",
        "userId": None,
        "occurredAt": NOW + timedelta(seconds=after),
        **more,
    }
    return event_from_json(orjson.dumps(value))


CREATED = event("created", "pending", request={"assessmentType": "health", "serverName": "redis", "options": {}})
STARTED = event("started", "processing", after=1)
HALF = event("progress", "processing", after=2, progress=50, message="half way")
COMPLETED = event("completed", "completed", after=4, progress=100, result={}, durationMs=3000)
FAILED = event("failed", "failed", after=3, error="Connection refused")


def test_an_assessment_is_counted_once_in_the_state_that_it_has() -> None:
    board = Board()

    for one in (CREATED, STARTED, HALF):
        board.apply(one)

    assert +board.counts == {AssessmentState.PROCESSING: 1}


def test_a_row_shows_what_the_events_tell() -> None:
    board = Board()

    for one in (CREATED, STARTED, HALF):
        board.apply(one)

    (row,) = board.latest(10)
    assert (row.id, row.type, row.server, row.state) == ("a-1", "health", "redis", "processing")
    assert (row.progress, row.message, row.duration(NOW + timedelta(seconds=3))) == (50, "half way", 2)


@pytest.mark.parametrize(("last", "message", "duration"), [(COMPLETED, "", 3), (FAILED, "Connection refused", 2)])
def test_the_duration_stands_still_at_the_end(last: AssessmentEvent, message: str, duration: float) -> None:
    board = Board()

    for one in (CREATED, STARTED, last):
        board.apply(one)

    (row,) = board.latest(10)
    assert (row.message, row.duration(NOW + timedelta(hours=1))) == (message, duration)


def test_the_first_that_is_completed_shows_that_all_works() -> None:
    board = Board()
    board.apply(CREATED)
    before = board.flowing.is_set()

    board.apply(COMPLETED)

    assert (before, board.flowing.is_set()) == (False, True)


def test_an_assessment_is_open_until_its_end_is_heard_of() -> None:
    board = Board()
    before = board.is_open("a-1")
    board.apply(STARTED)
    meanwhile = board.is_open("a-1")

    board.apply(FAILED)

    assert (before, meanwhile, board.is_open("a-1")) == (True, True, False)


def test_an_assessment_from_before_is_counted_when_it_changes() -> None:
    board = Board()

    board.apply(COMPLETED)

    assert board.counts == {AssessmentState.COMPLETED: 1}


def test_the_latest_change_comes_first() -> None:
    board = Board()
    board.apply(CREATED)
    board.apply(event("started", "processing", assessment="a-2"))

    board.apply(STARTED)

    assert [row.id for row in board.latest(2)] == ["a-1", "a-2"]


def test_memory_is_bounded_and_counts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_REMEMBERED", 2)
    board = Board()

    for number in range(5):
        board.apply(event("completed", "completed", assessment=f"a-{number}", result={}, durationMs=None))

    assert [row.id for row in board.latest(10)] == ["a-4", "a-3"]
    assert board.counts == {AssessmentState.COMPLETED: 5}
