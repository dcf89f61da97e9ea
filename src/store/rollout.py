"""How far the move from the old system is: one row that everybody reads, its history, and the figures it goes by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

import asyncpg
import orjson

from ..models.base import JsonObject
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES


class Phase(StrEnum):
    """What becomes of the share that the store serves."""

    STEADY = "steady"
    """It stays as it is."""
    RAMPING = "ramping"
    """It grows by itself, step by step."""
    ROLLED_BACK = "rolled_back"
    """It was taken back: the old system serves everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationState:
    """The row."""

    legacy_mode: bool
    percentage: int
    phase: Phase
    well_since: datetime
    held_because: str | None
    baseline: tuple[float | None, float | None]
    """Error rate and milliseconds of a request, when the roll-out began."""
    begun_at: datetime | None
    checked_at: datetime | None
    updated_at: datetime

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> MigrationState:
        """Read the row."""
        return cls(
            legacy_mode=row["legacy_mode"],
            percentage=row["percentage"],
            phase=Phase(row["phase"]),
            well_since=row["well_since"],
            held_because=row["held_because"],
            baseline=(row["baseline_error_rate"], row["baseline_response_ms"]),
            begun_at=row["begun_at"],
            checked_at=row["checked_at"],
            updated_at=row["updated_at"],
        )


class MigrationFigures(NamedTuple):
    """The row, and what there is to move."""

    state: MigrationState
    stored: int
    """Assessments in the store."""
    missing: int
    """Those that are known of and not in it: quarantined, or of an import under way."""
    divergent: int
    """Open entries of the ledger, but for events that merely came twice."""
    now: datetime

    def to_wire(self) -> JsonObject:
        """What every status tells."""
        return {
            "legacyMode": self.state.legacy_mode,
            "migrationPercentage": self.state.percentage,
            "assessmentsMigrated": self.stored,
            "totalAssessments": self.stored + self.missing,
            "lastUpdated": self.state.updated_at,
            "phase": self.state.phase,
        }


class Decision(NamedTuple):
    """A change of the row: who made it, and why."""

    actor: str
    action: str
    legacy_mode: bool
    percentage: int
    phase: Phase
    reason: str | None = None
    signals: JsonObject | None = None


class Sample(NamedTuple):
    """What one web process saw since its last sample."""

    process: str
    requests: int
    errors: int
    """Those answered with 500 or more."""
    seconds: float
    healthy: bool


class Figures(NamedTuple):
    """What was counted of late."""

    samples: int
    requests: int
    errors: int
    seconds: float
    healthy: bool
    failed: int
    completed: int
    compared: int
    inconsistent: int


class RolloutStore:
    """The row in Postgres."""

    def __init__(self, pool: Pool, commands_topic: str) -> None:
        self._pool = pool
        self._topic = commands_topic

    async def read(self) -> MigrationFigures:
        """The row, and what there is to move.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            (row,) = await self._pool.fetch(QUERIES["migration_status"])
        missing = row["quarantined"] + row["waiting"]
        return MigrationFigures(MigrationState.from_row(row), row["stored"], missing, row["divergent"], row["now"])

    async def change(self, decision: Decision) -> None:
        """Change the row, and keep why.

        Raises:
            UnavailableError: Postgres is away.
        """
        async with self._held() as (connection, _, _):
            await _change(connection, decision)

    async def set(self, actor: str, *, legacy_mode: bool | None, percentage: int | None) -> None:
        """Let somebody set the share; what he leaves out stays. A roll-out that goes on by itself ends with it."""
        async with self._held() as (connection, state, _):
            mode = state.legacy_mode if legacy_mode is None else legacy_mode
            share = state.percentage if percentage is None else percentage
            await _change(connection, Decision(actor, "set", mode, share, Phase.STEADY))

    @asynccontextmanager
    async def checking(self, interval: float) -> AsyncIterator[Checking | None]:
        """The turn to look at a roll-out; nothing where there is none, or somebody looked just now.

        Raises:
            UnavailableError: Postgres is away.
        """
        async with self._held() as (connection, state, now):
            due = state.checked_at is None or now - state.checked_at >= timedelta(seconds=interval)
            yield Checking(connection, state, now) if due and state.phase is Phase.RAMPING else None

    async def add_sample(self, sample: Sample) -> None:
        """Keep a sample, while there is a roll-out."""
        with postgres_errors():
            await self._pool.execute(QUERIES["add_sample"], *sample)

    async def history(self, limit: int) -> list[JsonObject]:
        """What was decided, the newest first."""
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["migration_history"], limit)
        return [
            {
                "at": row["created_at"],
                "by": row["actor"],
                "action": row["action"],
                "legacyMode": row["legacy_mode"],
                "percentage": row["percentage"],
                "reason": row["reason"],
                "signals": None if row["signals"] is None else orjson.loads(row["signals"]),
            }
            for row in rows
        ]

    async def untold(self) -> int | None:
        """How many commands were applied whose changes the old system's listeners were not told; nothing where nobody
        tells them."""
        with postgres_errors():
            found: int | None = await self._pool.fetchval(QUERIES["untold"], self._topic)
        return found

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[tuple[Connection, MigrationState, datetime]]:
        with postgres_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                (row,) = await connection.fetch(QUERIES["hold_migration"])
                yield connection, MigrationState.from_row(row), row["now"]


class Checking:
    """The open transaction of one look."""

    def __init__(self, connection: Connection, state: MigrationState, now: datetime) -> None:
        self._connection = connection
        self.state = state
        self.now = now

    async def figures(self, seconds: float) -> Figures:
        """What was counted within so many seconds."""
        (samples,) = await self._connection.fetch(QUERIES["sample_sums"], seconds)
        (ended,) = await self._connection.fetch(QUERIES["ended_of_late"], seconds)
        (compared,) = await self._connection.fetch(QUERIES["compared_of_late"], seconds)
        return Figures(*samples.values(), *ended.values(), *compared.values())

    async def decide(self, decision: Decision) -> None:
        """Change the row."""
        await _change(self._connection, decision)

    async def hold(self, because: str | None) -> None:
        """Hold the step, whose time begins anew; or, without a reason, hold it no longer."""
        if because is None:
            await self._connection.execute(QUERIES["release_step"])
        else:
            await self._connection.execute(QUERIES["hold_step"], because)

    async def done(self, error_rate: float | None, response_ms: float | None) -> None:
        """Keep that somebody looked, and throw old samples away."""
        await self._connection.execute(QUERIES["mark_checked"], error_rate, response_ms)
        await self._connection.execute(QUERIES["forget_samples"])


async def _change(connection: Connection, decision: Decision) -> None:
    await connection.execute(QUERIES["set_migration"], decision.legacy_mode, decision.percentage, decision.phase)
    signals = None if decision.signals is None else orjson.dumps(decision.signals).decode()
    await connection.execute(
        QUERIES["add_migration_history"],
        decision.actor,
        decision.action,
        decision.legacy_mode,
        decision.percentage,
        decision.reason,
        signals,
    )
