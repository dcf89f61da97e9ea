"""Checkpoints in Postgres: each is made of the one before and of the rows since, by whoever owns the partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import asyncpg

from ..models.chain import row_hash, wire_time
from ..models.checkpoints import Checkpoint
from ..models.merkle import HASH_BYTES, Frontier
from .batch import FencedError, PartitionClaim
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES
from .signing import SigningKey

MOST_ROWS = 10_000
"""Rows that one checkpoint adds, so that the history of a store that gets a key late is taken in some at a time."""


class Standing(NamedTuple):
    """How far a partition's checkpoints are."""

    checkpoint: Checkpoint | None
    frontier: Frontier

    @property
    def end_offset(self) -> int:
        """Every row below is in the tree."""
        return 0 if self.checkpoint is None else self.checkpoint.end_offset

    @classmethod
    def from_row(cls, row: asyncpg.Record | None) -> Standing:
        """Read a row of `audit_checkpoints`, or none where there is none yet."""
        if row is None:
            return cls(None, Frontier())
        found = row["frontier"]
        roots = tuple(found[start : start + HASH_BYTES] for start in range(0, len(found), HASH_BYTES))
        return cls(Checkpoint.from_json(row["document"]), Frontier(row["row_count"], roots))

    def follows(self, before: Standing) -> bool:
        """Whether the checkpoint is the next one, and says of the rows what they come to."""
        this, last = self.checkpoint, before.checkpoint
        if this is None:
            return last is None
        after = (0, None) if last is None else (last.sequence, last.hash)
        rows = (this.count, this.root) == (self.frontier.count, self.frontier.root)
        return rows and (this.sequence - 1, this.previous_hash) == after


class Leaf(NamedTuple):
    """A row as the tree has it."""

    offset: int
    hash: bytes


class CheckpointStore:
    """Postgres as the checkpoints of a worker see it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def last(self, partition: int) -> Standing:
        """How far the checkpoints of a partition are.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            return Standing.from_row(await self._pool.fetchrow(QUERIES["last_checkpoint"], partition))

    async def since(self, partition: int, sequence: int) -> list[Checkpoint]:
        """The checkpoints of a partition from one on.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["checkpoints_since"], partition, sequence)
        return [Checkpoint.from_json(row["document"]) for row in rows]

    async def make(self, claim: PartitionClaim, key: SigningKey) -> Checkpoint | None:
        """Make the next checkpoint of a partition; nothing where no row is new.

        Raises:
            FencedError: somebody else owns the partition; nothing is written.
            UnavailableError: Postgres is away; whether it was made is told by `last`.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection:
                # What retention deletes between two reads would be missed, unless they see one state of the store.
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    row = await connection.fetchrow(QUERIES["last_checkpoint"], claim.partition)
                    before = Standing.from_row(row)
                    leaves = await read_leaves(
                        connection, claim.partition, before.end_offset, claim.next_offset, MOST_ROWS
                    )
                if not leaves:
                    return None
                return await _insert(connection, claim, before, leaves, key)

    async def restore(self, claim: PartitionClaim, checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
        """Keep checkpoints that were made of the rows that are here, and return the first that was not.

        Raises:
            FencedError: somebody else owns the partition; nothing is written.
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await _hold(connection, claim)
                row = await connection.fetchrow(QUERIES["last_checkpoint"], claim.partition)
                last = Standing.from_row(row)
                kept = 0 if last.checkpoint is None else last.checkpoint.sequence
                for checkpoint in checkpoints:
                    if checkpoint.sequence <= kept:
                        continue
                    bounds = (claim.partition, last.end_offset, checkpoint.end_offset)
                    leaves = await read_leaves(connection, *bounds, None)
                    this = Standing(checkpoint, last.frontier.add([leaf.hash for leaf in leaves]))
                    if not this.follows(last):
                        return checkpoint
                    await _keep(connection, checkpoint, this.frontier)
                    last = this
        return None


async def _insert(
    connection: Connection, claim: PartitionClaim, before: Standing, leaves: Sequence[Leaf], key: SigningKey
) -> Checkpoint:
    frontier = before.frontier.add([leaf.hash for leaf in leaves])
    end = claim.next_offset if len(leaves) < MOST_ROWS else leaves[-1].offset + 1
    async with connection.transaction():
        now = await _hold(connection, claim)
        unsigned = Checkpoint(
            topic=claim.topic,
            partition=claim.partition,
            sequence=1 if before.checkpoint is None else before.checkpoint.sequence + 1,
            count=frontier.count,
            root=frontier.root,
            first_offset=before.end_offset,
            end_offset=end,
            created_at=wire_time(now),
            previous_hash=None if before.checkpoint is None else before.checkpoint.hash,
            key_id=key.id,
        )
        made = replace(unsigned, signature=key.sign(unsigned.message))
        await _keep(connection, made, frontier)
    return made


async def _hold(connection: Connection, claim: PartitionClaim) -> datetime:
    """Keep the partition for the time of the transaction, and tell the time."""
    now: datetime | None = await connection.fetchval(
        QUERIES["hold_partition"], claim.topic, claim.partition, claim.epoch
    )
    if now is None:
        raise FencedError(f"{claim.topic}[{claim.partition}] is no longer in epoch {claim.epoch}")
    return now


async def _keep(connection: Connection, checkpoint: Checkpoint, frontier: Frontier) -> None:
    await connection.execute(
        QUERIES["insert_checkpoint"],
        checkpoint.partition,
        checkpoint.sequence,
        checkpoint.count,
        checkpoint.end_offset,
        b"".join(frontier.roots),
        checkpoint.to_json().decode(),
        datetime.fromisoformat(checkpoint.created_at),
    )


async def read_leaves(connection: Connection, partition: int, first: int, end: int, most: int | None) -> list[Leaf]:
    """The rows of the offsets `first` to `end` - 1, those that retention deleted too, as the tree has them."""
    rows = await connection.fetch(QUERIES["audit_leaves"], partition, first, end, most)
    bare = [row["command_offset"] for row in rows if row["row_hash"] is None]
    found = await connection.fetch(QUERIES["audit_rows_at"], partition, bare) if bare else []
    hashes = {row["command_offset"]: row_hash(row) for row in found}
    return [Leaf(row["command_offset"], row["row_hash"] or hashes[row["command_offset"]]) for row in rows]
