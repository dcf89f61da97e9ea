"""Statistics: sums of counters, or of what filters let through where no counters are kept for them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from ..models.assessment import AssessmentState, AssessmentType
from ..models.base import JsonObject
from ..models.filters import StatsQuery
from .lists import counted, matching
from .postgres import Connection
from .queries import QUERIES
from .totals import ENDED, EVERYBODY

MOST_DAYS = 30
"""The days that `dailyCounts` has where the filters name no beginning."""

_MOST_SERVERS = 10


async def statistics(connection: Connection, query: StatsQuery, owner: str | None, *, now: datetime) -> JsonObject:
    """The statistics of one owner's assessments or everybody's, as the API answers them."""
    if query.are_counted:
        totals = await connection.fetch(QUERIES["totals"], *counted(query, owner))
    else:
        totals = await connection.fetch(QUERIES["matching_totals"], *matching(query, owner))
    days = await _days(connection, query, owner, now)
    servers = await _servers(connection, query, owner)
    return _sums(totals) | {
        "dailyCounts": [
            {
                "date": row["date"],
                "count": row["assessments"],
                "completed": row["completed"] or 0,
                "failed": row["failed"] or 0,
            }
            for row in days
        ],
        "topServers": [
            {
                "serverName": row["server_name"],
                "assessmentCount": row["assessments"],
                "lastAssessment": row["last_created_at"],
            }
            for row in servers
        ],
    }


def _sums(rows: Iterable[asyncpg.Record]) -> JsonObject:
    """Totals, rates and averages of the counters by type, priority and state."""
    by_state: Counter[str] = Counter({str(state): 0 for state in AssessmentState})
    by_type: Counter[str] = Counter({str(kind): 0 for kind in AssessmentType})
    by_priority: Counter[str] = Counter()
    completed: Counter[str] = Counter()
    times: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        count, state, kind = row["assessments"], row["state"], row["assessment_type"]
        by_state[state] += count
        by_type[kind] += count
        by_priority[str(row["priority"])] += count
        completed[kind] += count if state == AssessmentState.COMPLETED else 0
        times[state][0] += row["timed"]
        times[state][1] += row["duration_ms"]
    return {
        "total": by_state.total(),
        "byState": dict(by_state),
        "byType": dict(by_type),
        "byPriority": {key: by_priority[key] for key in sorted(by_priority, key=int) if by_priority[key]},
        "successRate": _rate(by_state[AssessmentState.COMPLETED], by_state.total()),
        "averageProcessingTimeByState": {state: round(total / n) for state, (n, total) in sorted(times.items()) if n},
        "successRateByType": {kind: _rate(completed[kind], count) for kind, count in by_type.items() if count},
    }


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


async def _days(
    connection: Connection, query: StatsQuery, owner: str | None, now: datetime
) -> Sequence[asyncpg.Record]:
    """Assessments by the day of their creation."""
    start = _midnight(now, query.timezone) - timedelta(days=MOST_DAYS - 1)
    if _are_kept(query):
        return await connection.fetch(QUERIES["created_totals"], *_kept(query, owner), query.timezone, start)
    bounded = query if query.created_after else query.model_copy(update={"created_after": start})
    return await connection.fetch(QUERIES["matching_created"], *matching(bounded, owner), query.timezone)


async def _servers(connection: Connection, query: StatsQuery, owner: str | None) -> Sequence[asyncpg.Record]:
    """The servers with the most assessments."""
    if _are_kept(query):
        return await connection.fetch(QUERIES["server_totals"], *_kept(query, owner), _MOST_SERVERS)
    return await connection.fetch(QUERIES["matching_servers"], *matching(query, owner), _MOST_SERVERS)


def _are_kept(query: StatsQuery) -> bool:
    """Whether days and servers are counted by these filters; active states are not told apart, but few to look at."""
    return query.given <= {"type", "state"} and set(query.state) <= set(ENDED)


def _kept(query: StatsQuery, owner: str | None) -> tuple[Any, ...]:
    return owner or EVERYBODY, list(query.type) or None, list(query.state) or None


def _midnight(now: datetime, timezone: str) -> datetime:
    return now.astimezone(ZoneInfo(timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
