"""Changes as the rows of `queries.sql`, in the order of its parameters, and rows as changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
import orjson

from ..models.assessment import FINAL_STATES, AssessmentRecord
from ..models.commands import CommandHeader
from ..models.deletions import Deletion
from ..models.errors import ErrorCode, Rejection
from ..models.events import event_from_json
from ..models.letter_marks import LetterMarks
from .chaining import Link
from .changes import Accepted, DeadLetter, OutgoingEvent, Refused
from .postgres import record_from_row


def records(found: Sequence[asyncpg.Record]) -> dict[str, AssessmentRecord]:
    return {row["assessment_id"]: record_from_row(row) for row in found}


def columns(rows: Any) -> tuple[tuple[Any, ...], ...]:
    """Rows turned into the arrays that `unnest` takes."""
    return tuple(zip(*rows, strict=True))


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def state_row(record: AssessmentRecord) -> tuple[Any, ...]:
    return (
        record.assessment_id,
        record.state,
        record.version,
        record.progress,
        record.message,
        record.created_at,
        record.updated_at,
        record.started_at,
        record.completed_at,
        _json(record.request_data),
        _json(record.result_data),
        record.error_message,
        record.retry_count,
        record.next_retry_at,
        _json(record.metadata),
    )


def update_row(expected_version: int, record: AssessmentRecord) -> tuple[Any, ...]:
    return (
        record.assessment_id,
        expected_version,
        record.state,
        record.version,
        record.progress,
        record.message,
        record.updated_at,
        record.started_at,
        record.completed_at,
        _json(record.result_data),
        record.error_message,
        record.retry_count,
        record.next_retry_at,
    )


def audit_row(item: Accepted, link: Link) -> tuple[Any, ...]:
    event = item.event
    return (
        event.assessment_id,
        event.type.removeprefix("assessment."),
        event.previous_state,
        event.state,
        event.version,
        event.user_id,
        item.value.decode(),
        event.occurred_at,
        event.command_id,
        item.header.fingerprint,
        item.offset,
        item.header.traceparent,
        *link,
    )


def metric_row(item: Accepted) -> tuple[str, Decimal, datetime] | None:
    """The processing time of an assessment, where this command ended it."""
    duration = item.after.duration if item.event.state in FINAL_STATES else None
    ended = item.after.completed_at
    if duration is None or ended is None:
        return None
    # What is imported ended long ago.
    return item.event.assessment_id, Decimal(duration) / 1000, ended


def outgoing_from_row(row: asyncpg.Record) -> OutgoingEvent:
    """The event of an audit row, in the bytes that it had when it was first published."""
    event = event_from_json(row["value"])
    return OutgoingEvent(event, event.to_json(), row["traceparent"], row["command_offset"], row["command_fingerprint"])


def refused_row(item: Refused) -> tuple[Any, ...]:
    header, rejection = item.header, item.rejection
    return (
        header.id,
        header.type,
        header.fingerprint,
        header.assessment_id,
        header.user_id,
        rejection.code,
        rejection.message,
        _json(rejection.details),
        item.at,
        item.offset,
        header.traceparent,
    )


def refused_from_row(row: asyncpg.Record) -> Refused:
    return Refused(
        header=CommandHeader(
            id=row["command_id"],
            type=row["command_type"],
            assessment_id=row["assessment_id"],
            user_id=row["user_id"],
            traceparent=row["traceparent"],
            fingerprint=row["command_fingerprint"],
        ),
        rejection=rejection_from_row(row),
        at=row["created_at"],
        offset=row["command_offset"],
    )


def rejection_from_row(row: asyncpg.Record) -> Rejection:
    """The answer that a `command_rejections` row keeps."""
    return Rejection(ErrorCode(row["code"]), row["message"], orjson.loads(row["details"]))


def deletion_from_row(row: asyncpg.Record) -> Deletion:
    """A row of `assessment_deletions`."""
    return Deletion(
        assessment_id=row["assessment_id"],
        partition=row["command_partition"],
        last_offset=row["last_offset"],
        position=row["position"],
        deleted_at=row["deleted_at"],
        rows=tuple((at, found.hex()) for at, found in zip(row["leaf_offsets"], row["leaf_hashes"], strict=True)),
    )


def dead_letter_row(letter: DeadLetter) -> tuple[Any, ...]:
    names = [name.encode() for name, _ in letter.headers]
    values = [value for _, value in letter.headers]
    return letter.offset, letter.key, letter.value, names, values, letter.reason, letter.at


def letter_marks_from_row(row: asyncpg.Record) -> LetterMarks:
    """What became of a row of `dead_letters`."""
    return LetterMarks(
        partition=row["command_partition"],
        offset=row["command_offset"],
        redriven_at=row["redriven_at"],
        redriven_by=row["redriven_by"],
        redriven_partition=row["redriven_partition"],
        redriven_offset=row["redriven_offset"],
        dropped_at=row["dropped_at"],
        dropped_by=row["dropped_by"],
        drop_reason=row["drop_reason"],
    )


def letter_marks_row(marks: LetterMarks) -> tuple[Any, ...]:
    return (
        marks.partition,
        marks.offset,
        marks.redriven_at,
        marks.redriven_by,
        marks.redriven_partition,
        marks.redriven_offset,
        marks.dropped_at,
        marks.dropped_by,
        marks.drop_reason,
    )


def dead_letter_from_row(row: asyncpg.Record) -> DeadLetter:
    names = (name.decode() for name in row["header_names"])
    return DeadLetter(
        offset=row["command_offset"],
        key=row["key"],
        value=row["value"],
        headers=list(zip(names, row["header_values"], strict=True)),
        reason=row["reason"],
        at=row["created_at"],
    )
