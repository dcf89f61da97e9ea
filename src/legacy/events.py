"""Events of the old system as commands, under ids that are the same whenever the event comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson

from ..models.assessment import AssessmentState
from ..models.base import MAX_ID_LENGTH, JsonObject
from ..models.commands import CommandType
from ..models.events import EventType
from .fields import UnreadableError, member, state_of, time_of
from .names import RANKS, LegacyKind, legacy_kind
from .records import record_id

ORIGIN = "legacy:"
"""What the ids of commands begin with that come from the old system: it is not told of their changes again."""

_NO_RANK = -1

EVENT_NAMES = ("type", "event", "eventType", "name")
"""Where an event has its name; of these and of the following the first that is there counts."""
EVENT_IDS = ("eventId", "event_id", "messageId")
TIMES = ("timestamp", "occurredAt", "time")
BODIES = ("data", "payload")

_COMMANDS: dict[LegacyKind, CommandType] = {
    LegacyKind.CREATED: CommandType.CREATE,
    LegacyKind.STARTED: CommandType.START,
    LegacyKind.PROGRESS: CommandType.PROGRESS,
    LegacyKind.COMPLETED: CommandType.COMPLETE,
    LegacyKind.FAILED: CommandType.FAIL,
    LegacyKind.CANCELLED: CommandType.CANCEL,
    LegacyKind.RETRIED: CommandType.RETRY,
}

_ENTERED: dict[AssessmentState, LegacyKind] = {
    AssessmentState.PENDING: LegacyKind.RETRIED,
    AssessmentState.PROCESSING: LegacyKind.STARTED,
    AssessmentState.COMPLETED: LegacyKind.COMPLETED,
    AssessmentState.FAILED: LegacyKind.FAILED,
    AssessmentState.CANCELLED: LegacyKind.CANCELLED,
}
"""What brings an assessment into a state."""


class UnknownNameError(UnreadableError):
    """The old system has no event of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyEvent:
    """An event of the old system, in our words."""

    command_id: str
    kind: LegacyKind
    assessment_id: str
    data: JsonObject
    """Of the command; of a report the record."""
    at: datetime | None
    """When it happened, where it tells."""

    @property
    def command(self) -> CommandType | None:
        """What it asks for; nothing where it is a report."""
        return _COMMANDS.get(self.kind)

    @property
    def rank(self) -> int:
        """Its place in a life; below 0 where it has none."""
        return RANKS.get(self.kind, _NO_RANK)


def read_event(value: Any) -> LegacyEvent:
    """Read an event of the old system.

    Raises:
        UnknownNameError: it has a name that nobody knows.
        UnreadableError: it is no event.
    """
    if not isinstance(value, dict):
        raise UnreadableError("it is no JSON object")
    name = _first(value, EVENT_NAMES)
    if not isinstance(name, str):
        raise UnreadableError("it has no name: type is missing or no text")
    kind = legacy_kind(name)
    if kind is None:
        raise UnknownNameError(f"the name {name[:100]!r} is not one of the old system's")
    body = _first(value, BODIES)
    fields = value | body if isinstance(body, dict) else value
    # The id of a request within may be another one's.
    assessment_id = record_id(value if member(value, "assessmentId") else fields)
    kind, data = _understood(kind, fields, body)
    at = time_of(_first(value, TIMES), "timestamp")
    return LegacyEvent(
        command_id=_command_id(value, kind, assessment_id),
        kind=kind,
        assessment_id=assessment_id,
        data=data,
        at=None if at is None else datetime.fromisoformat(at),
    )


def legacy_notification(event: Mapping[str, Any]) -> JsonObject | None:
    """What the old system's listeners are told of a change; nothing where they told the store.

    Args:
        event: a change event, as it is on the wire.
    """
    kind = EventType(event["type"])
    if kind is EventType.IMPORTED or str(event["commandId"]).startswith(ORIGIN):
        return None
    told: JsonObject = {
        "eventId": f"{event['assessmentId']}:{event['version']}",
        # They know of no retry: it is a record that changed.
        "type": str(LegacyKind.REPORT if kind is EventType.RETRIED else kind),
        "assessmentId": event["assessmentId"],
        "timestamp": event["occurredAt"],
        "version": event["version"],
    }
    return told | _NOTIFIED[kind](event)


_NOTIFIED: dict[EventType, Callable[[Mapping[str, Any]], JsonObject]] = {
    EventType.CREATED: lambda event: {"data": event["request"]},
    EventType.STARTED: lambda _event: {},
    EventType.PROGRESS: lambda event: {"progress": event["progress"], "message": event["message"]},
    EventType.COMPLETED: lambda event: {"result": event["result"], "duration": event["durationMs"]},
    EventType.FAILED: lambda event: {"error": event["error"]},
    EventType.CANCELLED: lambda event: {"reason": event["reason"]},
    EventType.RETRIED: lambda event: {
        "data": {
            "assessmentId": event["assessmentId"],
            "state": event["state"],
            "progress": event["progress"],
            "retryCount": event["retryCount"],
        }
    },
}


def _understood(kind: LegacyKind, fields: JsonObject, body: Any) -> tuple[LegacyKind, JsonObject]:
    """What the event means, and the data of its command."""
    if kind is LegacyKind.REPORT:
        return kind, fields
    if kind is LegacyKind.STATE:
        kind = _ENTERED[state_of(member(fields, "state"))]
    if kind is LegacyKind.CREATED:
        request = member(fields, "request")
        request = body if request is None else request
        if not isinstance(request, dict):
            raise UnreadableError("it has no request")
        return kind, {name: item for name, item in request.items() if name not in ("id", "requestId", "assessmentId")}
    wanted = {
        LegacyKind.PROGRESS: {"progress": member(fields, "progress"), "message": member(fields, "message")},
        LegacyKind.COMPLETED: {"result": member(fields, "result")},
        LegacyKind.FAILED: {"error": member(fields, "error")},
        LegacyKind.CANCELLED: {"reason": fields.get("reason")},
    }.get(kind, {})
    return kind, {name: item for name, item in wanted.items() if item is not None}


def _command_id(value: JsonObject, kind: LegacyKind, assessment_id: str) -> str:
    """The same for the same event: its own id, else a digest of all that it says."""
    own = _first(value, EVENT_IDS) or (value.get("id") if "assessmentId" in value or "assessment_id" in value else None)
    if isinstance(own, str | int) and own != assessment_id:
        found = f"{ORIGIN}{own}:{kind}"
        if len(found) <= MAX_ID_LENGTH:
            return found
    content = orjson.dumps([kind, assessment_id, value], option=orjson.OPT_SORT_KEYS)
    return f"{ORIGIN}{sha256(content).hexdigest()}"


def _first(value: JsonObject, names: tuple[str, ...]) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)
