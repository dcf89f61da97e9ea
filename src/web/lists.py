"""Lists, search, statistics and history: each shows a user what is his, and the counts of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import asyncpg
import orjson
from aiohttp import web
from pydantic.alias_generators import to_camel

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.filters import HistoryQuery, ListQuery, SearchQuery, StatsQuery
from ..store.encryption import KeyRing
from ..store.lists import AssessmentPage, list_page
from ..store.postgres import Connection
from ..store.queries import QUERIES
from ..store.searches import search
from ..store.stats import statistics
from .auth import Permission, authorize
from .freshness import READS, consistency
from .keys import check_filters, keys_of
from .patience import Turns, promptly
from .queries import read_query
from .reads import json_response, visible

T = TypeVar("T")

# Every query goes by an index; what takes longer than this is a Postgres that hangs.
_READ_SECONDS = 10.0
_REPLICA_SECONDS = 4.0


async def get_list(request: web.Request) -> web.Response:
    """`GET /assessments`."""
    user = authorize(request, Permission.VIEW)
    query = read_query(request, ListQuery)
    check_filters(request, query)
    page = await _read(request, lambda connection: _in_snapshot(connection, query, user.scope))
    keys = keys_of(request)
    assessments = await _each(page.assessments, lambda record: keys.open_record(record).to_wire())
    return _page(assessments, page.total, exact=page.total_is_exact, cursor=page.next_cursor)


async def get_search(request: web.Request) -> web.Response:
    """`GET /assessments/search`."""
    user = authorize(request, Permission.VIEW)
    query = read_query(request, SearchQuery)
    page = await _read(request, lambda connection: search(connection, query, user.scope))
    keys = keys_of(request)
    assessments = await _each(
        page.assessments,
        lambda record: keys.open_record(record).to_wire() | {"highlights": page.looked_for.highlights(record)},
    )
    return _page(assessments, page.total, exact=page.total_is_exact, cursor=page.next_cursor)


async def get_stats(request: web.Request) -> web.Response:
    """`GET /assessments/stats`."""
    user = authorize(request, Permission.VIEW)
    query = read_query(request, StatsQuery)
    check_filters(request, query)
    now = datetime.now(UTC)
    return json_response(await _read(request, lambda connection: statistics(connection, query, user.scope, now=now)))


async def get_history(request: web.Request) -> web.Response:
    """`GET /assessments/{id}/history`."""
    user, query = authorize(request, Permission.VIEW), read_query(request, HistoryQuery)
    record = await visible(request, user)
    arguments = record.assessment_id, query.after_version, query.limit
    rows = await _read(request, lambda connection: connection.fetch(QUERIES["history"], *arguments))
    return json_response({"history": [_entry(row, keys_of(request)) for row in rows]})


async def _read(request: web.Request, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
    """What is read of Postgres.

    Raises:
        RejectedError: the `Consistency-Token` is none.
        StaleError: nobody has applied as much as it asks for.
        UnavailableError: Postgres is away.
    """
    reading = request.app[READS].read(work, consistency(request), patience=_REPLICA_SECONDS)
    return (await promptly(reading, seconds=_READ_SECONDS)).value


async def _in_snapshot(connection: Connection, query: ListQuery, owner: str | None) -> AssessmentPage:
    """One page, which takes several statements: in one snapshot it agrees with its total."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await list_page(connection, query, owner)


async def _each(
    records: Sequence[AssessmentRecord], show: Callable[[AssessmentRecord], JsonObject]
) -> list[JsonObject]:
    """What is shown of each record: whoever wants a single state does not wait for a whole page."""
    turns, shown = Turns(), []
    for record in records:
        shown.append(show(record))
        await turns.give_way()
    return shown


def _page(assessments: list[JsonObject], total: int, *, exact: bool, cursor: str | None) -> web.Response:
    """One page; a total that was not counted to its end says so."""
    body = {"assessments": assessments, "total": total, "nextCursor": cursor}
    return json_response(body if exact else body | {"totalIsExact": False})


def _entry(row: asyncpg.Record, keys: KeyRing) -> JsonObject:
    """One row of the audit trail."""
    return {to_camel(name): value for name, value in row.items()} | {
        "details": orjson.Fragment(keys.open_event(row["details"]))
    }
