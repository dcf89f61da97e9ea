"""What a batch comes to: accepted and refused commands, dead letters, and the states that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.commands import CommandHeader
from ..models.errors import Rejection
from ..models.events import AssessmentEvent


class Accepted(NamedTuple):
    """An accepted command: its event, and where it stood on the topic."""

    event: AssessmentEvent
    details: JsonObject
    """The members of the event, by their names on the wire."""
    value: bytes
    """The same as JSON."""
    header: CommandHeader
    offset: int
    after: AssessmentRecord
    """The assessment right after it: what depends on this depends on no batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refused command and why."""

    header: CommandHeader
    rejection: Rejection
    at: datetime
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that is not a command, byte for byte."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    reason: str
    at: datetime | None = None
    """When it was put aside, once it was."""


class OutgoingEvent(NamedTuple):
    """An event, and what its headers tell of its command."""

    event: AssessmentEvent
    value: bytes
    """The event as JSON."""
    traceparent: str | None
    offset: int
    fingerprint: bytes | None


@dataclass(slots=True)
class Outbox:
    """What a range of offsets tells the world, each list in the order of the offsets."""

    events: list[OutgoingEvent] = field(default_factory=list)
    rejections: list[Refused] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


@dataclass(slots=True)
class BatchChanges:
    """What a folded batch writes."""

    accepted: list[Accepted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    before: dict[str, AssessmentRecord | None] = field(default_factory=dict)
    """The changed assessments as they were before; nothing where they are new."""
    after: dict[str, AssessmentRecord] = field(default_factory=dict)
    """The changed assessments."""

    def outbox(self) -> Outbox:
        """What the batch tells the world."""
        events = [
            OutgoingEvent(item.event, item.value, item.header.traceparent, item.offset, item.header.fingerprint)
            for item in self.accepted
        ]
        return Outbox(events, self.refused, self.dead_letters)
