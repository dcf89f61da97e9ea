"""What an assessment was: the fold of its events up to a version, or up to a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from ..models.assessment import AssessmentRecord
from ..models.errors import AssessmentStoreError
from ..models.events import AssessmentEvent, event_from_json
from ..models.machine import evolve
from ..models.positions import Positions
from .postgres import Connection
from .queries import QUERIES
from .routing import ReadRouter


class HistoryGoneError(AssessmentStoreError):
    """Not all events of an assessment are there: nobody can tell any more what it was."""


class _Found(NamedTuple):
    events: list[AssessmentEvent]
    last_version: int


def fold(events: Iterable[AssessmentEvent]) -> list[AssessmentRecord]:
    """The states that events of one assessment lead to, from its creation on.

    Raises:
        ValueError: one is missing.
    """
    states: list[AssessmentRecord] = []
    for event in events:
        states.append(evolve(states[-1] if states else None, event))
    return states


async def past_states(
    router: ReadRouter,
    assessment_id: str,
    *,
    until: int,
    at: datetime | None = None,
    positions: Positions | None = None,
) -> list[AssessmentRecord]:
    """The states of an assessment from version 1 up to one that it is known to have had, oldest first.

    Args:
        router: where to read.
        assessment_id: which one.
        until: the last version.
        at: leave out what came later than this.
        positions: how fresh the copy of the database has to be.

    Raises:
        HistoryGoneError: some of the events are not there.
        StaleError: nobody has applied as much as the positions ask for.
        UnavailableError: nobody answers.
    """
    reading = router.read(
        partial(_read, assessment_id, until, at), positions, enough=lambda found: found.last_version >= until
    )
    found = (await reading).value
    try:
        states = fold(found.events)
    except ValueError as error:
        raise _gone(assessment_id) from error
    # What was deleted since the caller looked has no event left.
    if found.last_version < until or (at is None and len(states) < until):
        raise _gone(assessment_id)
    return states


async def _read(assessment_id: str, until: int, at: datetime | None, connection: Connection) -> _Found:
    # In this order: what comes in between is in the events, and not missed by them.
    last = await connection.fetchval(QUERIES["last_version"], assessment_id)
    rows = await connection.fetch(QUERIES["events_of_past"], assessment_id, until, at)
    return _Found([event_from_json(row["value"]) for row in rows], last)


def _gone(assessment_id: str) -> HistoryGoneError:
    return HistoryGoneError(f"The history of assessment {assessment_id} is not complete: what it was cannot be told")
