"""The audit trail as a source of events: by place on the commands topic, or by assessment and version.

The trail's own `id` is no order to follow: batches of several partitions commit in another order than they took their
numbers. Within a partition batches commit one after the other, each with the applied position of `command_offsets`;
so whoever has read that position finds every event below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

from ..models.assessment import AssessmentState
from ..models.events import EventType
from .encryption import NO_KEYS, KeyRing
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES

# Events in one answer. They may be as large as a command may be, and many read at once.
_CHUNK = 100

# Offsets looked at for one answer, so that a filter that lets little through cannot make a query long.
_WINDOW = 20_000

# Readers that come back all at once take turns: the connections are those of the commands, too.
_READS_AT_ONCE = 4

_ACTION_PREFIX = "assessment."


class Bounds(NamedTuple):
    """What is there of each partition, by its number."""

    begin: tuple[int, ...]
    """Everything below may be deleted."""
    end: tuple[int, ...]
    """Everything below is applied."""


class TrailEvent(NamedTuple):
    """One row of the trail."""

    offset: int
    assessment_id: str
    version: int
    type: EventType
    owner: str | None
    value: str
    """The event as JSON."""

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> TrailEvent:
        """Read a row of the queries in `trail.sql`."""
        offset, assessment_id, version, action, owner, value = row.values()
        return cls(offset, assessment_id, version, EventType(_ACTION_PREFIX + action), owner, value)


class Chunk(NamedTuple):
    """A part of one partition's events."""

    events: Sequence[TrailEvent]
    reached: int
    """There is no more event below this offset."""
    begin: int
    """Where the history began after this was read: what was deleted meanwhile lies below."""


class TrailReader:
    """Events out of Postgres."""

    def __init__(self, pool: Pool, commands_topic: str, keys: KeyRing = NO_KEYS) -> None:
        """Take the pool of the primary: a replica that lags would make what was sent look as if it were to come."""
        self._pool = pool
        self._topic = commands_topic
        self._keys = keys
        self._turns = asyncio.Semaphore(_READS_AT_ONCE)

    async def bounds(self) -> Bounds:
        """What is there now.

        Raises:
            UnavailableError: Postgres is away.
        """
        async with self._connection() as connection:
            rows = await connection.fetch(QUERIES["trail_bounds"], self._topic)
        found = {row["partition"]: (row["first_offset"], row["next_offset"]) for row in rows}
        pairs = [found.get(partition, (0, 0)) for partition in range(max(found, default=-1) + 1)]
        return Bounds(tuple(begin for begin, _ in pairs), tuple(end for _, end in pairs))

    async def window(
        self,
        partition: int,
        first: int,
        end: int,
        *,
        owner: str | None = None,
        types: Collection[EventType] | None = None,
    ) -> Chunk:
        """The next events of one partition from `first` on and below `end`, which must be applied.

        Args:
            partition: of the commands topic.
            first: the lowest offset.
            end: above the highest.
            owner: whose assessments; those of all without one.
            types: which events; all without.

        Raises:
            UnavailableError: Postgres is away.
        """
        end = min(end, first + _WINDOW)
        wanted = (partition, first, end, owner, _actions(types), _CHUNK)
        async with self._connection() as connection:
            rows = await connection.fetch(QUERIES["trail_window"], *wanted)
            begin = await connection.fetchval(QUERIES["history_begin"], partition)
        reached = rows[-1]["command_offset"] + 1 if len(rows) == _CHUNK else end
        return Chunk([self._event(row) for row in rows], reached, begin or 0)

    async def of_assessment(self, assessment_id: str, after: int) -> list[TrailEvent]:
        """The next events of one assessment after a version; nothing where there is none yet.

        Raises:
            UnavailableError: Postgres is away.
        """
        async with self._connection() as connection:
            rows = await connection.fetch(QUERIES["trail_of_assessment"], assessment_id, after, _CHUNK)
        return [self._event(row) for row in rows]

    async def version(self, assessment_id: str) -> tuple[int, AssessmentState] | None:
        """The version and the state of an assessment that exists.

        Raises:
            UnavailableError: Postgres is away.
        """
        async with self._connection() as connection:
            row = await connection.fetchrow(QUERIES["current_version"], assessment_id)
        return None if row is None else (row["version"], AssessmentState(row["state"]))

    def _event(self, row: asyncpg.Record) -> TrailEvent:
        event = TrailEvent.from_row(row)
        return event._replace(value=self._keys.open_event(event.value)) if self._keys else event

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection for one answer, as soon as it is this one's turn."""
        async with self._turns:
            with postgres_errors():
                async with self._pool.acquire() as connection:
                    yield connection


def _actions(types: Collection[EventType] | None) -> list[str] | None:
    return None if types is None else [kind.removeprefix(_ACTION_PREFIX) for kind in types]
