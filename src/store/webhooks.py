"""Webhooks in Postgres: who registered what."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from ..models.sealed import UnreadableError
from ..models.webhooks import TEST_EVENT, NewWebhook, Webhook, WebhookDelivery, WebhookList, WebhookRequest, message_id
from .cursors import read_cursor, write_cursor
from .encryption import NO_KEYS, KeyRing
from .postgres import Pool, postgres_errors
from .queries import QUERIES
from .webhook_secrets import open_secret, seal_secret

MOST_OF_ONE_OWNER = 50
"""Webhooks that one user may have."""

# What tells a cursor of this list from one of another.
_CURSOR = "webhooks"

_MOST_DELIVERIES = 100

# Receivers take both secrets for a day, and have that long to learn the new one.
_FORMER_SECRET_SECONDS = 86_400.0


class WebhookStore:
    """What is registered."""

    def __init__(self, pool: Pool, keys: KeyRing = NO_KEYS) -> None:
        self._pool = pool
        self._keys = keys

    async def put(
        self, number: UUID, owner: str, request: WebhookRequest, secret: str, *, sees_everything: bool
    ) -> NewWebhook | None:
        """Register a webhook, or find it where it is; nothing where its owner has as many as one may have.

        Raises:
            UnavailableError: Postgres is away.
            UnreadableError: it is there, and its secret cannot be opened.
        """
        types = None if request.event_types is None else list(dict.fromkeys(request.event_types))
        wanted = (request.url, request.description, types, request.assessment_id)
        sealed = seal_secret(self._keys, number, secret)
        with postgres_errors():
            await self._pool.execute(
                QUERIES["insert_webhook"], number, owner, sees_everything, *wanted, sealed, MOST_OF_ONE_OWNER
            )
            row = await self._pool.fetchrow(QUERIES["get_webhook"], number)
        return None if row is None else self._new(row)

    async def get(self, number: UUID) -> Webhook | None:
        """One of them.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            row = await self._pool.fetchrow(QUERIES["get_webhook"], number)
        return None if row is None else _webhook(row)

    async def page(self, owner: str | None, limit: int, cursor: str | None = None) -> WebhookList:
        """Those of an owner, or of everybody, some at a time; the oldest first.

        Raises:
            ValueError: the cursor is none that an earlier page named.
            UnavailableError: Postgres is away.
        """
        after = (None, None) if cursor is None else _read_cursor(cursor)
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["list_webhooks"], owner, *after, limit + 1)
        found = [_webhook(row) for row in rows[:limit]]
        following = write_cursor(_CURSOR, found[-1].created_at, str(found[-1].id)) if len(rows) > limit else None
        return WebhookList(webhooks=found, next_cursor=following)

    async def delete(self, number: UUID) -> None:
        """Forget one, with all that it was to be told.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["delete_webhook"], number)

    async def rotate(self, number: UUID, secret: str) -> NewWebhook | None:
        """Take a new secret, once, however often it is said; the one before signs too for a day.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(QUERIES["hold_webhook"], number)
                if row is not None and not self._has_secret(row, secret):
                    sealed = seal_secret(self._keys, number, secret)
                    row = await connection.fetchrow(QUERIES["rotate_webhook"], number, sealed, _FORMER_SECRET_SECONDS)
        return None if row is None else self._new(row)

    async def resume(self, number: UUID) -> None:
        """Switch one on again, and send what was given up, too.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["resume_webhook"], number)

    async def try_out(self, number: UUID) -> None:
        """Send a test message.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["queue_trial"], number, TEST_EVENT)

    async def deliveries(self, number: UUID) -> list[WebhookDelivery]:
        """The first messages that wait, and the last that were given up.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["waiting_deliveries"], number, _MOST_DELIVERIES)
        return [_delivery(row) for row in rows]

    def _has_secret(self, row: asyncpg.Record, secret: str) -> bool:
        """Whether it is the one that signs now; one that cannot be opened is another."""
        try:
            return open_secret(self._keys, row["id"], row["secret"]) == secret
        except UnreadableError:
            return False

    def _new(self, row: asyncpg.Record) -> NewWebhook:
        return NewWebhook(**_shown(row), secret=open_secret(self._keys, row["id"], row["secret"]))


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    kind, at, number = read_cursor(cursor)
    if kind != _CURSOR or not isinstance(at, str) or not isinstance(number, str):
        raise ValueError("it is not one of webhooks")
    created = datetime.fromisoformat(at)
    if created.tzinfo is None:
        raise ValueError("its time is of no zone")
    return created, UUID(number)


def _webhook(row: asyncpg.Record) -> Webhook:
    return Webhook(**_shown(row))


def _shown(row: asyncpg.Record) -> dict[str, Any]:
    return {name: row[name] for name in Webhook.model_fields}


def _delivery(row: asyncpg.Record) -> WebhookDelivery:
    occurred: datetime = row["occurred_at"]
    given_up = row["given_up_at"]
    return WebhookDelivery(
        id=message_id(row["webhook_id"], row["assessment_id"], row["version"], occurred),
        assessment_id=row["assessment_id"] or None,
        version=row["version"] or None,
        event_type=row["event_type"],
        attempts=row["attempts"],
        due_at=None if given_up else row["due_at"],
        given_up_at=given_up,
        last_status=row["last_status"],
        last_error=row["last_error"],
    )
