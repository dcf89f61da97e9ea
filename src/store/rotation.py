"""Rotation: what rests in Postgres is encrypted anew under the current key, some rows at a time, while all goes on.

A pass goes through every table that has something sealed, each in the order of its keys. It locks what it changes,
and passes over what somebody else has locked: no worker waits longer than for one chunk, and there is no deadlock.
Passes follow each other until one finds nothing. Whoever begins again begins at the start, which costs reading alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from ..models.errors import UnavailableError
from ..models.sealed import PAYLOADS, UnreadableError
from .cache import SharedCache
from .encryption import KeyRing
from .postgres import Pool, postgres_errors
from .queries import QUERIES
from .rows import columns
from .webhook_secrets import open_secret, seal_secret

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
    anew: Callable[[KeyRing, asyncpg.Record], tuple[Any, ...]]
    """The arguments of the query that writes a row, behind its place; raises UnreadableError."""
    seals_clear: bool = False
    """Whether what is clear is encrypted, too: what the audit trail hashes has to stay as it was written."""


def _state(keys: KeyRing, row: asyncpg.Record) -> tuple[Any, ...]:
    return tuple(_resealed(keys, row["assessment_id"], row[name]) for name in ("request_data", "result_data"))


def _event(keys: KeyRing, row: asyncpg.Record) -> tuple[Any, ...]:
    details = orjson.loads(row["details"])
    for name in PAYLOADS:
        if details.get(name) is not None:
            details[name] = keys.reseal(row["assessment_id"], details[name])
    return (orjson.dumps(details).decode(),)


def _webhook(keys: KeyRing, row: asyncpg.Record) -> tuple[Any, ...]:
    secrets = (row["secret"], row["former_secret"])
    return tuple(it and seal_secret(keys, row["place"], open_secret(keys, row["place"], it)) for it in secrets)


def _request(keys: KeyRing, row: asyncpg.Record) -> tuple[Any, ...]:
    place, texts = row["place"], (row["plan"], row["answer"])
    return tuple(it and orjson.dumps(keys.seal(place, keys.open(place, orjson.loads(it)))).decode() for it in texts)


def _quarantined(keys: KeyRing, row: asyncpg.Record) -> tuple[Any, ...]:
    return (_resealed(keys, row["assessment_id"] or "", row["value"]),)


def _report(keys: KeyRing, row: asyncpg.Record) -> tuple[Any, ...]:
    return (_resealed(keys, row["assessment_id"], row["record"]),)


def _resealed(keys: KeyRing, assessment_id: str, text: str | None) -> str | None:
    return None if text is None else orjson.dumps(keys.reseal(assessment_id, orjson.loads(text))).decode()


_TABLES = (
    _Table("states", QUERIES["keys_of_states"], QUERIES["hold_states"], QUERIES["reseal_states"], "", _state),
    _Table("events", QUERIES["keys_of_events"], QUERIES["hold_events"], QUERIES["reseal_events"], -1, _event),
    _Table(
        "webhooks",
        QUERIES["keys_of_webhooks"],
        QUERIES["hold_webhooks"],
        QUERIES["reseal_webhooks"],
        UUID(int=0),
        _webhook,
        seals_clear=True,
    ),
    _Table(
        "requests",
        QUERIES["keys_of_requests"],
        QUERIES["hold_requests"],
        QUERIES["reseal_requests"],
        "",
        _request,
        seals_clear=True,
    ),
    _Table(
        "quarantine",
        QUERIES["keys_of_quarantine"],
        QUERIES["hold_quarantine"],
        QUERIES["reseal_quarantine"],
        b"",
        _quarantined,
    ),
    _Table("reports", QUERIES["keys_of_reports"], QUERIES["hold_reports"], QUERIES["reseal_reports"], "", _report),
)

TABLES = tuple(table.name for table in _TABLES)
"""The names that payloads are counted under."""


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
        """How many payloads of each of `TABLES` there are under each key, and how many are clear.

        Raises:
            UnavailableError: Postgres is away.
        """
        found: Counter[tuple[str, str | None]] = Counter()
        for table in _TABLES:
            async for rows in self._windows(table):
                found.update((table.name, key) for row in rows for key in row["keys"] or ())
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
            old = [row["place"] for row in rows if self._is_old(table, row) and (table.name, row["place"]) not in told]
            for start in range(0, len(old), _CHUNK):
                await self._chunk(table, old[start : start + _CHUNK], done, report, told)
            looked_at += len(rows)
            if len(rows) < _WINDOW or looked_at % (_TOLD_WINDOWS * _WINDOW) == 0:
                report(f"{table.name}: {looked_at:,} looked at, {done.resealed:,} encrypted anew")

    def _is_old(self, table: _Table, row: asyncpg.Record) -> bool:
        good = {self._keys.current} if table.seals_clear else {self._keys.current, CLEAR}
        return not good.issuperset(row["keys"] or ())

    async def _chunk(self, table: _Table, places: Sequence[Any], done: Rotated, report: Report, told: set[Any]) -> None:
        """One transaction: lock, encrypt anew, write."""
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(QUERIES["begin_rotating"])
                held = await connection.fetch(table.hold, places)
                rows = []
                for row in held:
                    try:
                        rows.append((row["place"], *table.anew(self._keys, row)))
                    except UnreadableError as error:
                        told.add((table.name, row["place"]))
                        name = str(row["assessment_id"] or row["place"]).replace("\n", ", ")
                        report(f"{table.name} of {name}: {error}")
                if rows:
                    await connection.execute(table.reseal, *columns(rows))
        done.resealed += len(rows)
        done.passed_over += len(places) - len(held)
        await self._forget([row["assessment_id"] for row in held if row["assessment_id"]])

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
