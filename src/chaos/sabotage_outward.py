"""Ways to break what is told to others, in a worker, and imports, in theirs; applied before the process begins.

Each takes away one guard, and leaves everything else as it is.
"""

# ruff: noqa: ARG001 - what stands in the place of a method takes what the method takes

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from ..legacy import importing
from ..models.webhooks import signed_headers
from ..outward import audit, webhooks
from ..outward.consumer import EventsConsumer
from ..store.audit_letters import AuditLetters
from ..store.deliveries import DeliveryQueues
from ..store.legacy_imports import ImportCounts, LegacyImports

# What a slow network may take.
_SLOW_SECONDS = 0.4


def forget_before_told() -> None:
    """A message leaves the queue before it is sent."""
    send = webhooks._Turn._send

    async def hasty(self: Any, delivery: Any) -> None:
        await self._queues.forget(delivery)
        await send(self, delivery)

    webhooks._Turn._send = hasty  # type: ignore[method-assign]


def sign_something_else() -> None:
    """The signature is of another body."""
    sign = signed_headers

    def careless(name: str, body: bytes, at: Any, keys: Any) -> Any:
        return sign(name, b"{}", at, keys)

    webhooks.signed_headers = careless  # type: ignore[attr-defined]


def new_message_ids() -> None:
    """Each attempt to tell has an id of its own."""
    due = DeliveryQueues.due

    async def renamed(self: DeliveryQueues, webhook: Any, at_most: int) -> Any:
        return [replace(item, message_id=f"msg_{uuid.uuid4().hex}") for item in await due(self, webhook, at_most)]

    DeliveryQueues.due = renamed  # type: ignore[method-assign]


def audit_position_first() -> None:
    """A chunk is acknowledged before the audit service has it."""
    hand_over = EventsConsumer._hand_over

    async def hasty(self: EventsConsumer, consumer: Any, place: Any, records: Any) -> None:
        await consumer.commit({place: records[-1].offset + 1})
        await asyncio.sleep(_SLOW_SECONDS)
        await hand_over(self, consumer, place, records)

    EventsConsumer._hand_over = hasty  # type: ignore[method-assign]


def audit_ids_anew() -> None:
    """Each attempt to forward an event has an id of its own."""
    send = audit.AuditService.send

    async def renamed(self: audit.AuditService, record: Any) -> Any:
        body = orjson.loads(record.body) | {"id": uuid.uuid4().hex}
        return await send(self, record._replace(body=orjson.dumps(body)))

    audit.AuditService.send = renamed  # type: ignore[method-assign]


def audit_all_at_once() -> None:
    """The records of one assessment do not wait for each other."""
    send_all = audit.AuditForwarder._send_all

    async def hasty(self: audit.AuditForwarder, line: Any) -> None:
        await asyncio.gather(*(send_all(self, [record]) for record in line))

    audit.AuditForwarder._send_all = hasty  # type: ignore[method-assign]


def audit_without_letters() -> None:
    """What the audit service refuses for good is dropped without a word."""

    async def nothing(self: AuditLetters, event_id: str, record: bytes, reason: str) -> None:
        return

    AuditLetters.put = nothing  # type: ignore[method-assign]


def import_position_first() -> None:
    """An import keeps its position before the batch, as whoever commits offsets first does."""
    advance, batch = LegacyImports.advance, importing.Importer._batch

    async def hasty(self: importing.Importer, lines: Any) -> ImportCounts:
        await advance(self._imports, self._export.digest, lines[-1].end, len(lines), ImportCounts(0, 0, 0, 0))
        await asyncio.sleep(_SLOW_SECONDS)
        return await batch(self, lines)

    async def nothing(self: LegacyImports, digest: bytes, position: int, lines: int, counts: ImportCounts) -> None:
        return

    importing.Importer._batch = hasty  # type: ignore[method-assign]
    LegacyImports.advance = nothing  # type: ignore[method-assign]


BREAKERS: dict[str, Callable[[], None]] = {
    "forget-before-told": forget_before_told,
    "sign-something-else": sign_something_else,
    "new-message-ids": new_message_ids,
    "audit-position-first": audit_position_first,
    "audit-ids-anew": audit_ids_anew,
    "audit-all-at-once": audit_all_at_once,
    "audit-without-letters": audit_without_letters,
    "import-position-first": import_position_first,
}
