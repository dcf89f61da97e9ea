"""Records that the audit service refused: dead letters of their own.

Those of the commands topic are records that became no command, and redriving sends them there again: these are about
commands that were accepted, and go to the service.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from .postgres import Pool, postgres_errors
from .queries import QUERIES


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLetter:
    """A refused record."""

    id: int
    event_id: str
    record: str
    """The JSON that was sent."""
    reason: str
    created_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> AuditLetter:
        """Read a row of the queries in `audit_letters.sql`."""
        return cls(**dict(row))


class AuditLetters:
    """The refused records in Postgres."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, event_id: str, record: bytes, reason: str) -> None:
        """Keep a record; twice is once.

        Raises:
            UnavailableError: Postgres is away.
        """
        texts = (text.replace("\x00", "") for text in (event_id, record.decode("utf-8", "replace"), reason))
        with postgres_errors():
            await self._pool.execute(QUERIES["put_audit_letter"], *texts)

    async def open(self, after: int, limit: int) -> list[AuditLetter]:
        """Some of those that nobody has seen to, oldest first, after an id.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["open_audit_letters"], after, limit)
        return [AuditLetter.from_row(row) for row in rows]

    async def close(self, number: int, by: str, drop_reason: str | None = None) -> bool:
        """Keep by whom one was seen to, and why it was dropped if it was; whether it was open.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            return await self._pool.fetchval(QUERIES["close_audit_letter"], number, by, drop_reason) is not None
