"""A record of the old system as the data of an import, and the fields in which it differs from what the store has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from ..models.assessment import FINAL_STATES, AssessmentRecord, AssessmentState
from ..models.base import JsonObject
from ..models.errors import Rejection
from ..models.imports import FormerChange, Import
from .fields import UnreadableError, has, member, state_of, time_of

_TIMES = ("createdAt", "updatedAt", "startedAt", "completedAt", "nextRetryAt")

# What the store adds to a request, or writes in its own way.
_OF_THE_STORE = frozenset({"id", "assessmentId", "assessment_id", "requestId", "timestamp", "priority", "timeout"})


class Difference(NamedTuple):
    """A field that is not the same in both systems."""

    field: str
    legacy: Any
    store: Any


def parse_record(raw: bytes) -> JsonObject:
    """A line of an export.

    Raises:
        UnreadableError: it is no JSON object.
    """
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"it is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableError("it is no JSON object")
    return value


def record_id(record: JsonObject) -> str:
    """The id of a record, an event or a row of the audit log.

    Raises:
        UnreadableError: it has none.
    """
    found = member(record, "assessmentId")
    if not isinstance(found, str) or not found:
        raise UnreadableError("it names no assessment: assessmentId is missing or no text")
    return found


def import_data(record: JsonObject, history: tuple[JsonObject, ...] = ()) -> JsonObject:
    """The data of the import command of a record.

    Args:
        record: as the export has it.
        history: the rows of its audit log.

    Raises:
        UnreadableError: something of it is unknown or impossible; nothing is guessed.
    """
    state = state_of(member(record, "state"))
    request = member(record, "request")
    if not isinstance(request, dict):
        raise UnreadableError("it has no request")
    data: JsonObject = {"state": str(state), "request": _request(record, request), **_times(record, request, state)}
    for name in ("result", "error", "message", "retryCount"):
        if (value := member(record, name)) is not None:
            data[name] = value
    progress = member(record, "progress")
    data["progress"] = (100 if state is AssessmentState.COMPLETED else 0) if progress is None else progress
    if history:
        data["history"] = [former_change(row) for row in history]
    try:
        Import.model_validate(data)
    except ValidationError as error:
        raise UnreadableError(Rejection.from_validation(error).message) from error
    return data


_ROW_TIMES = ("createdAt", "created_at", "timestamp")


def without_time(row: JsonObject) -> JsonObject:
    """A row of the audit log whose time is none."""
    return {name: value for name, value in row.items() if name not in _ROW_TIMES}


def former_change(row: JsonObject) -> JsonObject:
    """A row of the audit log, as the store keeps it.

    Raises:
        UnreadableError: its time is none.
    """
    names = {
        "action": ("action", "changeAction", "change_action"),
        "oldState": ("oldState", "old_state"),
        "newState": ("newState", "new_state"),
        "userId": ("userId", "changedBy", "changed_by", "user_id", "actor"),
        "createdAt": _ROW_TIMES,
    }
    found = {name: next((row[one] for one in known if row.get(one) is not None), None) for name, known in names.items()}
    found["createdAt"] = time_of(found["createdAt"], "createdAt of an audit row")
    texts = {name: value for name, value in found.items() if isinstance(value, str)}
    return FormerChange.model_validate({"action": "unknown"} | texts).model_dump(mode="json", by_alias=True)


def differences(record: JsonObject, stored: AssessmentRecord, *, times: bool = False) -> list[Difference]:
    """The fields of a record that are not what the store has; what the record does not speak of is not compared.

    Args:
        record: of the old system.
        stored: the same assessment in the store, with its payload clear.
        times: whether times have to be the same, as they are right after an import.
    """
    return list(_differences(record, stored, times=times))


def _differences(record: JsonObject, stored: AssessmentRecord, *, times: bool) -> Iterator[Difference]:
    try:
        state: str = state_of(member(record, "state"))
    except UnreadableError:
        state = str(member(record, "state"))
    if state != stored.state:
        yield Difference("state", state, str(stored.state))
    plain = {
        "progress": stored.progress,
        "message": stored.message,
        "error": stored.error_message,
        "retryCount": stored.retry_count,
    }
    for name, ours in plain.items():
        theirs = member(record, name)
        # Of what it has nothing to say, the old system says null.
        if theirs is not None and theirs != ours:
            yield Difference({"error": "errorMessage"}.get(name, name), theirs, ours)
    yield from _of_objects("requestData", member(record, "request"), stored.request_data, passed_over=_OF_THE_STORE)
    if has(record, "result"):
        yield from _of_objects("resultData", member(record, "result") or {}, stored.result_data or {})
    if times:
        yield from _of_times(record, stored)


def _of_objects(
    name: str, theirs: Any, ours: JsonObject, *, passed_over: frozenset[str] = frozenset()
) -> Iterator[Difference]:
    if not isinstance(theirs, dict):
        return
    for key in sorted(theirs.keys() - passed_over):
        if theirs[key] != ours.get(key):
            yield Difference(f"{name}.{key}", theirs[key], ours.get(key))


def _of_times(record: JsonObject, stored: AssessmentRecord) -> Iterator[Difference]:
    ours = {"createdAt": stored.created_at, "updatedAt": stored.updated_at, "completedAt": stored.completed_at}
    for name, at in ours.items():
        told = time_of(member(record, name), name)
        theirs = None if told is None else datetime.fromisoformat(told)
        if theirs is not None and theirs != at and not (name == "completedAt" and at is None):
            yield Difference(name, theirs.isoformat(), None if at is None else at.isoformat())


def _request(record: JsonObject, request: JsonObject) -> JsonObject:
    """The request, with the metadata of the record, under our names."""
    kept = {name: value for name, value in request.items() if name not in ("id", "assessment_id", "requestId")}
    metadata = member(record, "metadata")
    return kept if metadata is None or "metadata" in kept else kept | {"metadata": metadata}


def _times(record: JsonObject, request: JsonObject, state: AssessmentState) -> JsonObject:
    found = {name: time_of(member(record, name), name) for name in _TIMES}
    found["createdAt"] = found["createdAt"] or time_of(request.get("timestamp"), "timestamp")
    if found["createdAt"] is None:
        raise UnreadableError("it has no createdAt")
    found["updatedAt"] = found["updatedAt"] or found["completedAt"] or found["createdAt"]
    if state in FINAL_STATES:
        found["completedAt"] = found["completedAt"] or found["updatedAt"]
    else:
        # Of an earlier attempt that was retried.
        found["completedAt"] = None
    found["startedAt"] = found["startedAt"] or _started(record, found["completedAt"])
    return {name: value for name, value in found.items() if value is not None}


def _started(record: JsonObject, completed_at: str | None) -> str | None:
    """When it began, of which only the metadata and the duration may tell.

    Raises:
        UnreadableError: they tell of no time.
    """
    metadata = member(record, "metadata")
    told = time_of(metadata.get("startedAt"), "metadata.startedAt") if isinstance(metadata, dict) else None
    duration = record.get("duration")
    if told is None and completed_at is not None and isinstance(duration, int | float) and duration >= 0:
        try:
            told = (datetime.fromisoformat(completed_at) - timedelta(milliseconds=duration)).isoformat()
        except OverflowError as error:
            raise UnreadableError(f"duration is {duration!r:.100}: nothing lasts so many milliseconds") from error
    return told
