"""The two topics of the move from an old system, for the AsyncAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from ..legacy.events import BODIES, EVENT_IDS, EVENT_NAMES, TIMES, legacy_notification
from ..legacy.fields import NAMES
from ..legacy.names import LegacyKind
from ..models.assessment import AssessmentState
from ..models.base import JsonObject
from ..models.events import EventType, event_class
from .asyncapi_examples import Sample
from .asyncapi_parts import BINDING, ID, TEXT, TIME, Document, message, object_of

_NO_HEADERS = object_of({}, ())

_EVENT = "legacyEvent"

_NOTIFIED: dict[EventType, dict[str, str]] = {
    EventType.CREATED: {"data": "request"},
    EventType.STARTED: {},
    EventType.PROGRESS: {"progress": "progress", "message": "message"},
    EventType.COMPLETED: {"result": "result", "duration": "durationMs"},
    EventType.FAILED: {"error": "error"},
    EventType.CANCELLED: {"reason": "reason"},
    EventType.RETRIED: {},
}
"""What the old system's listeners are told of each event, besides what they are told of all: its members by theirs."""

_REPORTED: Document = object_of(
    {
        "assessmentId": ID,
        "state": {"const": AssessmentState.PENDING},
        "progress": {"const": 0},
        "retryCount": {"type": "integer", "minimum": 1},
    },
    ("assessmentId", "state", "progress", "retryCount"),
)
"""What they are told of a retry, which they know as a record that changed."""


def legacy_event_messages() -> Document:
    """What the old system says: as loose as it is."""
    described = {
        EVENT_NAMES: "What happened; of these the first that is there.",
        EVENT_IDS: "Tells the event from any other: sent again, it has no second effect.",
        TIMES: "When it happened: RFC 3339, or milliseconds since 1970.",
        BODIES: "The other members may stand in here.",
    }
    properties = {name: {"description": text} for names, text in described.items() for name in names}
    for ours, theirs in NAMES.items():
        properties |= {name: {"description": f"Is {ours}."} for name in theirs if name not in properties}
    payload: Document = {
        "type": "object",
        "properties": properties,
        "anyOf": [object_of({name: TEXT}, [name]) for name in EVENT_NAMES],
    }
    kinds = ", ".join(LegacyKind)
    summary = f"An event of the old system, under any of its names for {kinds}. What is none becomes a dead letter."
    example = Sample({}, {"type": "assessment_failed", "eventId": "e-7", "assessmentId": "a-1", "error": "no route"})
    found = message("legacy event", summary, payload, _NO_HEADERS, example)
    # It may have any key, or none: the id stands in the event.
    found["bindings"]["kafka"] = dict(BINDING)
    return {_EVENT: found}


def legacy_notification_messages(components: Mapping[str, Document], told: Mapping[str, Sample]) -> Document:
    """What the old system's listeners are told.

    Args:
        components: the schemas of the document, by name.
        told: a record of each kind of event.
    """
    return dict(_notifications(components, told))


def _notifications(components: Mapping[str, Document], told: Mapping[str, Sample]) -> Iterator[tuple[str, Document]]:
    for kind, members in _NOTIFIED.items():
        # It is written by the function that tells them, so that the example is what they get.
        sample = cast(JsonObject, legacy_notification(told[kind].payload))
        of_event = components[event_class(kind).__name__]["properties"]
        special = {theirs: of_event[ours] for theirs, ours in members.items()}
        if kind is EventType.RETRIED:
            special = {"data": _REPORTED}
        properties = {
            "eventId": TEXT | {"description": "The same whenever it is told: it may come more than once."},
            "type": {"const": sample["type"]},
            "assessmentId": ID,
            "timestamp": TIME,
            "version": of_event["version"],
        }
        payload = object_of(properties | special, (*properties, *special)) | {"additionalProperties": False}
        summary = f"The store has {kind}, and the old system did not say so itself."
        yield f"legacy.{kind}", message(f"legacy {sample['type']}", summary, payload, _NO_HEADERS, Sample({}, sample))
