"""What the yardsticks do with a command: the change, and the event that tells of it; no judgement, for all is legal.

It needs nothing of the product: Quix Streams runs in an environment of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

TARGETS = {
    "assessment.create": ("assessment.created", "pending"),
    "assessment.start": ("assessment.started", "processing"),
    "assessment.progress": ("assessment.progress", "processing"),
    "assessment.complete": ("assessment.completed", "completed"),
}
"""The event of each command, and the state that it leads to."""

# Version, state, progress, message, creation, start.
State = tuple[int, str, int, str | None, datetime, datetime | None]


def change(before: State | None, command: dict[str, Any], now: datetime) -> tuple[State, dict[str, Any]]:
    """The state after a command, and what its event has besides the usual members."""
    _, state = TARGETS[command["type"]]
    data = command["data"]
    if before is None:
        defaults = {"priority": 5, "timeout": 300}
        own = {"assessmentId": command["subject"], "timestamp": now.isoformat(), "userId": command["userid"]}
        return (1, state, 0, None, now, None), {"request": defaults | data | own}
    version, _, progress, message, created, started = before
    match command["type"]:
        case "assessment.start":
            return (version + 1, state, progress, message, created, now), {}
        case "assessment.progress":
            return (version + 1, state, data["progress"], data["message"], created, started), {}
        case _:
            duration = round((now - (started or now)).total_seconds() * 1000)
            extra = {"result": data["result"], "durationMs": duration}
            return (version + 1, state, 100, message, created, started), extra


def event(
    command: dict[str, Any], before: State | None, after: State, extra: dict[str, Any], stamp: str
) -> dict[str, Any]:
    """The event of a change."""
    return {
        "assessmentId": command["subject"],
        "version": after[0],
        "state": after[1],
        "previousState": None if before is None else before[1],
        "progress": after[2],
        "message": after[3],
        "commandId": command["id"],
        "userId": command["userid"],
        "occurredAt": stamp,
        "type": TARGETS[command["type"]][0],
        **extra,
    }


def headers(event: dict[str, Any], traceparent: str) -> list[tuple[str, bytes]]:
    """The headers of an event."""
    key, version = event["assessmentId"], event["version"]
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{key}:{version}".encode()),
        ("ce_type", event["type"].encode()),
        ("ce_source", b"/assessmentstore"),
        ("ce_subject", key.encode()),
        ("ce_time", event["occurredAt"].encode()),
        ("content-type", b"application/json"),
        ("ce_sequence", str(version).encode()),
        ("traceparent", traceparent.encode()),
    ]
