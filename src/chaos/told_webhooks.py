"""The judge of webhooks: each was told every event that it asked for and may see, signed, in order, no other."""

from __future__ import annotations

import base64
import hmac
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import orjson

from ..models.webhooks import message_id
from .receiver import Delivery, Hook, id_of
from .world import World

UNTOLD = """
SELECT (SELECT count(*) FROM webhook_deliveries) + (
    SELECT count(*) FROM command_offsets AS fence LEFT JOIN webhook_positions AS done USING (partition)
    WHERE done.next_offset IS DISTINCT FROM fence.next_offset AND fence.next_offset > 0
)
"""
"""Messages that wait, and partitions whose events are not in the queues."""


def judge_webhook(hook: Hook, world: World) -> Iterator[str]:
    """Say all that is wrong with what a webhook was told, duplicates under the same id excepted."""
    asked, known = _asked_for(hook, world), {}
    last: dict[str, int] = defaultdict(int)
    for delivery in hook.taken:
        name = delivery.headers.get("webhook-id", "")
        if not _is_signed(hook, delivery):
            yield f"{_named(hook)} was told {name} with a signature that is not its own"
        if name not in asked:
            yield f"{_named(hook)} was told {name}, which is no event that it asked for: {delivery.body[:200]!r}"
            continue
        if orjson.loads(delivery.body) != _message(asked[name]):
            yield f"{_named(hook)} was told {name} with another body than its event"
        if name not in known:
            key, version = asked[name]["assessmentId"], asked[name]["version"]
            if version < last[key]:
                yield f"{_named(hook)} was told version {version} of {key} after version {last[key]}"
            last[key] = version
        known[name] = True
    for name in asked.keys() - known.keys():
        event = asked[name]
        yield f"{_named(hook)} was never told of version {event['version']} of {event['assessmentId']}"


def _asked_for(hook: Hook, world: World) -> dict[str, Any]:
    """The events that a webhook has to be told, by the id of its message; all came after its registration."""
    found = {}
    for row in world.tables["assessment_audit_trail"]:
        event = orjson.loads(row["details"])
        types = hook.wanted.get("eventTypes")
        owner = world.states[row["assessment_id"]].owner
        if types is not None and event["type"] not in types:
            continue
        if hook.wanted.get("assessmentId", event["assessmentId"]) != event["assessmentId"]:
            continue
        if hook.owner not in ("admin", owner):
            continue
        found[message_id(id_of(hook), event["assessmentId"], event["version"], row["created_at"])] = event
    return found


# Where a caller was is for the audit, and not for whoever is told.
_KEPT_BACK = {"ipAddress", "userAgent"}


def _message(event: Any) -> Any:
    data = {name: value for name, value in event.items() if name not in _KEPT_BACK}
    return {"type": event["type"], "timestamp": event["occurredAt"], "data": data}


def _is_signed(hook: Hook, delivery: Delivery) -> bool:
    """Whether one of its signatures is right, by the words of Standard Webhooks."""
    secret = hook.webhook.secret.removeprefix("whsec_") if hook.webhook else ""
    headers = delivery.headers
    content = b".".join(
        (headers.get("webhook-id", "").encode(), headers.get("webhook-timestamp", "").encode(), delivery.body)
    )
    digest = base64.b64encode(hmac.new(base64.b64decode(secret), content, sha256).digest()).decode()
    return f"v1,{digest}" in headers.get("webhook-signature", "").split()


def _named(hook: Hook) -> str:
    wanted = ", ".join(f"{name} {value}" for name, value in hook.wanted.items()) or "everything"
    return f"the webhook of {hook.owner} for {wanted}"
