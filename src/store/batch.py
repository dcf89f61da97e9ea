"""The write side: claim a partition, and commit batches of several partitions' commands in one fenced transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from ..models.assessment import AssessmentRecord
from ..models.chain import row_hash
from ..models.errors import AssessmentStoreError, UnavailableError
from .chaining import Head, chain
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
from .search import is_indexed, search_row, search_writes
from .totals import totals_change, totals_writes
from .writes import Write, write_rows, write_together


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
    former_producers: frozenset[str] = frozenset()
    """Names of what published for the partition, and may still have a transaction open."""


class BatchStore:
    """Postgres as the lanes of a worker see it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(
        self, topic: str, partition: int, *, owner: str, epoch: int | None, producer: str | None = None
    ) -> PartitionClaim:
        """Take a partition, or take it again under the epoch that this worker had.

        Args:
            topic: of the commands.
            partition: of it.
            owner: who takes it, for operators.
            epoch: that this worker had; nothing where it had none.
            producer: the name of what will publish for it, if anything will.

        Raises:
            FencedError: somebody else took the partition since.
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection:
                try:
                    async with connection.transaction():
                        await connection.execute(QUERIES["limit_lock_wait"])
                        row = await connection.fetchrow(
                            QUERIES["claim_partition"], topic, partition, owner, epoch, producer
                        )
                except asyncpg.LockNotAvailableError as error:
                    await connection.execute(QUERIES["end_batch_of_another"], topic, partition)
                    raise UnavailableError("Postgres ends the batch of a worker that is frozen") from error
        if row is None:
            raise FencedError(f"{topic}[{partition}] was taken by another worker after epoch {epoch}")
        offsets = row["epoch"], row["next_offset"], row["emitted_offset"]
        return PartitionClaim(topic, partition, *offsets, frozenset(row["former_producers"]))

    async def forget_former_producers(self, claim: PartitionClaim, producer: str) -> None:
        """Name nobody but this producer for the partition: all others are fenced.

        Raises:
            UnavailableError: Postgres is away.
        """
        key = (claim.topic, claim.partition, claim.epoch)
        with postgres_errors():
            await self._pool.execute(QUERIES["forget_former_producers"], *key, producer)

    async def record_emitted(self, claim: PartitionClaim) -> None:
        """Keep the claim's emitted offset, for a time when Kafka has forgotten it.

        Raises:
            UnavailableError: Postgres is away.
        """
        key = (claim.topic, claim.partition, claim.epoch)
        with postgres_errors():
            await self._pool.execute(QUERIES["record_emitted"], *key, claim.emitted_offset)

    @asynccontextmanager
    async def transaction(self, moves: Mapping[PartitionClaim, int]) -> AsyncIterator[BatchTransaction]:
        """One batch of several partitions: pass their fences, move their applied positions, and write.

        Args:
            moves: the partitions, and where the applied position of each goes.

        Raises:
            FencedError: somebody else owns one of the partitions now; nothing is written.
            StaleViewError: the states were changed by somebody else; nothing is written.
            UnstorableError: Postgres refuses a value; nothing is written.
            UnavailableError: Postgres is away; whether a commit under way took place is not known.
        """
        rows = [(claim.topic, claim.partition, claim.epoch, claim.next_offset, end) for claim, end in moves.items()]
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                moved = await connection.fetch(QUERIES["advance_partitions"], *columns(rows))
                lost = {claim.partition for claim in moves} - {row["partition"] for row in moved}
                if lost:
                    raise FencedError(f"the partitions {sorted(lost)} are no longer in the epoch of their claims")
                yield BatchTransaction(connection, moved[0]["now"])

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
    """The open transaction of one batch, past the fences."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self.now = now
        """The time of the transaction: one clock for all workers."""
        self._heads: dict[str, Head] = {}

    async def load(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        """The states of those that exist."""
        rows = await self._connection.fetch(QUERIES["load_states"], list(assessment_ids))
        self._heads |= {row["assessment_id"]: Head.of(head) for row in rows if (head := row["audit_hash"]) is not None}
        return records(rows)

    async def known(self, command_ids: Collection[str]) -> dict[str, bytes]:
        """The commands that have an outcome already, with the fingerprint of the first that had the id."""
        rows = await self._connection.fetch(QUERIES["known_commands"], list(command_ids))
        return {row["command_id"]: row["command_fingerprint"] or b"" for row in rows}

    async def forget(self, commands_topic: str, assessment_ids: Sequence[str]) -> None:
        """Delete assessments as retention does; for a replay that meets one again which was deleted in between."""
        if assessment_ids:
            await delete_assessments(self._connection, commands_topic, list(assessment_ids))

    async def forget_outdated(self, changes: BatchChanges) -> None:
        """Let the last refusal of each command id count, of those that are there and those of a batch; for a replay.

        An id has a second outcome only where cleanup had forgotten that it was refused.
        """
        if changes.refused:
            refusals = [(item.header.id, item.at) for item in changes.refused]
            await self._connection.execute(QUERIES["forget_earlier_refusals"], *columns(refusals))
            later = await self.known([item.header.id for item in changes.refused])
            changes.refused = [item for item in changes.refused if item.header.id not in later]

    async def write(
        self, changes: Mapping[int, BatchChanges], heads: Mapping[str, bytes] | None = None
    ) -> dict[str, bytes]:
        """Write a folded batch; never over a version that it was not decided on, nor past an audit row.

        Args:
            changes: that the batch comes to, by partition.
            heads: hashes of the last audit rows of its assessments, as far as a view knows them.

        Returns:
            The hash of the last audit row of each changed assessment.

        Raises:
            StaleViewError: a version or a hash is another by now; leave the transaction and decide again.
        """
        befores = {key: Head.of(head) for key, head in (heads or {}).items()} | self._heads
        old = [key for part in changes.values() for key, before in part.before.items() if before]
        befores |= await self._unknown_heads(old, befores)
        audit: list[tuple[object, ...]] = []
        after: dict[str, bytes] = {}
        for partition, part in changes.items():
            links, last = chain(part, partition, befores)
            audit.extend((partition, *audit_row(*each)) for each in zip(part.accepted, links, strict=True))
            after |= last
        states = _state_writes(changes.values(), befores, after)
        written = await self._write_all([*states, *write_rows("insert_audit", audit), *_writes_besides(changes)])
        for write in states:
            expected, count = len(write.parameters[0]), written[write.query]
            if count != expected:
                raise StaleViewError(
                    f"{expected - count} of {expected} assessments have another version or another last audit row in"
                    " Postgres"
                )
        for partition, part in changes.items():
            for letter in part.dead_letters:
                await self._connection.execute(QUERIES["insert_dead_letter"], partition, *dead_letter_row(letter))
        return after

    async def _write_all(self, writes: Sequence[Write]) -> dict[str, int]:
        try:
            return await write_together(self._connection, writes)
        except asyncpg.ForeignKeyViolationError as error:
            # The update of an assessment that is gone finds no row, and its audit row has nothing to stand under.
            raise StaleViewError(f"an assessment is no longer in Postgres: {error}") from error

    async def rewrite(self, partition: int, changes: BatchChanges) -> None:
        """Write assessments anew from their creations on, whatever is there of them; counters stay; for a repair."""
        await self.erase(list(changes.after))
        await self.write({partition: changes})
        gone = totals_change(changes.after, dict.fromkeys(changes.after))
        await write_together(self._connection, totals_writes(partition, gone))

    async def erase(self, assessment_ids: list[str]) -> None:
        """Take out all rows of assessments as if they had never been; counters stay; for a repair."""
        await self._connection.execute(QUERIES["delete_metrics"], assessment_ids)
        await self._connection.execute(QUERIES["delete_search_rows"], assessment_ids)
        await self._connection.execute(QUERIES["erase_trail"], assessment_ids)
        await self._connection.execute(QUERIES["delete_assessments"], assessment_ids)

    async def _unknown_heads(self, keys: Collection[str], known: Mapping[str, Head]) -> dict[str, Head]:
        """Those heads that no view knows; without a hash, what the last row of the trail comes to."""
        missing = [key for key in keys if key not in known]
        if not missing:
            return {}
        rows = await self._connection.fetch(QUERIES["load_heads"], missing)
        # One that is not there at all is found out by the write.
        found = dict.fromkeys(missing, Head(None, None))
        found |= {row["assessment_id"]: Head.of(row["audit_hash"]) for row in rows}
        bare = [key for key, head in found.items() if head.link is None]
        lasts = await self._connection.fetch(QUERIES["last_audit_rows"], bare) if bare else []
        return found | {row["assessment_id"]: Head(None, row["row_hash"] or row_hash(row)) for row in lasts}


def _state_writes(
    changes: Collection[BatchChanges], befores: Mapping[str, Head], after: Mapping[str, bytes]
) -> list[Write]:
    """What writes states; each has to write all its rows."""
    created, updated = [], []
    for part in changes:
        for key, record in part.after.items():
            before = part.before[key]
            if before is None:
                created.append((*state_row(record), after[key]))
            else:
                updated.append((*update_row(before.version, record), befores[key].stored, after[key]))
    return [*write_rows("insert_states", created), *write_rows("update_states", updated)]


def _writes_besides(changes: Mapping[int, BatchChanges]) -> list[Write]:
    """Everything of a batch beside states and audit trail."""
    accepted = [item for part in changes.values() for item in part.accepted]
    refused = [(partition, *refused_row(item)) for partition, part in changes.items() for item in part.refused]
    before = {key: state for part in changes.values() for key, state in part.before.items()}
    after = {key: state for part in changes.values() for key, state in part.after.items()}
    return [
        *write_rows("insert_metrics", [row for item in accepted if (row := metric_row(item))]),
        *write_rows("insert_rejections", refused),
        # A counter is the sum of its slots: one slot takes what all partitions of the transaction come to.
        *totals_writes(min(changes), totals_change(before, after)),
        *search_writes([search_row(item.after) for item in accepted if is_indexed(item.event)]),
    ]
