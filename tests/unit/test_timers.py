"""Timers without services: commands that are the same for all, and partitions that have applied everything."""

# ruff: noqa: ARG002 - the fakes have the parameters of what they stand in for

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.agents import caught_up
from assessmentstore.agents.caught_up import CaughtUp, Position
from assessmentstore.agents.timers import Timers
from assessmentstore.models.commands import Command, CommandType, Fail
from assessmentstore.models.envelope import decode_command
from assessmentstore.models.timers import Due, Timer, timer_command
from assessmentstore.settings import Settings

CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
DUE = Due(timer=Timer.LEASE, assessment_id="a1", version=3, created_at=CREATED, seconds=300.0)


def decoded(due: Due, now: datetime = CREATED) -> Command:
    command = decode_command(due.assessment_id.encode(), timer_command(due, now=now), ())
    assert isinstance(command, Command), command
    return command


@given(st.sampled_from(Timer), st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255))
def test_whoever_fires_a_timer_sends_the_same_command(timer: Timer, assessment: str) -> None:
    due = replace(DUE, timer=timer, assessment_id=assessment)

    first, second = decoded(due), decoded(due, datetime(2026, 5, 5, tzinfo=UTC))

    assert first == second
    assert first.expected_version == 3
    assert first.header.user_id == "system:timers"


@given(st.text(min_size=200, max_size=255), st.text(min_size=200, max_size=255))
def test_different_versions_lives_timers_and_assessments_have_different_ids(one: str, other: str) -> None:
    due = replace(DUE, assessment_id=one)
    others = [
        replace(due, version=4),
        replace(due, timer=Timer.RETRY),
        replace(due, created_at=datetime(2026, 1, 2, 3, 4, 5, 678902, tzinfo=UTC)),
        *([replace(due, assessment_id=other)] if other != one else []),
    ]

    ids = {item.command_id for item in [due, *others]}

    assert len(ids) == 1 + len(others)


@pytest.mark.parametrize(
    ("seconds", "words"), [(300.0, "300 s"), (0.5, "0.5 s"), (1_234_567.0, "1234567 s"), (0.1, "0.1 s")]
)
def test_a_lease_that_ended_fails_the_assessment_with_a_reason_that_programs_know(seconds: float, words: str) -> None:
    command = decoded(replace(DUE, seconds=seconds))

    assert command.header.type is CommandType.FAIL
    assert command.data == Fail(error=f"ASSESSMENT_TIMEOUT: no progress for {words}")


IDLE = Position(flow=1, applied=5, is_idle=True, end=5)


async def test_a_partition_is_caught_up_when_it_has_applied_what_was_there_when_it_was_marked() -> None:
    found = CaughtUp()

    assert found.among({0: replace(IDLE, applied=0, is_idle=False, end=9)}) == set()
    assert found.among({0: replace(IDLE, applied=8, is_idle=False, end=20)}) == set()
    assert found.among({0: replace(IDLE, applied=9, is_idle=False, end=30)}) == {0}


async def test_one_that_begins_anew_is_marked_anew_and_one_that_is_gone_is_forgotten() -> None:
    found = CaughtUp()
    found.among({0: IDLE, 1: IDLE})

    assert found.among({0: replace(IDLE, flow=2, end=9)}) == set()
    assert found.among({0: replace(IDLE, flow=2, end=9), 1: replace(IDLE, end=9)}) == set()


async def test_one_of_which_no_fetch_has_told_anything_is_not_caught_up() -> None:
    found = CaughtUp()

    assert found.among({0: replace(IDLE, end=None)}) == set()
    assert found.among({0: replace(IDLE, end=None)}) == set()


async def test_what_was_fired_has_to_be_applied_before_more_is_fired() -> None:
    found = CaughtUp()
    found.among({0: IDLE})
    found.mark(0, IDLE, at_least=7)

    assert found.among({0: IDLE}) == set()
    assert found.among({0: replace(IDLE, applied=7)}) == {0}


async def test_offsets_that_are_no_records_hold_up_nothing_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark of a transaction stands at the end of the topic, and is never applied."""
    monkeypatch.setattr(caught_up, "_QUIET_SECONDS", 0.02)
    found, behind = CaughtUp(), replace(IDLE, end=6)
    assert found.among({0: behind, 1: behind}) == set()

    await asyncio.sleep(0.03)

    assert found.among({0: behind, 1: replace(behind, is_idle=False)}) == {0}


class Overdue:
    """A store in which an assessment is due at every look, and a producer that remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def due(self, timer: Timer, after: Any) -> tuple[list[Due], None]:
        return ([DUE] if timer is Timer.LEASE else []), None

    async def pending_too_long(self, seconds: float) -> dict[str, datetime]:
        return {}

    async def send(self, *record: Any, partition: int, **_: Any) -> Any:
        self.sent.append(record)
        sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        sent.set_result(SimpleNamespace(partition=partition, offset=8 + len(self.sent)))
        return sent


async def test_a_look_fires_for_partitions_that_have_caught_up_and_waits_for_what_it_fired() -> None:
    store: Any = Overdue()
    behind, arrived = replace(IDLE, is_idle=False, end=9), replace(IDLE, applied=9, end=9)
    after_it = replace(IDLE, applied=10, end=10)
    # A look that fires asks twice: to begin with, and to mark where the topic ends after it.
    places = deque([behind, behind, arrived, arrived, arrived, after_it, after_it])
    timers = Timers(Settings(topic_partitions=1), store, lambda: {0: places.popleft()})

    sent = []
    for _ in range(5):
        await timers._look(store)
        sent.append(len(store.sent))

    assert sent == [0, 0, 1, 1, 2]


async def test_a_look_leaves_partitions_of_others_alone() -> None:
    store: Any = Overdue()
    everything = replace(IDLE, applied=2**62)
    partition = Timers(Settings(topic_partitions=2), store, dict)._partition(DUE.assessment_id)
    others = Timers(Settings(topic_partitions=2), store, lambda: {1 - partition: everything})
    own = Timers(Settings(topic_partitions=2), store, lambda: {partition: everything})

    await others._look(store)
    assert store.sent == []
    await own._look(store)
    assert len(store.sent) == 1
