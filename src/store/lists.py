"""Lists: pages of assessments in an order, and how many there are in all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg

from ..models.assessment import AssessmentRecord
from ..models.errors import RejectedError, Rejection
from ..models.filters import AssessmentFilters, ListQuery, SortBy, SortOrder
from .cursors import read_cursor, write_cursor
from .postgres import Connection, record_from_row
from .queries import QUERIES
from .totals import EVERYBODY

MOST_COUNTED = 10_000
"""Where no counter is kept for the filters, counting ends here: the cost of a page must not grow with history."""

# A page may have a thousand assessments, and a result may have a megabyte.
_MOST_BYTES = 16 * 1024 * 1024
_PREFETCHED = 100

_WILDCARD = re.compile(r"[*?]")

# A pattern that begins with anything is looked up among the names of the servers first; one that so many names are like
# is so wide that a page is full soon.
_MOST_NAMES = 1000

_LARGEST_NUMBER = 100
"""Of a priority and of progress."""


@dataclass(frozen=True, slots=True)
class AssessmentPage:
    """Some of the assessments that filters let through."""

    assessments: Sequence[AssessmentRecord]
    total: int
    total_is_exact: bool
    """Otherwise there are at least so many."""
    next_cursor: str | None


class _Order(NamedTuple):
    column: str
    type: str


_ORDERS: Mapping[SortBy, _Order] = {
    SortBy.CREATED_AT: _Order("created_at", "timestamptz"),
    SortBy.UPDATED_AT: _Order("updated_at", "timestamptz"),
    SortBy.PRIORITY: _Order("priority", "int"),
    SortBy.PROGRESS: _Order("progress", "int"),
}

_DIRECTIONS: Mapping[SortOrder, tuple[str, str]] = {SortOrder.ASC: ("ASC", ">"), SortOrder.DESC: ("DESC", "<")}


async def list_page(connection: Connection, query: ListQuery, owner: str | None) -> AssessmentPage:
    """One page, of one owner's assessments or everybody's.

    Raises:
        RejectedError: the cursor is none, or belongs to another order.
    """
    after = _read_cursor(query)
    column, kind = _ORDERS[query.sort_by]
    direction, beyond = _DIRECTIONS[query.sort_order]
    statement = QUERIES["list_page"].format(column=column, type=kind, direction=direction, beyond=beyond)
    chosen = await matching(connection, query, owner)
    arguments = (*chosen, *after, query.limit + 1, query.offset)
    rows, size = [], 0
    async for row in connection.cursor(statement, *arguments, prefetch=min(query.limit + 1, _PREFETCHED)):
        rows.append(row)
        size += len(row["request_data"]) + len(row["result_data"] or "")
        if size > _MOST_BYTES and len(rows) > 1:
            break
    more = len(rows) > query.limit or size > _MOST_BYTES
    shown = rows[:-1] if more and len(rows) > 1 else rows
    total, exact = await _count(connection, query, owner, chosen)
    cursor = _write_cursor(query, shown[-1]) if more and shown else None
    return AssessmentPage([record_from_row(row) for row in shown], total, exact, cursor)


async def matching(connection: Connection, filters: AssessmentFilters, owner: str | None) -> tuple[Any, ...]:
    """The arguments of `matching_assessments`."""
    return (
        owner,
        *_listed(filters),
        *await _servers(connection, filters.server_name, owner),
        filters.created_after,
        filters.created_before,
        filters.completed_after,
        filters.completed_before,
        filters.min_priority,
        filters.max_priority,
        filters.min_progress,
        filters.max_progress,
    )


def counted(filters: AssessmentFilters, owner: str | None) -> tuple[Any, ...]:
    """The arguments of the queries of counters."""
    return owner or EVERYBODY, *_listed(filters), filters.min_priority, filters.max_priority


def _listed(filters: AssessmentFilters) -> tuple[Any, ...]:
    return list(filters.state) or None, list(filters.type) or None, filters.source


async def _servers(
    connection: Connection, pattern: str | None, owner: str | None
) -> tuple[list[str] | None, str | None]:
    """Servers by their names, or by a pattern of LIKE that an index serves: one that begins with letters."""
    if pattern is None:
        return None, None
    if not _WILDCARD.search(pattern):
        return [pattern], None
    like = like_literal(pattern).replace("*", "%").replace("?", "_")
    if not _WILDCARD.match(pattern):
        return None, like
    rows = await connection.fetch(QUERIES["servers_like"], owner or EVERYBODY, like, _MOST_NAMES + 1)
    return ([row["server_name"] for row in rows], None) if len(rows) <= _MOST_NAMES else (None, like)


def like_literal(text: str) -> str:
    """A text that LIKE takes letter by letter."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


async def _count(
    connection: Connection, query: ListQuery, owner: str | None, chosen: tuple[Any, ...]
) -> tuple[int, bool]:
    if query.are_counted:
        rows = await connection.fetch(QUERIES["totals"], *counted(query, owner))
        return sum(row["assessments"] for row in rows), True
    found = await connection.fetchval(QUERIES["count_matching"], *chosen, MOST_COUNTED + 1)
    return min(found, MOST_COUNTED), found <= MOST_COUNTED


def _write_cursor(query: ListQuery, last: asyncpg.Record) -> str:
    value = last[_ORDERS[query.sort_by].column]
    return write_cursor(query.sort_by, query.sort_order, value, last["assessment_id"])


def _read_cursor(query: ListQuery) -> tuple[Any, str | None]:
    """The place where the page before ended."""
    if query.cursor is None:
        return None, None
    try:
        *order, value, assessment_id = read_cursor(query.cursor)
        if order == [query.sort_by, query.sort_order]:
            return _sort_value(_ORDERS[query.sort_by].type, value), _id(assessment_id)
    except (ValueError, TypeError, OverflowError) as error:
        raise _wrong_cursor("is not one of this list: begin without a cursor") from error
    raise _wrong_cursor("belongs to another order: keep sortBy and sortOrder as they were")


def _sort_value(kind: str, value: Any) -> Any:
    if kind == "timestamptz":
        return datetime.fromisoformat(value).astimezone(UTC)
    if not isinstance(value, int) or not 0 <= value <= _LARGEST_NUMBER:
        raise ValueError("no number that is sorted by")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError("no id of an assessment")
    return value


def _wrong_cursor(words: str) -> RejectedError:
    return RejectedError(Rejection.invalid(f"cursor {words}", parameter="cursor"))
