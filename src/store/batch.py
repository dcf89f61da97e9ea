"""The write side: claim a partition, and commit a batch of its commands in one fenced transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from ..models.assessment import AssessmentRecord
from ..models.errors import AssessmentStoreError, UnavailableError
from .changes import BatchChanges, Outbox
from .maintenance import delete_assessments
from .postgres import Connection, Pool, StaleViewError, postgres_errors
from .queries import QUERIES
from .rows import (
    audit_row,
    columns,
    dead_letter_from_row,
    dead_letter_row,
    metric_row,
    outgoing_from_row,
    records,
    refused_from_row,
    refused_row,
    state_row,
    update_row,
)
from .search import is_indexed, put_search_rows, search_row
from .totals import add_totals, totals_change


class FencedError(AssessmentStoreError):
    """Another worker took the partition: this one has to leave it and write nothing."""


@dataclass(frozen=True, slots=True)
class PartitionClaim:
    """The right to write one partition's batches, until somebody else claims it."""

    topic: str
    partition: int
    epoch: int
    next_offset: int
    """Everything below is applied."""
    emitted_offset: int
    """Everything below was published, and maybe more: Kafka knows."""


class BatchStore:
    """Postgres as the lanes of a worker see it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, topic: str, partition: int, *, owner: str, epoch: int | None) -> PartitionClaim:
        """Take a partition, or take it again under the epoch that this worker had.

        Raises:
            FencedError: somebody else took the partition since.
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection:
                try:
                    async with connection.transaction():
                        await connection.execute(QUERIES["limit_lock_wait"])
                        row = await connection.fetchrow(QUERIES["claim_partition"], topic, partition, owner, epoch)
                except asyncpg.LockNotAvailableError as error:
                    await connection.execute(QUERIES["end_batch_of_another"], topic, partition)
                    raise UnavailableError("Postgres ends the batch of a worker that is frozen") from error
        if row is None:
            raise FencedError(f"{topic}[{partition}] was taken by another worker after epoch {epoch}")
        return PartitionClaim(topic, partition, row["epoch"], row["next_offset"], row["emitted_offset"])

    async def record_emitted(self, claim: PartitionClaim) -> None:
        """Keep the claim's emitted offset, for a time when Kafka has forgotten it.

        Raises:
            UnavailableError: Postgres is away.
        """
        key = (claim.topic, claim.partition, claim.epoch)
        with postgres_errors():
            await self._pool.execute(QUERIES["record_emitted"], *key, claim.emitted_offset)

    @asynccontextmanager
    async def transaction(self, claim: PartitionClaim, *, next_offset: int) -> AsyncIterator[BatchTransaction]:
        """One batch: pass the fence, move the applied position to `next_offset`, and write.

        Raises:
            FencedError: somebody else owns the partition now; nothing is written.
            StaleViewError: the states were changed by somebody else; nothing is written.
            UnstorableError: Postgres refuses a value; nothing is written.
            UnavailableError: Postgres is away; whether a commit under way took place is not known.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                now = await connection.fetchval(
                    QUERIES["advance_partition"],
                    claim.topic,
                    claim.partition,
                    claim.epoch,
                    claim.next_offset,
                    next_offset,
                )
                if now is None:
                    raise FencedError(f"{claim.topic}[{claim.partition}] is no longer in epoch {claim.epoch}")
                yield BatchTransaction(connection, claim.partition, now)

    async def outbox(self, partition: int, first: int, end: int) -> Outbox:
        """Read back what the offsets `first` to `end` - 1 told the world."""
        bounds = (partition, first, end)
        with postgres_errors():
            async with self._pool.acquire() as connection:
                events = await connection.fetch(QUERIES["outbox_events"], *bounds)
                refused = await connection.fetch(QUERIES["outbox_rejections"], *bounds)
                dead = await connection.fetch(QUERIES["outbox_dead_letters"], *bounds)
        return Outbox(
            [outgoing_from_row(row) for row in events],
            [refused_from_row(row) for row in refused],
            [dead_letter_from_row(row) for row in dead],
        )

    async def changed_since(self, partition: int, first: int, end: int) -> dict[str, AssessmentRecord]:
        """The present states of what the offsets `first` to `end` - 1 changed."""
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["changed_assessments"], partition, first, end)
            states = await self._pool.fetch(QUERIES["load_states"], [row["assessment_id"] for row in rows])
        return records(states)


class BatchTransaction:
    """The open transaction of one batch, past the fence."""

    def __init__(self, connection: Connection, partition: int, now: datetime) -> None:
        self._connection = connection
        self._partition = partition
        self.now = now
        """The time of the transaction: one clock for all workers."""

    async def load(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        """The states of those that exist."""
        return records(await self._connection.fetch(QUERIES["load_states"], list(assessment_ids)))

    async def known(self, command_ids: Collection[str]) -> dict[str, bytes]:
        """The commands that have an outcome already, with the fingerprint of the first that had the id."""
        rows = await self._connection.fetch(QUERIES["known_commands"], list(command_ids))
        return {row["command_id"]: row["command_fingerprint"] or b"" for row in rows}

    async def forget(self, commands_topic: str, assessment_ids: Sequence[str]) -> None:
        """Delete assessments as retention does; for a replay that meets one again which was deleted in between."""
        if assessment_ids:
            await delete_assessments(self._connection, commands_topic, list(assessment_ids))

    async def write(self, changes: BatchChanges) -> None:
        """Write a folded batch; never over a version that it was not decided on.

        Raises:
            StaleViewError: a version is another by now; leave the transaction and decide again.
        """
        pairs = [(changes.before[key], record) for key, record in changes.after.items()]
        created = [after for before, after in pairs if before is None]
        updated = [(before.version, after) for before, after in pairs if before is not None]
        await self._write_states(created, updated)
        if changes.accepted:
            await self._execute("insert_audit", self._partition, *columns(map(audit_row, changes.accepted)))
        if metrics := [row for item in changes.accepted if (row := metric_row(item))]:
            await self._execute("insert_metrics", *columns(metrics))
        if changes.refused:
            await self._execute("insert_rejections", self._partition, *columns(map(refused_row, changes.refused)))
        for letter in changes.dead_letters:
            await self._execute("insert_dead_letter", self._partition, *dead_letter_row(letter))
        await add_totals(self._connection, self._partition, totals_change(changes.before, changes.after))
        indexed = [search_row(item.after) for item in changes.accepted if is_indexed(item.event)]
        await put_search_rows(self._connection, indexed)

    async def _write_states(
        self, created: Sequence[AssessmentRecord], updated: Sequence[tuple[int, AssessmentRecord]]
    ) -> None:
        if created:
            await self._expect(len(created), "insert_states", *columns(map(state_row, created)))
        if updated:
            await self._expect(len(updated), "update_states", *columns(update_row(*item) for item in updated))

    async def _expect(self, count: int, query: str, *arguments: object) -> None:
        written = await self._execute(query, *arguments)
        if written != count:
            raise StaleViewError(f"{count - written} of {count} assessments are at another version in Postgres")

    async def _execute(self, query: str, *arguments: object) -> int:
        """Run a named query and count the rows that it wrote."""
        status = await self._connection.execute(QUERIES[query], *arguments)
        return int(status.rsplit(" ", 1)[1])
