"""Webhooks as they are registered and shown, and the message that is sent; Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated
from uuid import UUID, uuid5

import orjson
from pydantic import Field, StringConstraints

from .base import Count, Identifier, JsonObject, WireModel
from .events import EventType

TEST_EVENT = "webhook.test"
"""The type of the message that shows whether messages arrive."""

MOST_DESCRIPTION = 200

_PREFIX = "whsec_"
_SECRET_BYTES = 32

# Where a caller was is for the audit, and not for whoever is told of an assessment.
_KEPT_BACK = ("ipAddress", "userAgent")


class WebhookRequest(WireModel):
    """What is to be told, and where to."""

    url: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=2000)]
    """Where messages are posted: https, and on a public address unless the operator allows others."""
    event_types: Annotated[list[EventType], Field(min_length=1, max_length=len(EventType))] | None = None
    """Only these events; without, all."""
    assessment_id: Identifier | None = None
    """Only those of one assessment."""
    description: Annotated[str, StringConstraints(strict=True, max_length=MOST_DESCRIPTION)] | None = None
    """For people."""


class Webhook(WireModel):
    """A webhook, and how it does."""

    id: UUID
    owner: str
    """Who registered it. It hears of what he may see: his own assessments, or everybody's where his role says so."""
    url: str
    event_types: list[EventType] | None
    assessment_id: str | None
    description: str | None
    created_at: datetime
    disabled_at: datetime | None
    """Since when nothing is sent, nor kept to be sent later."""
    disabled_reason: str | None
    delivered: Count
    """Messages that were taken."""
    delivered_at: datetime | None
    failing_since: datetime | None
    last_error: str | None
    """What the last message that was not taken was answered; nothing while all is well."""


class NewWebhook(Webhook):
    """A webhook with the secret that signs its messages: it is not shown again."""

    secret: str
    """`whsec_` and base64, as the libraries of Standard Webhooks take it."""


class WebhookList(WireModel):
    """Webhooks, the oldest first."""

    webhooks: list[Webhook]
    next_cursor: str | None
    """Leads to the next page; nothing on the last one."""


class WebhookDelivery(WireModel):
    """A message that was not taken yet."""

    id: str
    """Its `webhook-id`."""
    assessment_id: str | None
    version: int | None
    event_type: str
    attempts: Count
    due_at: datetime | None
    """When it is sent next, or after those before it; nothing where it was given up."""
    given_up_at: datetime | None
    last_status: int | None
    last_error: str | None


class WebhookDeliveries(WireModel):
    """The first hundred messages that wait, and those that were given up last."""

    deliveries: list[WebhookDelivery]


class WebhookTested(WireModel):
    """A test message is on its way."""

    webhook_id: UUID


def new_secret() -> str:
    """A secret that nobody knows."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def message_id(webhook: UUID, assessment_id: str, version: int, occurred_at: datetime) -> str:
    """The `webhook-id`: the same for each attempt to tell one webhook of one event, and of no other."""
    # The time is in it since retention frees ids, and their versions begin again.
    return f"msg_{uuid5(webhook, f'{assessment_id}:{version}:{occurred_at.isoformat()}').hex}"


def message(event: JsonObject) -> bytes:
    """The body that tells of an event."""
    data = {name: value for name, value in event.items() if name not in _KEPT_BACK}
    return orjson.dumps({"type": event["type"], "timestamp": event["occurredAt"], "data": data})


def trial_message(webhook: UUID, at: datetime) -> bytes:
    """The body of a test."""
    told = {"type": TEST_EVENT, "timestamp": at, "data": {"webhookId": str(webhook)}}
    return orjson.dumps(told, option=orjson.OPT_UTC_Z)


def signed_headers(name: str, body: bytes, at: datetime, keys: Sequence[str]) -> Mapping[str, str]:
    """The headers of a message: its id, the time of the attempt, and a signature by each secret."""
    seconds = str(int(at.timestamp()))
    content = b".".join((name.encode(), seconds.encode(), body))
    return {
        "webhook-id": name,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{_signature(key, content)}" for key in keys),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return base64.b64encode(hmac.new(key, content, sha256).digest()).decode()
