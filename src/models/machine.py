"""The state machine: `decide` and `evolve`, pure; every transition is written once, in `TRANSITIONS`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from .assessment import AssessmentRecord, AssessmentRequest, AssessmentState
from .commands import CREATING, Command, CommandType, Create
from .errors import Rejection
from .events import (
    AssessmentEvent,
    Cancelled,
    Completed,
    Created,
    EventType,
    Failed,
    Imported,
    ProgressReported,
    Retried,
    Started,
)
from .imports import Import
from .retries import NO_RETRIES, RetryPolicy

# Events of one assessment have times that grow: a row whose time did not change was changed by somebody else.
_TICK = timedelta(microseconds=1)

_PENDING, _PROCESSING = AssessmentState.PENDING, AssessmentState.PROCESSING
_COMPLETED, _FAILED, _CANCELLED = AssessmentState.COMPLETED, AssessmentState.FAILED, AssessmentState.CANCELLED


class Transition(NamedTuple):
    """The states a command may come from, and the one it leads to."""

    sources: tuple[AssessmentState, ...]
    target: AssessmentState


TRANSITIONS: dict[CommandType, Transition] = {
    CommandType.CREATE: Transition((), _PENDING),
    CommandType.START: Transition((_PENDING,), _PROCESSING),
    CommandType.PROGRESS: Transition((_PROCESSING,), _PROCESSING),
    CommandType.COMPLETE: Transition((_PROCESSING,), _COMPLETED),
    CommandType.FAIL: Transition((_PROCESSING,), _FAILED),
    CommandType.CANCEL: Transition((_PENDING, _PROCESSING), _CANCELLED),
    CommandType.RETRY: Transition((_FAILED,), _PENDING),
}


def allowed_from(state: AssessmentState) -> tuple[AssessmentState, ...]:
    """The states that some command leads to from `state`, in the order of the table."""
    targets = (transition.target for transition in TRANSITIONS.values() if state in transition.sources)
    return tuple(dict.fromkeys(targets))


def decide(
    record: AssessmentRecord | None, command: Command, now: datetime, retries: RetryPolicy = NO_RETRIES
) -> AssessmentEvent | Rejection:
    """Judge a command against the present state.

    Args:
        record: the state, or nothing where the id is unknown.
        command: valid in itself.
        now: the time of the decision; every event is later than the last one of its assessment.
        retries: holds where the request has no policy of its own.
    """
    header = command.header
    if header.type in CREATING:
        if record is not None:
            return Rejection.already_exists(header.assessment_id)
        if command.expected_version is not None:
            return Rejection.lock_failed(header.assessment_id, command.expected_version, 0)
        return _take_up(command, now)
    if record is None:
        return Rejection.not_found(header.assessment_id)
    if command.expected_version not in (None, record.version):
        return Rejection.lock_failed(header.assessment_id, command.expected_version or 0, record.version)
    attempt = getattr(command.data, "attempt", None)
    if attempt not in (None, record.retry_count):
        return Rejection.attempt_over(header.assessment_id, attempt, record.retry_count)
    transition = TRANSITIONS[header.type]
    if record.state not in transition.sources:
        allowed = allowed_from(record.state)
        return Rejection.transition(header.assessment_id, record.state, transition.target, allowed)
    return _change(record, command, transition.target, max(now, record.updated_at + _TICK), retries)


def _take_up(command: Command, now: datetime) -> AssessmentEvent:
    if command.header.type is CommandType.IMPORT:
        return _import(command, cast(Import, command.data), now)
    return _create(command, cast(Create, command.data), now)


def _create(command: Command, request: Create, now: datetime) -> AssessmentEvent:
    header = command.header
    return Created(
        assessment_id=header.assessment_id,
        version=1,
        state=_PENDING,
        previous_state=None,
        progress=0,
        message=None,
        command_id=header.id,
        user_id=header.user_id,
        occurred_at=now,
        ip_address=header.ip_address,
        user_agent=header.user_agent,
        request=_stored(request, header.assessment_id, header.user_id or request.user_id, now),
    )


def _import(command: Command, data: Import, now: datetime) -> AssessmentEvent:
    header = command.header
    return Imported(
        assessment_id=header.assessment_id,
        version=1,
        state=data.state,
        previous_state=None,
        progress=data.progress,
        message=data.message,
        command_id=header.id,
        user_id=header.user_id,
        occurred_at=now,
        ip_address=header.ip_address,
        user_agent=header.user_agent,
        # Who imports is not who owns.
        request=_stored(data.request, header.assessment_id, data.request.user_id, data.created_at),
        result=None if data.result is None else data.result.to_wire(),
        error=data.error,
        retry_count=data.retry_count,
        created_at=data.created_at,
        updated_at=data.updated_at,
        started_at=data.started_at,
        completed_at=data.completed_at,
        next_retry_at=data.next_retry_at,
        history=tuple(row.model_dump(mode="json", by_alias=True) for row in data.history),
    )


def _stored(request: AssessmentRequest, assessment_id: str, owner: str | None, at: datetime) -> dict[str, Any]:
    """A request as it is kept: with its id, its owner, and a time."""
    stored = request.to_wire() | {"assessmentId": assessment_id}
    stored.setdefault("timestamp", at.isoformat())
    return stored if owner is None else stored | {"userId": owner}


def _change(
    record: AssessmentRecord, command: Command, target: AssessmentState, at: datetime, retries: RetryPolicy
) -> AssessmentEvent:
    header = command.header
    common: dict[str, Any] = {
        "assessment_id": record.assessment_id,
        "version": record.version + 1,
        "state": target,
        "previous_state": record.state,
        "progress": record.progress,
        "message": record.message,
        "command_id": header.id,
        "user_id": header.user_id,
        "occurred_at": at,
        "ip_address": header.ip_address,
        "user_agent": header.user_agent,
    }
    if header.type is CommandType.FAIL:
        policy = RetryPolicy.of(record.request_data) or retries
        delay = policy.delay(record.assessment_id, record.retry_count)
        common["next_retry_at"] = None if delay is None else at + delay
    return _EVENTS[header.type](record, command.data, common)


def _completed(record: AssessmentRecord, data: Any, common: dict[str, Any]) -> AssessmentEvent:
    lasted = None if record.started_at is None else common["occurred_at"] - record.started_at
    duration = None if lasted is None else round(lasted.total_seconds() * 1000)
    return Completed(**common | {"progress": 100}, result=data.result.to_wire(), duration_ms=duration)


def _progress(record: AssessmentRecord, data: Any, common: dict[str, Any]) -> AssessmentEvent:
    message = record.message if data.message is None else data.message
    return ProgressReported(**common | {"progress": data.progress, "message": message})


# A table and not a `match` over the classes: to ask a pydantic class whether something is an instance is slow.
_EVENTS: dict[CommandType, Callable[[AssessmentRecord, Any, dict[str, Any]], AssessmentEvent]] = {
    CommandType.START: lambda _record, _data, common: Started(**common),
    CommandType.PROGRESS: _progress,
    CommandType.COMPLETE: _completed,
    CommandType.FAIL: lambda _record, data, common: Failed(**common, error=data.error),
    CommandType.CANCEL: lambda record, data, common: Cancelled(
        **common | {"message": data.reason or record.message}, reason=data.reason
    ),
    CommandType.RETRY: lambda record, _data, common: Retried(
        **common | {"progress": 0}, retry_count=record.retry_count + 1
    ),
}


def evolve(record: AssessmentRecord | None, event: AssessmentEvent) -> AssessmentRecord:
    """Apply an event: the fold of all events of an assessment is its state.

    Raises:
        ValueError: the event does not follow on `record`.
    """
    version = 0 if record is None else record.version
    if event.version != version + 1:
        raise ValueError(f"event {event.id} does not follow on version {version}")
    if event.type is EventType.CREATED:
        return AssessmentRecord(
            assessment_id=event.assessment_id,
            state=event.state,
            version=event.version,
            created_at=event.occurred_at,
            updated_at=event.occurred_at,
            request_data=event.request,
            metadata=event.request.get("metadata"),
        )
    if event.type is EventType.IMPORTED:
        return _imported(event)
    if record is None:
        raise ValueError(f"event {event.id} has no assessment to change")
    changes: dict[str, Any] = {
        "state": event.state,
        "version": event.version,
        "progress": event.progress,
        "message": event.message,
        "updated_at": event.occurred_at,
    }
    return record.model_copy(update=changes | _effects(event))


def _imported(event: Imported) -> AssessmentRecord:
    return AssessmentRecord(
        assessment_id=event.assessment_id,
        state=event.state,
        version=event.version,
        progress=event.progress,
        message=event.message,
        created_at=event.created_at,
        updated_at=event.updated_at,
        started_at=event.started_at,
        completed_at=event.completed_at,
        request_data=event.request,
        result_data=event.result,
        error_message=event.error,
        retry_count=event.retry_count,
        next_retry_at=event.next_retry_at,
        metadata=event.request.get("metadata"),
    )


def _effects(event: AssessmentEvent) -> dict[str, Any]:
    """What an event changes beside state, version, progress, message and time."""
    if event.type is EventType.STARTED:
        return {"started_at": event.occurred_at}
    if event.type is EventType.COMPLETED:
        return {"completed_at": event.occurred_at, "result_data": event.result}
    if event.type is EventType.FAILED:
        ended = {"completed_at": event.occurred_at, "error_message": event.error}
        return ended | {"next_retry_at": event.next_retry_at}
    if event.type is EventType.CANCELLED:
        return {"completed_at": event.occurred_at}
    if event.type is EventType.RETRIED:
        cleared = ("started_at", "completed_at", "result_data", "error_message", "next_retry_at")
        return dict.fromkeys(cleared) | {"retry_count": event.retry_count}
    return {}
