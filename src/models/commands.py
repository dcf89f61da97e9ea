"""The seven commands, and the one of the migration: what each carries, and the attributes they all have."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from .assessment import AssessmentRequest, Progress
from .base import Count, JsonObject, NonEmptyText, Text, WireModel
from .imports import Import
from .result import AssessmentResult


class CommandType(StrEnum):
    """The name of a command on the wire."""

    CREATE = "assessment.create"
    START = "assessment.start"
    PROGRESS = "assessment.progress"
    COMPLETE = "assessment.complete"
    FAIL = "assessment.fail"
    CANCEL = "assessment.cancel"
    RETRY = "assessment.retry"
    IMPORT = "assessment.import"
    """Of the migration: whoever may write to the topic may send it, and no route does."""


class Create(AssessmentRequest):
    """Take up a new assessment."""


class OfAttempt(WireModel):
    """What may be meant for one attempt only."""

    attempt: Count | None = None
    """The `retryCount` that the assessment has to have; without it, any will do."""


class Start(OfAttempt):
    """Begin to work on a pending assessment."""


class ReportProgress(OfAttempt):
    """Say how far a processing assessment is; without a message the last one stays."""

    progress: Progress
    message: Text | None = None


class Complete(OfAttempt):
    """End a processing assessment with its result."""

    result: AssessmentResult


class Fail(OfAttempt):
    """End a processing assessment with an error."""

    error: NonEmptyText


class Cancel(WireModel):
    """End a pending or processing assessment without a result."""

    reason: Text | None = None


class Retry(OfAttempt):
    """Put a failed assessment back to pending."""


CommandData = Create | Start | ReportProgress | Complete | Fail | Cancel | Retry | Import

COMMAND_DATA: dict[CommandType, type[CommandData]] = {
    CommandType.CREATE: Create,
    CommandType.START: Start,
    CommandType.PROGRESS: ReportProgress,
    CommandType.COMPLETE: Complete,
    CommandType.FAIL: Fail,
    CommandType.CANCEL: Cancel,
    CommandType.RETRY: Retry,
    CommandType.IMPORT: Import,
}

CREATING = frozenset({CommandType.CREATE, CommandType.IMPORT})
"""The commands that an assessment begins with."""


# Tuples and not frozen dataclasses, which take twice the time to make: there is one of each for each command.
class CommandHeader(NamedTuple):
    """The attributes of a command, whether its data is right or wrong."""

    id: str
    """The idempotency key: a second command with this id has no second effect."""
    type: CommandType
    assessment_id: str
    fingerprint: bytes
    """16 bytes that tell this content from another under the same id."""
    user_id: str | None = None
    """Who asks."""
    ip_address: str | None = None
    """Where the caller was, as whoever took the command up tells it."""
    user_agent: str | None = None
    """What the caller used, as he tells it himself."""
    traceparent: str | None = None
    """W3C Trace Context, passed on with the event."""
    reply_to: str | None = None
    """The HTTP process that waits for the outcome."""


class Command(NamedTuple):
    """A well-formed command with valid data."""

    header: CommandHeader
    data: CommandData
    expected_version: int | None = None


MAX_USER_AGENT_LENGTH = 500
"""Characters of a user agent that are kept."""


def content_of(command_type: str, assessment_id: str, user_id: str | None, data: JsonObject) -> bytes:
    """What tells a command from another under the same id: JSON with sorted keys.

    Where the caller was and what he used belong not to it: a repeat may come by another road.
    """
    content: list[Any] = [command_type, assessment_id, user_id, data]
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def fingerprint(command_type: str, assessment_id: str, user_id: str | None, data: JsonObject) -> bytes:
    """Digest the content of a command."""
    return digest_of(content_of(command_type, assessment_id, user_id, data))


def digest_of(content: bytes) -> bytes:
    """Sixteen bytes that tell a content from another (BLAKE2b)."""
    return blake2b(content, digest_size=16).digest()
