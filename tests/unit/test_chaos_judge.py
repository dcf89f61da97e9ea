"""The judge of what clients were told: he acquits the honest, and names every lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.chaos.evidence import Findings
from assessmentstore.chaos.history import Call, History, Kind, Told, read_history
from assessmentstore.chaos.testimony import judge_calls
from assessmentstore.chaos.truth import Life, Refusal, Truth, Version

_STATES = ("pending", "processing", "processing", "failed", "pending", "processing", "completed")
_NAMES = ("create", "start", "progress", "fail", "retry", "start", "complete")
_EVENTS = ("created", "started", "progress", "failed", "retried", "started", "completed")
_LAST = len(_STATES)


def version(number: int) -> Version:
    """One version of the only assessment; its command stands at offset 2 * (number - 1)."""
    state = _STATES[number - 1]
    return Version(
        number=number,
        command=f"c{number}",
        place=(0, 2 * (number - 1)),
        state={
            "assessmentId": "a",
            "state": state,
            "version": number,
            "resultData": None,
            "errorMessage": "broken" if state == "failed" else None,
            "duration": 5 if state in ("failed", "completed") else None,
            "requestData": {"serverName": "s"},
        },
        final=state in ("failed", "completed"),
        event=orjson.dumps({"type": f"assessment.{_EVENTS[number - 1]}", "version": number}).decode(),
    )


VERSIONS = [version(number) for number in range(1, _LAST + 1)]
TRUTH = Truth(
    lives={"a": Life(list(VERSIONS))},
    accepted={item.command: ("a", item) for item in VERSIONS},
    refused={"r": Refusal("INVALID_STATE_TRANSITION", (0, 99))},
    places={item.command: item.place for item in VERSIONS} | {"r": (0, 99)},
    on_topic={item.place for item in VERSIONS} | {(0, 99)},
)


def call(kind: Kind, at: float, told: Told = Told.OK, *, took: float = 0.5, **about: Any) -> Call:
    return Call(
        client="x",
        kind=kind,
        assessment="a",
        invoked=at,
        completed=at + took,
        told=told,
        **about,
    )


def applied(number: int) -> Call:
    """The command that led to a version, sent at that second."""
    item = version(number)
    return call(
        Kind.COMMAND, number, command=item.command, name=_NAMES[number - 1], version=number, body=item.state, door="web"
    )


def read(number: int, at: float, **about: Any) -> Call:
    return call(Kind.READ, at, version=number, body=version(number).state, **about)


def shown(number: int, at: float) -> Call:
    return replace(call(Kind.STREAM, at, version=number, body=version(number).event), client="stream")


HONEST = [
    *(applied(number) for number in range(1, _LAST + 1)),
    call(Kind.COMMAND, 20, Told.REFUSED, command="r", name="start", code="INVALID_STATE_TRANSITION"),
    read(3, 3.6, floor={0: 5}),
    read(2, 9, min_version=2),
    call(
        Kind.WAIT,
        2,
        took=3,
        body={"assessmentId": "a", "status": "failed", "result": None, "error": "broken", "duration": 5},
    ),
    call(Kind.WAIT, 5.6, Told.LATE, took=1.0, patience=1.0, version=6, body="processing"),
    call(Kind.LIST, 9, body=[VERSIONS[-1].state], floor={0: 100}),
    *(shown(number, 10 + number) for number in range(1, _LAST + 1)),
]


def found(*calls: Call) -> str:
    findings: Findings = judge_calls(calls, TRUTH)
    return "\n".join(violation.words for violation in findings.violations)


def lie(change: Callable[[Call], Call], kind: Kind, number: int = 0) -> list[Call]:
    """The honest history, but for one call."""
    index = [position for position, item in enumerate(HONEST) if item.kind is kind][number]
    return [*HONEST[:index], change(HONEST[index]), *HONEST[index + 1 :]]


def test_the_honest_are_acquitted() -> None:
    assert found(*HONEST) == ""


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (lie(lambda c: replace(c, version=3), Kind.COMMAND, 1), "it led to version 2"),
        (lie(lambda c: replace(c, command="never"), Kind.COMMAND, 1), "it was never applied"),
        (lie(lambda c: replace(c, command="r"), Kind.COMMAND, 1), "it was refused with INVALID_STATE_TRANSITION"),
        (lie(lambda c: replace(c, body={**c.body, "state": "pending"}), Kind.COMMAND, 1), "another state"),
        (lie(lambda c: replace(c, expected=7), Kind.COMMAND, 1), "insisted on version 7"),
        (lie(lambda c: replace(c, name="cancel"), Kind.COMMAND, 1), "its id led to assessment.started"),
        (lie(lambda c: replace(c, told=Told.REFUSED, code="VALIDATION_ERROR"), Kind.COMMAND, 1), "it led to version 2"),
        (lie(lambda c: replace(c, code="OPTIMISTIC_LOCK_FAILED"), Kind.COMMAND, _LAST), "it was refused with INVALID"),
        (lie(lambda c: replace(c, code="IDEMPOTENCY_MISMATCH"), Kind.COMMAND, _LAST), "used for another content"),
        (lie(lambda c: replace(c, version=99), Kind.READ), "which never was"),
        (lie(lambda c: replace(c, body={**c.body, "state": "pending"}), Kind.READ), "another version 3 than there was"),
        (lie(lambda c: replace(c, version=1, body=version(1).state), Kind.READ), "a token that stands for version 3"),
        (lie(lambda c: replace(c, version=1, body=version(1).state), Kind.READ, 1), "asked for version 2 or later"),
        (lie(lambda c: replace(c, version=7, body=version(7).state), Kind.READ), "before anybody sent c7"),
        (lie(lambda c: replace(c, told=Told.REFUSED, code="ASSESSMENT_NOT_FOUND"), Kind.READ), "no such assessment"),
        (lie(lambda c: replace(c, body={**c.body, "status": "completed"}), Kind.WAIT), "no end of it was like that"),
        (lie(lambda c: replace(c, patience=4.0), Kind.WAIT, 1), "was sent away after 1.00 s"),
        (lie(lambda c: replace(c, version=4, body="failed"), Kind.WAIT, 1), "it never was"),
        (lie(lambda c: replace(c, floor={0: 100}), Kind.WAIT, 1), "a token that stands for version 7"),
        (lie(lambda c: replace(c, assessment="s", body=[]), Kind.LIST), "the list lacks a"),
        (lie(lambda c: replace(c, body=[{**VERSIONS[2].state, "state": "gone"}]), Kind.LIST), "as it never was"),
        (lie(lambda c: replace(c, version=1, body=version(1).event), Kind.STREAM, 1), "version 1 after version 1"),
        (lie(lambda c: replace(c, told=Told.REFUSED, why="reset"), Kind.STREAM, 1), "the stream says reset"),
        (lie(lambda c: replace(c, told=Told.UNKNOWN, status=500), Kind.READ), "status 500"),
        (HONEST[:-1], "has seen version 6 as the last one, there are 7"),
        (
            [*HONEST, call(Kind.COMMAND, 30, Told.TAKEN, command="lost", name="start", place=(0, 50))],
            "there is nothing",
        ),
        ([*HONEST, call(Kind.COMMAND, 30, Told.TAKEN, command="lost", name="start")], "nothing became of it"),
        ([*HONEST, replace(applied(7), invoked=0.1, completed=0.2)], "was answered before c1 was sent"),
    ],
)
def test_each_lie_is_named(history: list[Call], words: str) -> None:
    assert words in found(*history)


def test_a_command_that_came_before_the_create_is_told_so_again_when_there_is_an_assessment() -> None:
    early = call(Kind.COMMAND, 0.1, Told.TAKEN, command="early", name="start", place=(0, 99))
    again = call(
        Kind.COMMAND, 30, Told.REFUSED, command="early", name="start", code="ASSESSMENT_NOT_FOUND", floor={0: 100}
    )
    truth = replace(TRUTH, refused={**TRUTH.refused, "early": Refusal("ASSESSMENT_NOT_FOUND", (0, 99))})

    assert judge_calls([*HONEST, early, again], truth).violations == []


def test_a_client_that_knows_nothing_says_nothing() -> None:
    unknown = [replace(item, told=Told.UNKNOWN) for item in HONEST if item.kind is not Kind.STREAM]

    assert found(*unknown) == ""


@given(st.lists(st.tuples(st.integers(1, _LAST), st.floats(0, 30)), max_size=30))
def test_reads_of_what_was_there_at_some_time_are_honest(reads: list[tuple[int, float]]) -> None:
    """Without a promise of freshness any version will do that somebody has asked for by then."""
    history = [read(number, max(at, float(number))) for number, at in reads]

    assert found(*HONEST, *history) == ""


@given(st.integers(1, _LAST), st.integers(0, 2 * _LAST))
def test_a_token_is_kept_exactly_when_the_version_is_not_below_it(number: int, offset: int) -> None:
    least = sum(item.place[1] < offset for item in VERSIONS)

    kept = found(*HONEST, read(number, 30, floor={0: offset})) == ""

    assert kept is (number >= least)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    calls = [*HONEST, call(Kind.COMMAND, 0.0, Told.TAKEN, took=0.0, command="t", place=(3, 0), borrowed=True)]
    for item in calls:
        history.add(item)
    history.close()

    assert read_history(tmp_path / "history.jsonl") == calls
