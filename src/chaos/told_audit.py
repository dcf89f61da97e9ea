"""The judge of the audit service: it has every event, each under one id, those of an assessment in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from ..store.encryption import KeyRing
from .auditor import Taken, is_unwanted
from .world import World

# The reference's map has no word for other events.
_NAMED = ("created", "started", "progress", "completed", "failed", "cancelled")


def judge_audit(taken: Sequence[Taken], world: World, keys: KeyRing) -> Iterator[str]:
    """Say all that is wrong with what the service took, repeats under the same id excepted.

    Args:
        taken: in the order in which it came.
        world: what there is, in clear.
        keys: that open what the service was given.
    """
    events = {_id(event): event for event in map(orjson.loads, _details(world))}
    letters = {row["event_id"] for row in world.tables["audit_dead_letters"]}
    seen: set[str] = set()
    last: dict[str, int] = defaultdict(int)
    for item in taken:
        if item.id not in events:
            yield f"the audit service was told {item.id}, which is no event"
            continue
        event = events[item.id]
        if (told := _opened(item.record, keys)) != _record(event):
            yield f"the audit service was told {item.id} as {orjson.dumps(told).decode()[:300]}"
        key, version = event["assessmentId"], event["version"]
        if item.id not in seen and version < last[key]:
            yield f"the audit service was told version {version} of {key} after version {last[key]}"
        seen.add(item.id)
        last[key] = max(last[key], version)
    yield from (f"{name} is a dead letter of the audit service, and it never refused it" for name in _wrong(letters))
    yield from (f"the audit service was never told {name}" for name in events.keys() - seen - letters)


def _wrong(letters: set[str]) -> Iterator[str]:
    return (name for name in letters if not is_unwanted(name))


def _details(world: World) -> Iterator[str]:
    return (row["details"] for row in world.tables["assessment_audit_trail"])


def _id(event: Any) -> str:
    return f"{event['assessmentId']}:{event['version']}"


def _record(event: Any) -> dict[str, Any]:
    """What the service has to be told of an event."""
    kind = event["type"].removeprefix("assessment.")
    return {
        "id": _id(event),
        "timestamp": event["occurredAt"],
        "action": f"assessment_{kind if kind in _NAMED else 'unknown'}",
        "actor": event["userId"] or "system",
        "target": "assessment",
        "result": {"completed": "success", "failed": "failed"}.get(kind, "pending"),
        "details": {"assessmentId": event["assessmentId"], "eventType": event["type"], "data": event},
        "ipAddress": event.get("ipAddress"),
        "userAgent": event.get("userAgent"),
    }


def _opened(record: Any, keys: KeyRing) -> Any:
    details = record["details"]
    data = orjson.loads(keys.open_event(orjson.dumps(details["data"]).decode()))
    return record | {"details": details | {"data": data}}
