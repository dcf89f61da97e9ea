"""What timers ask Postgres: which are due by its clock, and who waits for too long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ..models.timers import Due, Timer
from .postgres import Pool, postgres_errors
from .queries import QUERIES

PAGE = 500
"""The most that is read at once."""

_MOST_COUNTED = 10_000

Place = tuple[Any, str]
"""When it is due, and the assessment: the order in which timers are read."""


class _Look(NamedTuple):
    query: str
    start: Any
    """A time before all."""


_LOOKS: Mapping[Timer, _Look] = {
    Timer.LEASE: _Look(QUERIES["due_leases"], 0.0),
    Timer.RETRY: _Look(QUERIES["due_retries"], datetime.fromtimestamp(0, UTC)),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """How it stands with timers."""

    pending_too_long: int
    """Assessments, counted to 10,000."""
    late_seconds: float
    """How late the timer is that is due longest."""


class TimerStore:
    """Postgres as timers see it: the primary, since a replica is late."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self, timer: Timer, after: Place | None) -> tuple[list[Due], Place | None]:
        """The next timers that are due after one, and the place of the last where there may be more.

        Raises:
            UnavailableError: Postgres is away.
        """
        look = _LOOKS[timer]
        with postgres_errors():
            rows = await self._pool.fetch(look.query, *(after or (look.start, "")), PAGE)
        found = [
            Due(
                timer=timer,
                assessment_id=row["assessment_id"],
                version=row["version"],
                created_at=row["created_at"],
                seconds=row["seconds"] or 0.0,
            )
            for row in rows
        ]
        return found, (rows[-1]["due"], rows[-1]["assessment_id"]) if len(rows) == PAGE else None

    async def pending_too_long(self, seconds: float) -> dict[str, datetime]:
        """Some assessments that nobody took up for so long, with the time since when they wait.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["pending_too_long"], seconds, PAGE)
        return {row["assessment_id"]: row["updated_at"] for row in rows}

    async def figures(self, seconds: float) -> Figures:
        """Count those, and see how late timers are.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            ((pending, late),) = await self._pool.fetch(QUERIES["timer_figures"], seconds, _MOST_COUNTED)
        return Figures(pending, late)
