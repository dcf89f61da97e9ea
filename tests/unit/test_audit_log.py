"""Events as the audit service's records: the reference's shape and maps."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from assessmentstore.models.events import EventType
from assessmentstore.outward.audit_log import audit_record

EVENT: dict[str, Any] = {
    "assessmentId": "a:1",
    "type": "assessment.completed",
    "version": 3,
    "state": "completed",
    "previousState": "processing",
    "progress": 100,
    "message": None,
    "commandId": "c-3",
    "userId": "ann",
    "occurredAt": "2026-01-31T12:00:07.250000Z",
    "result": {"$encrypted": {"keyId": "k", "nonce": "n", "data": "d", "digest": "x"}},
    "durationMs": 7000,
}


def body(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(audit_record(orjson.dumps(EVENT | changes)).body)
    return found


def test_a_record_has_the_shape_of_the_reference() -> None:
    assert body(ipAddress="10.0.0.1", userAgent="curl") == {
        "id": "a:1:3",
        "timestamp": "2026-01-31T12:00:07.250000Z",
        "action": "assessment_completed",
        "actor": "ann",
        "target": "assessment",
        "result": "success",
        "details": {
            "assessmentId": "a:1",
            "eventType": "assessment.completed",
            "data": EVENT | {"ipAddress": "10.0.0.1", "userAgent": "curl"},
        },
        "ipAddress": "10.0.0.1",
        "userAgent": "curl",
    }


@pytest.mark.parametrize(
    ("kind", "action", "result"),
    [
        (EventType.CREATED, "assessment_created", "pending"),
        (EventType.STARTED, "assessment_started", "pending"),
        (EventType.PROGRESS, "assessment_progress", "pending"),
        (EventType.COMPLETED, "assessment_completed", "success"),
        (EventType.FAILED, "assessment_failed", "failed"),
        (EventType.CANCELLED, "assessment_cancelled", "pending"),
        (EventType.RETRIED, "assessment_unknown", "pending"),
    ],
)
def test_actions_and_results_are_those_of_the_reference(kind: EventType, action: str, result: str) -> None:
    record = body(type=kind)

    assert (record["action"], record["result"]) == (action, result)


def test_whoever_is_not_known_is_the_system_and_nowhere() -> None:
    record = body(userId=None)

    assert (record["actor"], record["ipAddress"], record["userAgent"]) == ("system", None, None)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'{"assessmentId":"a"}'])
def test_what_is_no_event_is_told_as_such(value: bytes) -> None:
    with pytest.raises(ValueError, match="it is no event"):
        audit_record(value)
