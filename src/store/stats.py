"""Statistics: sums of counters, or of what filters let through where no counters are kept for them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from operator import itemgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

import asyncpg

from ..models.assessment import AssessmentState, AssessmentType
from ..models.base import JsonObject
from ..models.filters import StatsQuery
from .lists import are_ended, counted, matching
from .postgres import Connection
from .queries import QUERIES

MOST_DAYS = 30
"""The days that `dailyCounts` has where the filters name no beginning."""

MOST_SERVERS = 10

_COUNTED = {"type", "state", "source"}
"""Filters that counters are kept for, of every owner and of everybody."""

_COUNTED_BY_DAY = {"created_after", "created_before", "state"}
_COUNTED_BY_FACET = {*_COUNTED, "server_name", "min_priority", "max_priority"}
"""The same of everybody's assessments alone."""


async def statistics(connection: Connection, query: StatsQuery, owner: str | None, *, now: datetime) -> JsonObject:
    """The statistics of one owner's assessments or everybody's, as the API answers them."""
    rows = await _found(connection, query, owner, _midnight(now, query.timezone))
    others = [row for row in rows if not row["is_total"]]
    by_day = sorted((row for row in others if row["is_day"] and row["date"]), key=itemgetter("date"))
    by_server = [row for row in others if not row["is_day"] and row["server_name"] is not None]
    servers = [
        {
            "serverName": row["server_name"],
            "assessmentCount": row["assessments"],
            "lastAssessment": row["last_created_at"],
        }
        for row in sorted(by_server, key=lambda row: (-row["assessments"], row["server_name"]))[:MOST_SERVERS]
    ]
    days = [
        {"date": row["date"], "count": row["assessments"]} | {name: row[name] or 0 for name in ("completed", "failed")}
        for row in by_day
    ]
    return _sums(row for row in rows if row["is_total"]) | {"dailyCounts": days, "topServers": servers}


async def _found(
    connection: Connection, query: StatsQuery, owner: str | None, today: datetime
) -> Sequence[asyncpg.Record]:
    """Rows that have either type, priority and state, or a day, or a server."""
    first_day = today - timedelta(days=MOST_DAYS - 1)
    days_from = query.created_after or first_day
    if query.given <= _COUNTED and are_ended(query):
        arguments = *counted(query, owner), query.timezone, first_day, MOST_SERVERS
        return await connection.fetch(QUERIES["counted_statistics"], *arguments)
    if query.given <= _COUNTED_BY_DAY and are_ended(query) and owner is None:
        span = whole_days(query.created_after, query.created_before)
        states = list(query.state) or None
        return await connection.fetch(
            QUERIES["span_statistics"], states, *span, query.timezone, days_from, MOST_SERVERS
        )
    if query.given <= _COUNTED_BY_FACET and owner is None:
        chosen = await matching(connection, query.model_copy(update={"created_after": first_day}), None)
        are_days_utc = not first_day.utcoffset() and not today.utcoffset()
        counters = _counters_of_days(query) if are_days_utc else "assessments"
        return await connection.fetch(QUERIES["facet_statistics"], *chosen, query.timezone, counters, MOST_SERVERS)
    arguments = *await matching(connection, query, owner), query.timezone, days_from
    return await connection.fetch(QUERIES["matching_statistics"], *arguments)


def _counters_of_days(query: StatsQuery) -> str:
    """Which counters by the day (UTC) are kept for the filters; where there are none, the assessments are counted."""
    if query.server_name is None:
        return "day_totals"
    return "server_day_totals" if query.given <= {"server_name", "state"} else "assessments"


class Span(NamedTuple):
    """A span of time, cut where days (UTC) begin and end."""

    first_day: date
    end_day: date
    """The one after the last."""
    head_begin: datetime
    head_end: datetime
    tail_begin: datetime
    tail_end: datetime


def whole_days(begin: datetime | None, end: datetime | None) -> Span:
    """The whole days of a span that is open on either side, and what stands before and after them, perhaps nothing."""
    first, last = _midnight_from(begin) if begin else date.min, end.date() if end else date.max
    if begin and end and first > last:
        return Span(first, first, begin, end, end, end)
    head, tail = begin or _at_midnight(first), end or _at_midnight(last)
    return Span(first, last, head, _at_midnight(first), _at_midnight(last), tail)


def _midnight_from(moment: datetime) -> date:
    """The first day that begins then or later."""
    day = moment.date()
    return day if moment == _at_midnight(day) or day == date.max else day + timedelta(days=1)


def _at_midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


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


def _midnight(now: datetime, timezone: str) -> datetime:
    return now.astimezone(ZoneInfo(timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
