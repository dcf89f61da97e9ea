"""The change events: one for each accepted command, in the past tense."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from .assessment import AssessmentState
from .base import JsonObject, WireModel


class EventType(StrEnum):
    """The name of an event on the wire."""

    CREATED = "assessment.created"
    STARTED = "assessment.started"
    PROGRESS = "assessment.progress"
    COMPLETED = "assessment.completed"
    FAILED = "assessment.failed"
    CANCELLED = "assessment.cancelled"
    RETRIED = "assessment.retried"


class _Event(WireModel):
    assessment_id: str
    version: int
    """The version that the assessment has after this event."""
    state: AssessmentState
    previous_state: AssessmentState | None
    progress: int
    message: str | None
    command_id: str
    user_id: str | None
    occurred_at: datetime

    @property
    def id(self) -> str:
        """`<assessment id>:<version>`, unique for ever."""
        return f"{self.assessment_id}:{self.version}"


class Created(_Event):
    type: Literal[EventType.CREATED] = EventType.CREATED
    request: JsonObject


class Started(_Event):
    type: Literal[EventType.STARTED] = EventType.STARTED


class ProgressReported(_Event):
    type: Literal[EventType.PROGRESS] = EventType.PROGRESS


class Completed(_Event):
    type: Literal[EventType.COMPLETED] = EventType.COMPLETED
    result: JsonObject
    duration_ms: int | None
    """Milliseconds from start to end."""


class Failed(_Event):
    type: Literal[EventType.FAILED] = EventType.FAILED
    error: str


class Cancelled(_Event):
    type: Literal[EventType.CANCELLED] = EventType.CANCELLED
    reason: str | None


class Retried(_Event):
    type: Literal[EventType.RETRIED] = EventType.RETRIED
    retry_count: int


AssessmentEvent = Created | Started | ProgressReported | Completed | Failed | Cancelled | Retried

_ADAPTER: TypeAdapter[AssessmentEvent] = TypeAdapter(Annotated[AssessmentEvent, Field(discriminator="type")])


def event_from_json(data: bytes | str) -> AssessmentEvent:
    """Read what `to_json` wrote."""
    return _ADAPTER.validate_json(data)
