"""Lists: pages of assessments in an order, and how many there are in all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg

from ..models.assessment import AssessmentRecord
from ..models.filters import AssessmentFilters, ListQuery, SortBy
from .cursors import assessment_id, instant, read_cursor, write_cursor, wrong_cursor
from .list_orders import BY_FACET, BY_SERVER, COUNTED, MERGED, ORDERS, fill_in
from .postgres import Connection, record_from_row
from .queries import QUERIES
from .totals import ENDED, EVERYBODY

MOST_COUNTED = 10_000
"""Where no counter is kept for the filters, counting ends here: the cost of a page must not grow with history."""

# A page may have a thousand assessments, and a result may have a megabyte.
_MOST_BYTES = 16 * 1024 * 1024
_PREFETCHED = 100

_COUNTED_BY_SERVER = frozenset({"state", "type", "source", "server_name"})
"""Filters that the counters of servers are kept for, with final states."""

_WILDCARD = re.compile(r"[*?]")

# A pattern that begins with anything is looked up among the names of the servers first; one that so many names are like
# is so wide that a page is full soon.
_MOST_NAMES = 1000

_LARGEST_NUMBER = 100
"""Of a priority and of progress."""

# Along an order one looks at so many assessments before the page is found in another way: some milliseconds.
_MOST_PASSED = 2000

# Of each list that a page is merged from, so many are read at first, and more where there are few lists.
_FEW = 10


@dataclass(frozen=True, slots=True)
class AssessmentPage:
    """Some of the assessments that filters let through."""

    assessments: Sequence[AssessmentRecord]
    total: int
    total_is_exact: bool
    """Otherwise there are at least so many."""
    next_cursor: str | None


class _Lists(NamedTuple):
    """Lists that a page is merged from: each of the assessments with one key."""

    texts: Mapping[str, str]
    keys: list[Any]
    filters: AssessmentFilters
    """Those that the keys do not stand for."""


async def list_page(connection: Connection, query: ListQuery, owner: str | None) -> AssessmentPage:
    """One page, of one owner's assessments or everybody's.

    Where a page is not full after so many assessments in its order, it is found in another way (docs/adr/0021): the
    newest may have in common what the filters do not let through.

    Raises:
        RejectedError: the cursor is none, or belongs to another order.
    """
    reader = _PageReader(connection, query, owner, _read_cursor(query), await matching(connection, query, owner))
    found = await reader.near()
    total, exact = await _count(connection, query, owner, reader.chosen)
    if found is None:
        found = await reader.far(total if exact else None)
    rows, more = found
    cursor = _write_cursor(query, rows[-1]) if more and rows else None
    return AssessmentPage([record_from_row(row) for row in rows], total, exact, cursor)


_Found = tuple[list[asyncpg.Record], bool]
"""The rows of a page, and whether there are more."""


@dataclass(frozen=True, slots=True)
class _PageReader:
    """Finds the rows of one page."""

    connection: Connection
    query: ListQuery
    owner: str | None
    after: tuple[Any, str | None]
    """The place where the page before ended."""
    chosen: tuple[Any, ...]
    """The arguments of `matching_assessments`."""

    async def near(self) -> _Found | None:
        """The page, unless more than so many assessments have to be passed over."""
        edge = await self._edge() if self.query.given - ORDERS[self.query.sort_by].filters else None
        found = await self._in_order(edge)
        return found if edge is None or found[1] else None

    async def far(self, total: int | None) -> _Found:
        """The page, wherever it is.

        Args:
            total: how many the filters let through, where that is known.
        """
        if total == 0:
            return [], False
        if self.owner is None and self.query.sort_by in MERGED and (lists := await self._lists()):
            return await self._merged(lists)
        if total is not None and total <= MOST_COUNTED:
            return await self._sorted()
        return await self._in_order(None)

    async def _edge(self) -> asyncpg.Record | None:
        """The place up to which one looks along the order; nothing where it ends before."""
        names = self.query.given & ORDERS[self.query.sort_by].filters
        filters = AssessmentFilters(**{name: getattr(self.query, name) for name in names})
        chosen = await matching(self.connection, filters, self.owner)
        passed = _MOST_PASSED + 2 * self._reached
        rows = await self.connection.fetch(self._filled(QUERIES["list_edge"]), *chosen, *self.after, passed)
        return rows[0] if rows else None

    async def _in_order(self, edge: asyncpg.Record | None) -> _Found:
        place = (None, None) if edge is None else (edge["value"], edge["assessment_id"])
        arguments = *self.chosen, *self.after, *place, self._limit, self.query.offset
        return await self._read(QUERIES["list_page"], arguments)

    async def _lists(self) -> _Lists | None:
        """The lists that have everybody's page at their beginnings, or nothing where no index has such lists."""
        query = self.query
        if query.server_name is not None and query.sort_by is SortBy.CREATED_AT:
            names = await _servers_like(self.connection, _like(query.server_name), EVERYBODY)
            return _Lists(BY_SERVER, names, _without(query, {"server_name"})) if names is not None else None
        if query.given - COUNTED - ORDERS[query.sort_by].filters:
            return None
        return _Lists(BY_FACET, await self._facets(), _without(query, COUNTED))

    async def _facets(self) -> list[int]:
        rows = await self.connection.fetch(QUERIES["facets"], *counted(self.query, self.owner))
        return [row["facet"] for row in rows]

    async def _sorted(self) -> _Found:
        # What the filters of counters say, facets say in one condition, which an index serves.
        facets = await self._facets() if self.owner is None and self.query.are_counted else None
        arguments = *self.chosen, *self.after, facets, self._limit, self.query.offset
        return await self._read(QUERIES["list_sorted"], arguments, **BY_FACET)

    async def _merged(self, lists: _Lists) -> _Found:
        few = min(self._reached + 1, 4 * self._reached // max(len(lists.keys), 1) + _FEW)
        chosen = await matching(self.connection, lists.filters, self.owner)
        place = *self.after, lists.keys, few, self._reached, self._limit, self.query.offset
        return await self._read(QUERIES["list_merged"], (*chosen, *place), **lists.texts)

    async def _read(self, query: str, arguments: tuple[Any, ...], **texts: str) -> _Found:
        """Run a query whose last arguments are a limit and an offset; a page of very large assessments ends early."""
        rows, size = [], 0
        statement = self._filled(query, **texts)
        async for row in self.connection.cursor(statement, *arguments, prefetch=min(self._limit, _PREFETCHED)):
            rows.append(row)
            size += len(row["request_data"]) + len(row["result_data"] or "")
            if size > _MOST_BYTES and len(rows) > 1:
                break
        more = len(rows) == self._limit or size > _MOST_BYTES
        return (rows[:-1] if more and len(rows) > 1 else rows), more

    def _filled(self, query: str, **texts: str) -> str:
        return fill_in(query, self.query.sort_by, self.query.sort_order, **texts)

    @property
    def _limit(self) -> int:
        """One more than the page has: it tells whether there is a next one."""
        return self.query.limit + 1

    @property
    def _reached(self) -> int:
        return self._limit + self.query.offset


def _without(query: ListQuery, names: Collection[str]) -> AssessmentFilters:
    return AssessmentFilters(**{name: getattr(query, name) for name in query.given - set(names)})


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


def are_ended(filters: AssessmentFilters) -> bool:
    """Whether the counters of days and servers tell these states apart; active ones they do not."""
    return set(filters.state) <= set(ENDED)


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
    like = _like(pattern)
    if not _WILDCARD.match(pattern):
        return None, like
    names = await _servers_like(connection, like, owner or EVERYBODY)
    return (names, None) if names is not None else (None, like)


async def _servers_like(connection: Connection, like: str, scope: str) -> list[str] | None:
    """The names of a scope's servers that are like a pattern, unless there are too many."""
    rows = await connection.fetch(QUERIES["servers_like"], scope, like, _MOST_NAMES + 1)
    return [row["server_name"] for row in rows] if len(rows) <= _MOST_NAMES else None


def _like(pattern: str) -> str:
    return like_literal(pattern).replace("*", "%").replace("?", "_")


def like_literal(text: str) -> str:
    """A text that LIKE takes letter by letter."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


async def _count(
    connection: Connection, query: ListQuery, owner: str | None, chosen: tuple[Any, ...]
) -> tuple[int, bool]:
    if query.are_counted:
        return await connection.fetchval(QUERIES["count_kept"], *counted(query, owner)), True
    if query.given <= _COUNTED_BY_SERVER and are_ended(query):
        _, *of_servers = chosen[:6]
        return await connection.fetchval(QUERIES["count_on_servers"], owner or EVERYBODY, *of_servers), True
    found = await connection.fetchval(QUERIES["count_matching"], *chosen, MOST_COUNTED + 1)
    return min(found, MOST_COUNTED), found <= MOST_COUNTED


def _write_cursor(query: ListQuery, last: asyncpg.Record) -> str:
    value = last[ORDERS[query.sort_by].column]
    return write_cursor(query.sort_by, query.sort_order, value, last["assessment_id"])


def _read_cursor(query: ListQuery) -> tuple[Any, str | None]:
    """The place where the page before ended."""
    if query.cursor is None:
        return None, None
    try:
        *order, value, key = read_cursor(query.cursor)
        if order == [query.sort_by, query.sort_order]:
            return _sort_value(ORDERS[query.sort_by].type, value), assessment_id(key)
    except (ValueError, TypeError, OverflowError) as error:
        raise wrong_cursor("is not one of this list: begin without a cursor") from error
    raise wrong_cursor("belongs to another order: keep sortBy and sortOrder as they were")


def _sort_value(kind: str, value: Any) -> Any:
    if kind == "timestamptz":
        return instant(value)
    if not isinstance(value, int) or not 0 <= value <= _LARGEST_NUMBER:
        raise ValueError("no number that is sorted by")
    return value
