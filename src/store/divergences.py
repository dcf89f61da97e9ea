"""The ledger of what differs between the old system and the store, and the events and reports that tell of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import orjson

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.sealed import UnreadableError
from .encryption import KeyRing
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES
from .rows import columns, records

logger = logging.getLogger(__name__)

_LONGEST_VALUE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """One field in which the two systems differ, or one event that was wrong."""

    assessment_id: str | None
    field: str
    kind: str
    """lost, doubled, reordered, wrong-name, wrong-state or stale-field."""
    legacy_value: str | None
    store_value: str | None


class LedgerEntry(NamedTuple):
    """A divergence, and when it was there."""

    assessment_id: str | None
    field: str
    kind: str
    legacy_value: str | None
    store_value: str | None
    found_at: datetime
    seen_at: datetime
    resolved_at: datetime | None


class SeenEvent(NamedTuple):
    """An event of the old system that became a command."""

    command_id: str
    assessment_id: str
    name: str
    rank: int
    happened_at: datetime | None
    source: str
    """Where it was read: the same place is the same delivery."""


class LateEvent(NamedTuple):
    """An event that came after one it should have come before."""

    command_id: str
    assessment_id: str
    name: str
    before: str


class Report(NamedTuple):
    """What the old system says that an assessment is."""

    assessment_id: str
    record: JsonObject
    reported_at: datetime
    overtaken: bool
    """Whether events of it came later: what the store has may be newer."""


class Divergences:
    """The ledger in Postgres."""

    def __init__(self, pool: Pool, keys: KeyRing) -> None:
        self._pool = pool
        self._keys = keys

    async def note_events(self, events: Sequence[SeenEvent]) -> tuple[list[str], list[LateEvent]]:
        """Keep events; those that came more than once, and those that came late.

        Args:
            events: each with another command id.

        Raises:
            UnavailableError: Postgres is away.
        """
        if not events:
            return [], []
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                noted = await connection.fetch(QUERIES["note_legacy_events"], *columns(events))
                fresh = [row["command_id"] for row in noted if row["copies"] == 1]
                late = await connection.fetch(QUERIES["events_out_of_order"], fresh)
        doubled = [row["command_id"] for row in noted if row["copies"] > 1]
        return doubled, [LateEvent(*row.values()) for row in late]

    async def note_reports(self, reports: Mapping[str, JsonObject]) -> None:
        """Keep what the old system says of assessments, to be compared in a while."""
        if reports:
            rows = [(key, orjson.dumps(self._keys.seal(key, record)).decode()) for key, record in reports.items()]
            with postgres_errors():
                await self._pool.execute(QUERIES["note_reports"], *columns(rows))

    async def add(self, found: Collection[Divergence]) -> None:
        """Write into the ledger; what is open there already is one entry."""
        rows = {(item.assessment_id, item.field, item.kind): self.row(item) for item in found}
        if rows:
            with postgres_errors():
                await self._pool.execute(QUERIES["add_divergences"], *columns(rows.values()))

    async def entries(self, *, resolved: bool, limit: int) -> list[LedgerEntry]:
        """The ledger, the newest first."""
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["divergences"], resolved, limit)
        return [LedgerEntry(*row.values()) for row in rows]

    async def open_counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        with postgres_errors():
            return {row["kind"]: row["count"] for row in await self._pool.fetch(QUERIES["open_divergences"])}

    async def settle(self, assessment_ids: Sequence[str] | None, actor: str, reason: str) -> int:
        """Mark as decided what is open of some assessments, or all, imports that were broken off among it; count it."""
        with postgres_errors():
            return int(await self._pool.fetchval(QUERIES["settle_divergences"], assessment_ids, actor, reason))

    async def forget_old_events(self) -> None:
        """Forget events that nobody sends again."""
        with postgres_errors():
            await self._pool.execute(QUERIES["forget_legacy_events"])

    @asynccontextmanager
    async def due(self, settle: float, limit: int) -> AsyncIterator[Comparing]:
        """Reports to compare, which nobody else compares meanwhile.

        Args:
            settle: seconds that the events of a report have to arrive.
            limit: the most.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(QUERIES["due_reports"], settle, limit)
                reports = {row["assessment_id"]: self._report(row) for row in rows}
                # What cannot be opened cannot be told: the next report of the same assessment can.
                unreadable = [(key, None) for key, report in reports.items() if report is None]
                if unreadable:
                    await connection.execute(QUERIES["mark_compared"], *columns(unreadable))
                yield Comparing(connection, self, self._keys, [report for report in reports.values() if report])

    def _report(self, row: asyncpg.Record) -> Report | None:
        key = row["assessment_id"]
        try:
            record = self._keys.open(key, orjson.loads(row["record"]))
        except UnreadableError as error:
            words = "What the old system says of %s is not compared: %s"
            logger.warning(words, key, error, extra={"action": "report_unreadable"})
            return None
        return Report(key, record, row["reported_at"], row["overtaken"])

    def row(self, item: Divergence) -> tuple[Any, ...]:
        """A row of the ledger; where payloads are encrypted, none of their values stands there."""
        sealed = bool(self._keys) and item.field.startswith(("requestData", "resultData"))
        values = [
            None if value is None else "(encrypted)" if sealed else value[:_LONGEST_VALUE].replace("\x00", "\\x00")
            for value in (item.legacy_value, item.store_value)
        ]
        return item.assessment_id, item.field[:_LONGEST_VALUE], item.kind, *values


class Comparing:
    """The open transaction around some reports."""

    def __init__(self, connection: Connection, ledger: Divergences, keys: KeyRing, reports: Sequence[Report]) -> None:
        self._connection = connection
        self._ledger = ledger
        self._keys = keys
        self.reports = reports

    async def states(self) -> dict[str, AssessmentRecord]:
        """The same assessments in the store, as far as they are there, with their payloads clear."""
        rows = await self._connection.fetch(QUERIES["load_states"], [item.assessment_id for item in self.reports])
        return {key: self._keys.open_record(state) for key, state in records(rows).items()}

    async def causes(self) -> dict[str, str]:
        """What is known to be wrong with their events."""
        names = [item.assessment_id for item in self.reports]
        rows = await self._connection.fetch(QUERIES["causes_of_divergence"], names)
        return {row["assessment_id"]: row["kind"] for row in rows}

    async def finish(self, found: Mapping[str, Sequence[Divergence] | None], again: Sequence[str]) -> None:
        """Write what was found of each report; with nothing, its open entries are resolved.

        Args:
            found: by assessment; None where it cannot be told yet.
            again: those that are to be compared once more.
        """
        rows = {
            (item.assessment_id, item.field, item.kind): self._ledger.row(item)
            for items in found.values()
            for item in items or ()
        }
        if rows:
            await self._connection.execute(QUERIES["add_divergences"], *columns(rows.values()))
        same = [key for key, items in found.items() if items is not None and not items]
        await self._connection.execute(QUERIES["resolve_divergences"], same)
        done = [(key, None if items is None else not items) for key, items in found.items()]
        if done:
            await self._connection.execute(QUERIES["mark_compared"], *columns(done))
        await self._connection.execute(QUERIES["compare_again"], again)
