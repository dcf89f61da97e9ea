"""The write side: claim a partition, and commit a batch of its commands in one fenced transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
import orjson

from ..models.assessment import FINAL_STATES, AssessmentRecord
from ..models.commands import CommandHeader
from ..models.errors import AssessmentStoreError, ErrorCode, Rejection, UnavailableError
from ..models.events import AssessmentEvent, event_from_json
from .postgres import Connection, Pool, StaleViewError, postgres_errors, record_from_row
from .queries import QUERIES


class FencedError(AssessmentStoreError):
    """Another worker took the partition: this one has to leave it and write nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An accepted command: its event, and where it stood on the topic."""

    event: AssessmentEvent
    value: bytes
    """The event as JSON."""
    header: CommandHeader
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A refused command and why."""

    header: CommandHeader
    rejection: Rejection
    at: datetime
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that is not a command, byte for byte."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    reason: str


@dataclass(slots=True)
class Outbox:
    """What a range of offsets tells the world, each list in the order of the offsets."""

    events: list[tuple[AssessmentEvent, bytes, str | None]] = field(default_factory=list)
    """Each event, its JSON, and its traceparent."""
    rejections: list[Refused] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


@dataclass(slots=True)
class BatchChanges:
    """What a folded batch writes."""

    accepted: list[Accepted] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    """The version that each changed assessment had before; 0 where it is new."""
    after: dict[str, AssessmentRecord] = field(default_factory=dict)
    """The changed assessments."""

    def outbox(self) -> Outbox:
        """What the batch tells the world."""
        events = [(item.event, item.value, item.header.traceparent) for item in self.accepted]
        return Outbox(events, self.refused, self.dead_letters)


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
            [(event_from_json(row["value"]), row["value"].encode(), row["traceparent"]) for row in events],
            [_refused_from_row(row) for row in refused],
            [_dead_letter_from_row(row) for row in dead],
        )

    async def changed_since(self, partition: int, first: int, end: int) -> dict[str, AssessmentRecord]:
        """The present states of what the offsets `first` to `end` - 1 changed."""
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["changed_assessments"], partition, first, end)
            states = await self._pool.fetch(QUERIES["load_states"], [row["assessment_id"] for row in rows])
        return _records(states)


class BatchTransaction:
    """The open transaction of one batch, past the fence."""

    def __init__(self, connection: Connection, partition: int, now: datetime) -> None:
        self._connection = connection
        self._partition = partition
        self.now = now
        """The time of the transaction: one clock for all workers."""

    async def load(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        """The states of those that exist."""
        return _records(await self._connection.fetch(QUERIES["load_states"], list(assessment_ids)))

    async def known(self, command_ids: Collection[str]) -> dict[str, bytes]:
        """The commands that have an outcome already, with the fingerprint of the first that had the id."""
        rows = await self._connection.fetch(QUERIES["known_commands"], list(command_ids))
        return {row["command_id"]: row["command_fingerprint"] or b"" for row in rows}

    async def write(self, changes: BatchChanges) -> None:
        """Write a folded batch; never over a version that it was not decided on.

        Raises:
            StaleViewError: a version is another by now; leave the transaction and decide again.
        """
        created = [record for key, record in changes.after.items() if not changes.before[key]]
        updated = [(changes.before[key], record) for key, record in changes.after.items() if changes.before[key]]
        await self._write_states(created, updated)
        if changes.accepted:
            await self._execute("insert_audit", self._partition, *_columns(map(_audit_row, changes.accepted)))
        if metrics := [row for item in changes.accepted if (row := _metric_row(item, changes.after))]:
            await self._execute("insert_metrics", *_columns(metrics))
        if changes.refused:
            await self._execute("insert_rejections", self._partition, *_columns(map(_refused_row, changes.refused)))
        for letter in changes.dead_letters:
            await self._execute("insert_dead_letter", self._partition, *_dead_letter_row(letter), self.now)

    async def _write_states(
        self, created: Sequence[AssessmentRecord], updated: Sequence[tuple[int, AssessmentRecord]]
    ) -> None:
        if created:
            await self._expect(len(created), "insert_states", *_columns(map(_state_row, created)))
        if updated:
            await self._expect(len(updated), "update_states", *_columns(_update_row(*item) for item in updated))

    async def _expect(self, count: int, query: str, *arguments: object) -> None:
        written = await self._execute(query, *arguments)
        if written != count:
            raise StaleViewError(f"{count - written} of {count} assessments are at another version in Postgres")

    async def _execute(self, query: str, *arguments: object) -> int:
        """Run a named query and count the rows that it wrote."""
        status = await self._connection.execute(QUERIES[query], *arguments)
        return int(status.rsplit(" ", 1)[1])


def _records(rows: Sequence[asyncpg.Record]) -> dict[str, AssessmentRecord]:
    return {row["assessment_id"]: record_from_row(row) for row in rows}


def _columns(rows: Any) -> tuple[tuple[Any, ...], ...]:
    """Rows turned into the arrays that `unnest` takes."""
    return tuple(zip(*rows, strict=True))


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _state_row(record: AssessmentRecord) -> tuple[Any, ...]:
    return (
        record.assessment_id,
        record.state,
        record.version,
        record.progress,
        record.message,
        record.created_at,
        record.updated_at,
        record.started_at,
        record.completed_at,
        _json(record.request_data),
        _json(record.result_data),
        record.error_message,
        record.retry_count,
        record.next_retry_at,
        _json(record.metadata),
    )


def _update_row(expected_version: int, record: AssessmentRecord) -> tuple[Any, ...]:
    return (
        record.assessment_id,
        expected_version,
        record.state,
        record.version,
        record.progress,
        record.message,
        record.updated_at,
        record.started_at,
        record.completed_at,
        _json(record.result_data),
        record.error_message,
        record.retry_count,
        record.next_retry_at,
    )


def _audit_row(item: Accepted) -> tuple[Any, ...]:
    event = item.event
    return (
        event.assessment_id,
        event.type.removeprefix("assessment."),
        event.previous_state,
        event.state,
        event.version,
        event.user_id,
        item.value.decode(),
        event.occurred_at,
        event.command_id,
        item.header.fingerprint,
        item.offset,
        item.header.traceparent,
    )


def _metric_row(item: Accepted, after: Mapping[str, AssessmentRecord]) -> tuple[str, Decimal, datetime] | None:
    """The processing time of an assessment that this batch ended."""
    if item.event.state not in FINAL_STATES:
        return None
    record = after[item.event.assessment_id]
    if record.version != item.event.version or record.duration is None:
        return None
    return record.assessment_id, Decimal(record.duration) / 1000, item.event.occurred_at


def _refused_row(item: Refused) -> tuple[Any, ...]:
    header, rejection = item.header, item.rejection
    return (
        header.id,
        header.type,
        header.fingerprint,
        header.assessment_id,
        header.user_id,
        rejection.code,
        rejection.message,
        _json(rejection.details),
        item.at,
        item.offset,
        header.traceparent,
    )


def _refused_from_row(row: asyncpg.Record) -> Refused:
    return Refused(
        header=CommandHeader(
            id=row["command_id"],
            type=row["command_type"],
            assessment_id=row["assessment_id"],
            user_id=row["user_id"],
            traceparent=row["traceparent"],
            fingerprint=row["command_fingerprint"],
        ),
        rejection=rejection_from_row(row),
        at=row["created_at"],
        offset=row["command_offset"],
    )


def rejection_from_row(row: asyncpg.Record) -> Rejection:
    """The answer that a `command_rejections` row keeps."""
    return Rejection(ErrorCode(row["code"]), row["message"], orjson.loads(row["details"]))


def _dead_letter_row(letter: DeadLetter) -> tuple[Any, ...]:
    names = [name.encode() for name, _ in letter.headers]
    return letter.offset, letter.key, letter.value, names, [value for _, value in letter.headers], letter.reason


def _dead_letter_from_row(row: asyncpg.Record) -> DeadLetter:
    names = (name.decode() for name in row["header_names"])
    return DeadLetter(
        offset=row["command_offset"],
        key=row["key"],
        value=row["value"],
        headers=list(zip(names, row["header_values"], strict=True)),
        reason=row["reason"],
    )
