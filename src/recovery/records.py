"""Records of the topics that are told on, read back as what was once written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from aiokafka import ConsumerRecord

from ..models.checkpoints import Checkpoint
from ..models.commands import CommandHeader, CommandType
from ..models.deletions import Deletion
from ..models.emitted import COMMAND_FINGERPRINT, COMMAND_OFFSET
from ..models.errors import ErrorCode, Rejection
from ..models.events import AssessmentEvent, EventType, event_from_json
from ..models.letter_marks import LetterMarks
from ..store.changes import DeadLetter, Refused
from .errors import RecoveryError

_COMMANDS = {
    EventType.CREATED: CommandType.CREATE,
    EventType.STARTED: CommandType.START,
    EventType.PROGRESS: CommandType.PROGRESS,
    EventType.COMPLETED: CommandType.COMPLETE,
    EventType.FAILED: CommandType.FAIL,
    EventType.CANCELLED: CommandType.CANCEL,
    EventType.RETRIED: CommandType.RETRY,
    EventType.IMPORTED: CommandType.IMPORT,
}

_LETTER_HEADERS = ("topic", "partition", "offset", "reason", "time")
"""What the store adds to the headers of a dead letter, in this order and at their end."""
_NULL_HEADERS = "null-headers"


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event, and what is known of its command."""

    event: AssessmentEvent
    value: bytes
    header: CommandHeader
    offset: int

    @property
    def at(self) -> datetime:
        """When it happened."""
        return self.event.occurred_at


LogItem = LoggedEvent | Refused | DeadLetter


def command_offset(record: ConsumerRecord) -> int:
    """Where the command of an event or of a rejection stood.

    Raises:
        RecoveryError: the record does not tell.
    """
    for name, value in record.headers:
        if name == COMMAND_OFFSET and value:
            with _readable(record):
                return int(value)
    raise _unreadable(record, f"it has no header {COMMAND_OFFSET}, and was published by a version that told none")


def read_event(record: ConsumerRecord) -> LoggedEvent:
    """Read an event.

    Raises:
        RecoveryError: it is none.
    """
    offset = command_offset(record)
    with _readable(record):
        headers = _headers(record)
        event = event_from_json(record.value or b"")
        header = CommandHeader(
            id=event.command_id,
            type=_COMMANDS[event.type],
            assessment_id=event.assessment_id,
            user_id=event.user_id,
            ip_address=event.ip_address,
            user_agent=event.user_agent,
            traceparent=headers.get("traceparent"),
            fingerprint=bytes.fromhex(headers.get(COMMAND_FINGERPRINT, "")),
        )
    return LoggedEvent(event, record.value or b"", header, offset)


def read_rejection(record: ConsumerRecord) -> Refused:
    """Read a rejection.

    Raises:
        RecoveryError: it is none.
    """
    offset = command_offset(record)
    with _readable(record):
        headers = _headers(record)
        told: dict[str, Any] = orjson.loads(record.value or b"")
        header = CommandHeader(
            id=told["commandId"],
            type=CommandType(told["type"]),
            assessment_id=told["assessmentId"],
            user_id=told["userId"],
            traceparent=headers.get("traceparent"),
            fingerprint=bytes.fromhex(headers[COMMAND_FINGERPRINT]),
        )
        rejection = Rejection(ErrorCode(told["code"]), told["message"], told["details"])
        at = datetime.fromisoformat(told["rejectedAt"])
    return Refused(header=header, rejection=rejection, at=at, offset=offset)


def read_letter(record: ConsumerRecord) -> tuple[int, DeadLetter]:
    """Read a dead letter, and the partition that it came from.

    Raises:
        RecoveryError: it is none.
    """
    headers = [(name, value or b"") for name, value in record.headers]
    told_nulls = headers.pop()[1] if headers and headers[-1][0] == _NULL_HEADERS else b""
    own, told = headers[: -len(_LETTER_HEADERS)], headers[-len(_LETTER_HEADERS) :]
    if tuple(name for name, _ in told) != _LETTER_HEADERS:
        raise _unreadable(record, f"its last headers are not {', '.join(_LETTER_HEADERS)}")
    with _readable(record):
        nulls = set(map(int, told_nulls.split(b","))) if told_nulls else set()
        texts = {name: value.decode() for name, value in told}
        letter = DeadLetter(
            offset=int(texts["offset"]),
            key=record.key,
            value=record.value,
            headers=[(name, None if place in nulls else value) for place, (name, value) in enumerate(own)],
            reason=texts["reason"],
            at=datetime.fromisoformat(texts["time"]),
        )
        return int(texts["partition"]), letter


def read_deletion(record: ConsumerRecord) -> Deletion:
    """Read what retention deleted.

    Raises:
        RecoveryError: it is nothing of that sort.
    """
    with _readable(record):
        return Deletion.model_validate_json(record.value or b"")


def read_marks(record: ConsumerRecord) -> LetterMarks:
    """Read what became of a dead letter.

    Raises:
        RecoveryError: it is nothing of that sort.
    """
    with _readable(record):
        return LetterMarks.model_validate_json(record.value or b"")


def read_checkpoint(record: ConsumerRecord) -> Checkpoint:
    """Read a checkpoint; who signed it is not looked at.

    Raises:
        RecoveryError: it is none.
    """
    with _readable(record):
        return Checkpoint.from_json(record.value or b"")


def _headers(record: ConsumerRecord) -> Mapping[str, str]:
    return {name: value.decode() for name, value in record.headers if value is not None}


@contextmanager
def _readable(record: ConsumerRecord) -> Iterator[None]:
    """Tell which record it is that cannot be read."""
    try:
        yield
    except ValueError as error:
        raise _unreadable(record, str(error)) from error
    except (KeyError, TypeError) as error:
        raise _unreadable(record, repr(error)) from error


def _unreadable(record: ConsumerRecord, why: str) -> RecoveryError:
    return RecoveryError(f"{record.topic}[{record.partition}] at {record.offset} cannot be read back: {why}")
