"""Dead letters as an operator sees them: what came, why it was no command, and what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import asyncpg

from ..models.errors import AssessmentStoreError
from ..models.letter_marks import LetterMarks
from ..models.redrive import Letter
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES
from .rows import letter_marks_from_row

_PAGE = 500

# What Postgres has no number for is the name of none.
_PARTITIONS, _NUMBERS = 2**31, 2**63


class NoDeadLetterError(AssessmentStoreError):
    """There is no such dead letter: it never was, or retention took it."""


class LetterState(StrEnum):
    """What became of a dead letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilters:
    """Which dead letters; what is not given lets all through."""

    partition: int | None = None
    since: datetime | None = None
    reason: str | None = None
    """A part of it, in whichever case."""
    state: LetterState | None = LetterState.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLetter:
    """A dead letter and what became of it."""

    id: int
    letter: Letter
    """In lists without its value."""
    size: int | None
    """Bytes of the value, nothing where it is null."""
    reason: str
    created_at: datetime
    redriven_at: datetime | None
    redriven_by: str | None
    redriven_to: str | None
    """The place where it was sent."""
    dropped_at: datetime | None
    dropped_by: str | None
    drop_reason: str | None

    @property
    def state(self) -> LetterState:
        """What became of it; one that was dropped may be redriven after all."""
        if self.redriven_at is not None:
            return LetterState.REDRIVEN
        return LetterState.OPEN if self.dropped_at is None else LetterState.DROPPED

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> StoredLetter:
        """Read a row of the queries in `dead_letters.sql`."""
        names = (name.decode("utf-8", "replace") for name in row["header_names"])
        letter = Letter(
            partition=row["command_partition"],
            offset=row["command_offset"],
            key=row["key"],
            value=row.get("value"),
            headers=tuple(zip(names, row["header_values"], strict=True)),
        )
        place = (row["redriven_partition"], row["redriven_offset"])
        return cls(
            id=row["id"],
            letter=letter,
            size=row["size"],
            reason=row["reason"],
            created_at=row["created_at"],
            redriven_at=row["redriven_at"],
            redriven_by=row["redriven_by"],
            redriven_to=None if None in place else f"{place[0]}:{place[1]}",
            dropped_at=row["dropped_at"],
            dropped_by=row["dropped_by"],
            drop_reason=row["drop_reason"],
        )


class DeadLetters:
    """The dead letters in Postgres."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, filters: LetterFilters, *, after: int, limit: int) -> list[StoredLetter]:
        """Some of those that filters let through, oldest first, without their values.

        Raises:
            UnavailableError: Postgres is away.
        """
        return await self._page(filters, after, await self._last(), limit)

    async def all(self, filters: LetterFilters) -> AsyncIterator[StoredLetter]:
        """Those that filters let through and that are there now, oldest first, without their values.

        Raises:
            UnavailableError: Postgres is away.
        """
        after, last = 0, await self._last()
        while found := await self._page(filters, after, last, _PAGE):
            for letter in found:
                yield letter
            after = found[-1].id

    async def find(self, name: str) -> StoredLetter:
        """The dead letter of an id, or of a place as PARTITION:OFFSET.

        Raises:
            NoDeadLetterError: there is none.
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            number = await self._number(name)
            row = None if number is None else await self._pool.fetchrow(QUERIES["get_dead_letter"], number)
        if row is None:
            raise NoDeadLetterError(f"There is no dead letter {name}: look with `assessmentstore dead-letters list`")
        return StoredLetter.from_row(row)

    @asynccontextmanager
    async def held(self, number: int) -> AsyncIterator[HeldLetter]:
        """One dead letter, which nobody else changes meanwhile; marks stand when this is left without an error.

        Raises:
            NoDeadLetterError: it is gone.
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(QUERIES["hold_dead_letter"], number)
                if row is None:
                    raise NoDeadLetterError(f"The dead letter {number} is gone: retention took it")
                yield HeldLetter(connection, StoredLetter.from_row(row))

    async def _number(self, name: str) -> int | None:
        partition, colon, offset = name.partition(":")
        if not colon:
            return int(name) if name.isdecimal() and int(name) < _NUMBERS else None
        if not (partition.isdecimal() and offset.isdecimal()):
            return None
        if int(partition) >= _PARTITIONS or int(offset) >= _NUMBERS:
            return None
        found: int | None = await self._pool.fetchval(QUERIES["dead_letter_at"], int(partition), int(offset))
        return found

    async def _last(self) -> int:
        with postgres_errors():
            return int(await self._pool.fetchval(QUERIES["last_dead_letter"]))

    async def _page(self, filters: LetterFilters, after: int, last: int, limit: int) -> list[StoredLetter]:
        wanted = (filters.partition, filters.since, filters.reason, filters.state)
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["matching_dead_letters"], after, *wanted, last, limit)
        return [StoredLetter.from_row(row) for row in rows]


class HeldLetter:
    """The open transaction around one dead letter."""

    def __init__(self, connection: Connection, stored: StoredLetter) -> None:
        self._connection = connection
        self.stored = stored

    async def mark_redriven(self, by: str, partition: int, offset: int) -> LetterMarks:
        """Keep by whom and where to it was sent, and return all that became of it."""
        (row,) = await self._connection.fetch(QUERIES["mark_redriven"], self.stored.id, by, partition, offset)
        return letter_marks_from_row(row)

    async def mark_dropped(self, by: str, reason: str) -> LetterMarks:
        """Keep by whom and why it was dropped, and return all that became of it."""
        (row,) = await self._connection.fetch(QUERIES["mark_dropped"], self.stored.id, by, reason)
        return letter_marks_from_row(row)
