"""The queues of webhooks: filled from the audit trail, in its order, and worked off by whoever has the lease.

The trail has each event once, with an order and a position that tells how far it is complete. So a queue is filled
exactly once, costs one question a second where nobody is registered, and no worker parses an event for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

import asyncpg
import orjson

from ..models.sealed import UnreadableError
from ..models.webhooks import TEST_EVENT, message, message_id, trial_message
from .encryption import NO_KEYS, KeyRing
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES
from .webhook_secrets import open_secret

# Offsets looked at in one transaction: some ten milliseconds.
_WINDOW = 2000

# Whoever fills the queues holds this advisory lock.
_QUEUE_LOCK = 0x5745424F4F4B

FAILING_SECONDS = 5 * 86_400.0
"""After so long without a message taken a webhook is switched off."""

MOST_QUEUED = 100_000
"""So many messages may wait for a webhook that fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedWebhook:
    """A webhook that this process tells."""

    id: UUID
    url: str
    secrets: tuple[str, ...]
    """Each signs."""
    unreadable: str | None = None
    """Why nothing can be signed, where a secret cannot be opened."""
    failures: int

    @classmethod
    def from_row(cls, row: asyncpg.Record, now: datetime, keys: KeyRing) -> Self:
        """Read a row of `lease_webhooks`."""
        former = row["former_secret"] if (row["former_secret_ends"] or now) > now else None
        stored = [secret for secret in (row["secret"], former) if secret is not None]
        secrets, unreadable = tuple[str, ...](), None
        try:
            secrets = tuple(open_secret(keys, row["id"], secret) for secret in stored)
        except UnreadableError as error:
            unreadable = f"its secret cannot be opened, so that nothing is signed: {error}"
        return cls(id=row["id"], url=row["url"], secrets=secrets, unreadable=unreadable, failures=row["failures"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message to send."""

    id: int
    assessment_id: str
    """Empty for a test."""
    message_id: str
    attempts: int
    """That failed."""
    body: bytes | None
    """Nothing where retention took the event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """How a webhook did."""

    delivered: int
    error: str | None = None
    pause: float = 0.0
    """Seconds to leave it alone."""
    is_gone: bool = False
    """It said that it wants no more."""


class DeliveryQueues:
    """The queues of all webhooks, for one worker."""

    def __init__(self, pool: Pool, commands_topic: str, keys: KeyRing = NO_KEYS) -> None:
        self._pool = pool
        self._topic = commands_topic
        self._keys = keys

    async def fill(self) -> bool:
        """Put new events into the queues, unless somebody else is at it; whether there may be more.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            if not await self._pool.fetch(QUERIES["partitions_to_queue"], self._topic):
                return False
            async with self._pool.acquire() as connection, connection.transaction():
                if not await connection.fetchval(QUERIES["take_webhook_queue"], _QUEUE_LOCK):
                    return False
                rows = await connection.fetch(QUERIES["partitions_to_queue"], self._topic)
                return any([await self._fill(connection, row) for row in rows])

    async def _fill(self, connection: Connection, row: asyncpg.Record) -> bool:
        """Fill from one partition; whether there is more."""
        partition, first, end, anybody = row
        reached = end
        if anybody and first < end:
            reached = min(end, first + _WINDOW)
            await connection.execute(QUERIES["queue_deliveries"], partition, first, reached)
        await connection.execute(QUERIES["move_webhook_position"], partition, reached)
        return bool(reached < end)

    async def lease(self, owner: str, seconds: float, at_most: int) -> list[LeasedWebhook]:
        """Take webhooks that have something to be told.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["lease_webhooks"], owner, seconds, at_most)
        return [LeasedWebhook.from_row(row, datetime.now(row["created_at"].tzinfo), self._keys) for row in rows]

    async def release(self, owner: str) -> None:
        """Let go of all that was taken.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["release_webhooks"], owner)

    async def due(self, webhook: UUID, at_most: int) -> list[Delivery]:
        """What a webhook is to be told now, those of an assessment in order.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["due_deliveries"], webhook, at_most)
        return [self._delivery(webhook, row) for row in rows]

    async def forget(self, delivery: Delivery) -> None:
        """One was taken, or there is nothing to tell any more.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["forget_delivery"], delivery.id)

    async def postpone(self, delivery: Delivery, status: int | None, error: str, pause: float | None) -> None:
        """One was not taken: send it after a pause in seconds, or never again.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["postpone_delivery"], delivery.id, status, error, pause)

    async def end_turn(self, owner: str, webhook: UUID, turn: Turn) -> str | None:
        """Keep how a webhook did, and let go of it; why it is switched off by now, if it is.

        Raises:
            UnavailableError: Postgres is away.
        """
        gone = "gone" if turn.is_gone else None
        limits = (FAILING_SECONDS, MOST_QUEUED)
        with postgres_errors():
            reason: str | None = await self._pool.fetchval(
                QUERIES["end_turn"], webhook, owner, turn.delivered, turn.error, turn.pause, gone, *limits
            )
        return reason

    def _delivery(self, webhook: UUID, row: asyncpg.Record) -> Delivery:
        body = None
        if row["event_type"] == TEST_EVENT:
            body = trial_message(webhook, row["occurred_at"])
        elif row["event"] is not None:
            body = message(orjson.loads(self._keys.open_event(row["event"])))
        return Delivery(
            id=row["id"],
            assessment_id=row["assessment_id"],
            message_id=message_id(webhook, row["assessment_id"], row["version"], row["occurred_at"]),
            attempts=row["attempts"],
            body=body,
        )
