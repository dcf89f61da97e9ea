"""Events as records of the audit service, in the shape of the reference (`AuditServiceIntegration`); pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from ..models.base import JsonObject
from ..models.events import EventType

ACTIONS: Mapping[str, str] = {
    EventType.CREATED: "assessment_created",
    EventType.STARTED: "assessment_started",
    EventType.PROGRESS: "assessment_progress",
    EventType.COMPLETED: "assessment_completed",
    EventType.FAILED: "assessment_failed",
    EventType.CANCELLED: "assessment_cancelled",
}
"""The reference's map; it knows no retry, and calls what it does not know `assessment_unknown`."""

RESULTS: Mapping[str, str] = {EventType.COMPLETED: "success", EventType.FAILED: "failed"}
"""Of everything else the result is `pending`."""


class AuditRecord(NamedTuple):
    """One record, and the assessment whose records have an order."""

    id: str
    """`<assessment id>:<version>`, the same however often it is sent."""
    assessment_id: str
    body: bytes
    """JSON."""
    fault: str = ""
    """Why it cannot be sent at all."""


def audit_record(value: bytes) -> AuditRecord:
    """The record of an event, whose JSON is on the topic.

    Encrypted payloads stay encrypted: the service is given no key, and the digest beside the cipher text is what the
    audit trail hashes.

    Raises:
        ValueError: the bytes are no event.
    """
    try:
        event: JsonObject = orjson.loads(value)
        assessment_id, kind = str(event["assessmentId"]), str(event["type"])
        record = {
            "id": f"{assessment_id}:{event['version']}",
            "timestamp": event["occurredAt"],
            "action": ACTIONS.get(kind, "assessment_unknown"),
            "actor": event["userId"] or "system",
            "target": "assessment",
            "result": RESULTS.get(kind, "pending"),
            "details": {"assessmentId": assessment_id, "eventType": kind, "data": event},
            "ipAddress": event.get("ipAddress"),
            "userAgent": event.get("userAgent"),
        }
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"it is no event: {error!r}") from error
    return AuditRecord(record["id"], assessment_id, orjson.dumps(record))
