"""Rotation: what rests in Postgres is encrypted anew under the current key, some rows at a time, while all goes on.

A pass goes through the states, and then through the audit trail, in the order of their keys. It locks what it changes,
and passes over what somebody else has locked: no worker waits longer than for one chunk, and there is no deadlock.
Passes follow each other until one finds nothing. Whoever begins again begins at the start, which costs reading alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from ..models.errors import UnavailableError
from ..models.sealed import PAYLOADS, UnreadableError
from .cache import SharedCache
from .encryption import KeyRing
from .postgres import Pool, postgres_errors
from .queries import QUERIES
from .rows import columns

# Rows that are looked at in one query, and locked in one transaction: at some kilobytes each, a few milliseconds.
_WINDOW = 2000
_CHUNK = 100

_TOLD_WINDOWS = 10

# Passes that find something each time: somebody writes under an old key as quickly as they are encrypted anew.
_MOST_PASSES = 20

Report = Callable[[str], None]

CLEAR = None
"""The key of a payload that is not encrypted."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Where payloads rest."""

    name: str
    keys: str
    hold: str
    reseal: str
    start: Any
    """A place before the first."""


_TABLES = (
    _Table("states", QUERIES["keys_of_states"], QUERIES["hold_states"], QUERIES["reseal_states"], ""),
    _Table("events", QUERIES["keys_of_events"], QUERIES["hold_events"], QUERIES["reseal_events"], -1),
)


@dataclass(slots=True)
class Rotated:
    """What a rotation came to."""

    resealed: int = 0
    """Rows that were encrypted anew."""
    unreadable: int = 0
    """Rows that cannot be opened, and stay as they are."""
    passed_over: int = 0
    """Rows that somebody had locked the last time."""


class Rotation:
    """Payloads in Postgres and the keys that they are under."""

    def __init__(self, pool: Pool, keys: KeyRing, cache: SharedCache | None = None) -> None:
        self._pool = pool
        self._keys = keys
        self._cache = cache

    async def count(self) -> Counter[tuple[str, str | None]]:
        """How many payloads of states and of events there are under each key, and how many are clear.

        Raises:
            UnavailableError: Postgres is away.
        """
        found: Counter[tuple[str, str | None]] = Counter()
        for table in _TABLES:
            async for rows in self._windows(table):
                found.update((table.name, key) for row in rows for key in _keys_of(row))
        return found

    async def run(self, report: Report) -> Rotated:
        """Encrypt everything anew that is under another key than the current one.

        Args:
            report: is told how far it is, and what cannot be opened.

        Raises:
            UnavailableError: Postgres is away; what is done is done.
        """
        total, told = Rotated(), set[Any]()
        for number in range(1, _MOST_PASSES + 1):
            this = Rotated()
            for table in _TABLES:
                await self._pass(table, this, report, told)
            total.resealed += this.resealed
            total.passed_over = this.passed_over
            report(f"pass {number}: {this.resealed:,} encrypted anew, {this.passed_over:,} in use and passed over")
            if not this.resealed and not this.passed_over:
                break
        total.unreadable = len(told)
        return total

    async def _pass(self, table: _Table, done: Rotated, report: Report, told: set[Any]) -> None:
        looked_at = 0
        async for rows in self._windows(table):
            old = [row["place"] for row in rows if self._is_old(row) and (table.name, row["place"]) not in told]
            for start in range(0, len(old), _CHUNK):
                await self._chunk(table, old[start : start + _CHUNK], done, report, told)
            looked_at += len(rows)
            if len(rows) < _WINDOW or looked_at % (_TOLD_WINDOWS * _WINDOW) == 0:
                report(f"{table.name}: {looked_at:,} looked at, {done.resealed:,} encrypted anew")

    def _is_old(self, row: asyncpg.Record) -> bool:
        return any(row[name] not in (CLEAR, self._keys.current) for name in ("request_key", "result_key"))

    async def _chunk(self, table: _Table, places: Sequence[Any], done: Rotated, report: Report, told: set[Any]) -> None:
        """One transaction: lock, encrypt anew, write."""
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(QUERIES["begin_rotating"])
                held = await connection.fetch(table.hold, places)
                rows = []
                for row in held:
                    try:
                        rows.append(self._resealed(row))
                    except UnreadableError as error:
                        told.add((table.name, row["place"]))
                        report(f"{table.name} of {row['assessment_id']}: {error}")
                if rows:
                    await connection.execute(table.reseal, *columns(rows))
        done.resealed += len(rows)
        done.passed_over += len(places) - len(held)
        await self._forget([row["assessment_id"] for row in held])

    def _resealed(self, row: asyncpg.Record) -> tuple[Any, ...]:
        """The arguments of the query that writes a row.

        Raises:
            UnreadableError: it cannot be opened.
        """
        if "details" in row.keys():  # noqa: SIM118 - a record looks among its values
            details = orjson.loads(row["details"])
            for name in PAYLOADS:
                if details.get(name) is not None:
                    details[name] = self._keys.reseal(row["assessment_id"], details[name])
            return row["place"], orjson.dumps(details).decode()
        return (row["place"], *(self._resealed_json(row, name) for name in ("request_data", "result_data")))

    def _resealed_json(self, row: asyncpg.Record, name: str) -> str | None:
        if row[name] is None:
            return None
        return orjson.dumps(self._keys.reseal(row["assessment_id"], orjson.loads(row[name]))).decode()

    async def _forget(self, assessment_ids: list[str]) -> None:
        """Let Redis have nothing under an old key; what it has all the same is gone in minutes."""
        if self._cache is not None:
            try:
                await self._cache.invalidate(assessment_ids)
            except UnavailableError:
                self._cache = None

    async def _windows(self, table: _Table) -> AsyncIterator[Sequence[asyncpg.Record]]:
        place = table.start
        while True:
            with postgres_errors():
                rows = await self._pool.fetch(table.keys, place, _WINDOW)
            if not rows:
                return
            yield rows
            place = rows[-1]["place"]


def _keys_of(row: asyncpg.Record) -> list[str | None]:
    """The keys of the payloads that a row has."""
    return [row[f"{name}_key"] for name in PAYLOADS if row[f"has_{name}"]]
