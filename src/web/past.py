"""What an assessment was at a version or at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from aiohttp import web

from ..models.assessment import AssessmentRecord
from ..models.errors import ErrorCode, RejectedError, Rejection
from ..store.past import HistoryGoneError, past_states
from .freshness import READS, consistency
from .keys import keys_of
from .patience import promptly
from .queries import wrong_parameters

# Thousands of events take a moment to fold.
_SECONDS = 10.0


async def at_version(request: web.Request, record: AssessmentRecord, version: int) -> AssessmentRecord:
    """What an assessment was at a version.

    Raises:
        RejectedError: ASSESSMENT_NOT_FOUND, it has no such version yet, or its history is gone.
    """
    return (await states_until(request, record, version, name="atVersion"))[-1]


async def at_time(request: web.Request, record: AssessmentRecord, at: datetime) -> AssessmentRecord:
    """What an assessment was at a time.

    Raises:
        RejectedError: ASSESSMENT_NOT_FOUND, it was created later, or its history is gone.
    """
    states = await states_until(request, record, record.version, name="at", at=at)
    if not states:
        told = {"at": at.isoformat(), "createdAt": record.created_at.isoformat()}
        words = f"There was no assessment {record.assessment_id} at {told['at']}: it was created at {told['createdAt']}"
        if at >= record.created_at:
            words = f"Assessment {record.assessment_id} was imported later than {told['at']}: what it was is not known"
        raise _not_found(record, words, told)
    return states[-1]


async def states_until(
    request: web.Request, record: AssessmentRecord, version: int, *, name: str, at: datetime | None = None
) -> list[AssessmentRecord]:
    """The states of an assessment up to a version, from the first one on, and not after a time where one is given.

    Args:
        request: that asks; its `Consistency-Token` counts.
        record: what the assessment is now.
        version: the last one.
        name: of the parameter that asks for it.
        at: the time.

    Raises:
        RejectedError: ASSESSMENT_NOT_FOUND, it has no such version yet, or its history is gone.
    """
    if READS not in request.app:
        raise wrong_parameters([(name, "only the API tells what was: a worker knows what is")])
    if version > record.version:
        words = f"Assessment {record.assessment_id} is at version {record.version}, and has no version {version} yet"
        raise _not_found(record, words, {name: version, "version": record.version})
    positions = consistency(request)
    reading = past_states(request.app[READS], record.assessment_id, until=version, at=at, positions=positions)
    try:
        states = await promptly(reading, seconds=_SECONDS)
    except HistoryGoneError as error:
        raise _not_found(record, str(error), {}) from error
    return [keys_of(request).open_record(state) for state in states]


def _not_found(record: AssessmentRecord, words: str, details: Mapping[str, object]) -> RejectedError:
    return RejectedError(Rejection(ErrorCode.NOT_FOUND, words, dict(details)), assessment_id=record.assessment_id)
