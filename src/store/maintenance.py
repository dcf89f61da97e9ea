"""Retention: assessments that ended long ago are deleted, some at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import orjson

from ..models.chain import row_hash
from ..models.deletions import Deletion
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES
from .rows import columns, deletion_from_row, records
from .totals import MAINTENANCE_SLOT, totals_change, totals_writes
from .writes import write_together

# Rows stay locked for the time of one chunk: some ten milliseconds.
CHUNK = 500
"""Assessments that one transaction deletes."""

# A repeat comes within minutes; a month leaves room for whoever repairs by hand.
REQUEST_DAYS = 30
"""How long the keys of batches and cleanups are kept at least, be the retention shorter."""

# Nearly every word that is common at all is in one of so many documents.
_NEWEST_DOCUMENTS = 1000

# Further back than anything was stored, and within what Postgres takes for a time.
_MOST_DAYS = 365_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one transaction deleted."""

    deleted: list[str]
    total: int
    """How many the whole cleanup has deleted by now."""
    last: bool


class Maintenance:
    """Postgres as cleanup sees it."""

    def __init__(self, pool: Pool, commands_topic: str) -> None:
        self._pool = pool
        self._topic = commands_topic

    async def retention_start(self, days: int) -> datetime:
        """The time so many days ago.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            start: datetime = await self._pool.fetchval(QUERIES["retention_start"], min(days, _MOST_DAYS))
        return start

    async def delete_some(self, user_id: str, key: str, *, ended_before: datetime) -> Chunk:
        """Delete some assessments that ended before a time, and count them with the request that has the key.

        Raises:
            UnavailableError: Postgres is away; whether a commit under way took place is told by the request's count.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                (row,) = await connection.fetch(QUERIES["hold_request"], user_id, key)
                total = orjson.loads(row["plan"])["deleted"]
                if row["answer"] is not None:
                    return Chunk([], total, last=True)
                rows = await connection.fetch(QUERIES["lock_expired"], ended_before, self._topic, CHUNK)
                deleted = [expired["assessment_id"] for expired in rows]
                if deleted:
                    total += len(deleted)
                    await delete_assessments(connection, self._topic, deleted)
                    await connection.execute(QUERIES["count_deleted"], user_id, key, total)
        return Chunk(deleted, total, last=len(deleted) < CHUNK)

    async def unpublished(self, *, ended_before: datetime) -> bool:
        """Whether some that ended before a time have to stay for now, since a worker has to publish their events yet.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            return bool(await self._pool.fetchval(QUERIES["unpublished"], ended_before, self._topic))

    async def untold(self) -> dict[int, Deletion]:
        """Some of the deletions that Kafka is not known to have, by their numbers.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["untold_deletions"], CHUNK)
        return {row["id"]: deletion_from_row(row) for row in rows}

    async def note_told(self, numbers: Collection[int]) -> None:
        """Remember that Kafka has these deletions.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["note_told_deletions"], list(numbers))

    async def forget_some(self, before: datetime) -> bool:
        """Forget some of what stands beside the assessments from before a time, and tell whether that was all.

        That is refused commands, dead letters that somebody saw to, and the keys of whole requests.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            done = [
                await self._pool.execute(QUERIES["forget_rejections"], before, self._topic, CHUNK),
                await self._pool.execute(QUERIES["forget_dead_letters"], before, self._topic, CHUNK),
                await self._pool.execute(QUERIES["forget_old_requests"], before, REQUEST_DAYS, CHUNK),
            ]
        return all(int(status.rsplit(" ", 1)[1]) < CHUNK for status in done)


async def delete_assessments(connection: Connection, commands_topic: str, assessment_ids: list[str]) -> None:
    """Delete locked assessments, children first, and count them out."""
    await connection.execute(QUERIES["delete_metrics"], assessment_ids)
    words = await connection.fetch(QUERIES["delete_search_rows"], assessment_ids)
    await connection.execute(QUERIES["forget_vocabulary"], [row["word"] for row in words], _NEWEST_DOCUMENTS)
    # Rows from before there were hashes are leaves too: what they come to is put down while they are there.
    bare = await connection.fetch(QUERIES["bare_audit_rows"], assessment_ids)
    if bare:
        leaves = [(row["command_partition"], row["command_offset"], row_hash(row)) for row in bare]
        await connection.execute(QUERIES["keep_row_hashes"], *columns(leaves))
    await connection.execute(QUERIES["delete_history"], assessment_ids, commands_topic)
    deleted = records(await connection.fetch(QUERIES["delete_assessments"], assessment_ids))
    moved = totals_change(deleted, dict.fromkeys(deleted))
    await write_together(connection, totals_writes(MAINTENANCE_SLOT, moved))
