"""The change events: one for each accepted command, in the past tense."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import orjson
from pydantic import Field, TypeAdapter

from .assessment import AssessmentRequest, AssessmentState
from .base import JsonObject, PercentDone, StableWireModel, Version, WrittenAs
from .imports import FormerChange
from .result import AssessmentResult


class EventType(StrEnum):
    """The name of an event on the wire."""

    CREATED = "assessment.created"
    STARTED = "assessment.started"
    PROGRESS = "assessment.progress"
    COMPLETED = "assessment.completed"
    FAILED = "assessment.failed"
    CANCELLED = "assessment.cancelled"
    RETRIED = "assessment.retried"
    IMPORTED = "assessment.imported"


def _is_nothing(value: str | None) -> bool:
    return value is None


class _Event(StableWireModel):
    assessment_id: str
    version: Version
    """The version that the assessment has after this event."""
    state: AssessmentState
    previous_state: AssessmentState | None
    progress: PercentDone
    message: str | None
    command_id: str
    """The command that led to it."""
    user_id: str | None
    """Who asked."""
    occurred_at: datetime
    ip_address: Annotated[str | None, Field(exclude_if=_is_nothing)] = None
    """Where he was, where that is known."""
    user_agent: Annotated[str | None, Field(exclude_if=_is_nothing)] = None
    """What he used, as he tells it himself."""

    def to_wire(self) -> JsonObject:
        """The members by their names on the wire; what is not known of the caller is left out.

        So an event from before these two members is written as it was: the audit trail hashes what is written.
        """
        wire = super().to_wire()
        if self.ip_address is None:
            del wire["ipAddress"]
        if self.user_agent is None:
            del wire["userAgent"]
        return wire

    @property
    def id(self) -> str:
        """`<assessment id>:<version>`, unique for ever."""
        return f"{self.assessment_id}:{self.version}"


class Created(_Event):
    """An assessment was taken up."""

    type: Literal[EventType.CREATED] = EventType.CREATED
    request: Annotated[JsonObject, WrittenAs(AssessmentRequest)]


class Started(_Event):
    """Work on it began."""

    type: Literal[EventType.STARTED] = EventType.STARTED


class ProgressReported(_Event):
    """It came this far."""

    type: Literal[EventType.PROGRESS] = EventType.PROGRESS


class Completed(_Event):
    """It ended with its result."""

    type: Literal[EventType.COMPLETED] = EventType.COMPLETED
    result: Annotated[JsonObject, WrittenAs(AssessmentResult)]
    duration_ms: int | None
    """Milliseconds from start to end."""


class Failed(_Event):
    """It ended with an error."""

    type: Literal[EventType.FAILED] = EventType.FAILED
    error: str
    next_retry_at: Annotated[datetime | None, Field(exclude_if=lambda at: at is None)] = None
    """When it is tried again by itself; not there where it is not."""

    def to_wire(self) -> JsonObject:
        """The members; an event from before there were retries stays the same bytes, which the trail's hashes need."""
        wire = super().to_wire()
        if self.next_retry_at is None:
            del wire["nextRetryAt"]
        return wire


class Cancelled(_Event):
    """It ended without a result."""

    type: Literal[EventType.CANCELLED] = EventType.CANCELLED
    reason: str | None


class Retried(_Event):
    """It was put back to pending."""

    type: Literal[EventType.RETRIED] = EventType.RETRIED
    retry_count: int


class Imported(_Event):
    """It was taken over from the old system as it stood there."""

    type: Literal[EventType.IMPORTED] = EventType.IMPORTED
    request: Annotated[JsonObject, WrittenAs(AssessmentRequest)]
    result: Annotated[JsonObject, WrittenAs(AssessmentResult)] | None
    error: str | None
    retry_count: int
    created_at: datetime
    """When it was created there; so are the other times of its life."""
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    next_retry_at: datetime | None
    history: tuple[Annotated[JsonObject, WrittenAs(FormerChange)], ...]
    """The old system's audit log of it, oldest first."""


AssessmentEvent = Created | Started | ProgressReported | Completed | Failed | Cancelled | Retried | Imported

_CLASSES: dict[EventType, type[AssessmentEvent]] = {
    kind.model_fields["type"].default: kind
    for kind in (Created, Started, ProgressReported, Completed, Failed, Cancelled, Retried, Imported)
}


def event_class(kind: EventType) -> type[AssessmentEvent]:
    """What carries an event of this name."""
    return _CLASSES[kind]


_ADAPTER: TypeAdapter[AssessmentEvent] = TypeAdapter(Annotated[AssessmentEvent, Field(discriminator="type")])


def event_from_json(data: bytes | str) -> AssessmentEvent:
    """Read what `to_json` wrote, or what Postgres' `jsonb` made of it.

    Raises:
        ValueError: it is no event.
    """
    # jsonb writes 1e22 with all its digits: pydantic's own reader takes these for an int, which orjson cannot write.
    return _ADAPTER.validate_python(orjson.loads(data))
