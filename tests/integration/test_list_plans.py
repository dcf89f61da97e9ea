"""The plans of lists, search and statistics on a filled database: none reads a table from end to end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from bench.fill import fill

from assessmentstore.models.filters import ListQuery, SearchQuery, StatsQuery
from assessmentstore.settings import Settings
from assessmentstore.store.lists import list_page
from assessmentstore.store.postgres import Connection, open_pools
from assessmentstore.store.searches import search
from assessmentstore.store.stats import statistics

NOW = datetime.now(UTC)
COUNT = 20_000

LISTS: list[dict[str, Any]] = [
    {},
    *({"sort_by": column} for column in ("updatedAt", "priority", "progress")),
    {"state": ["processing"]},
    {"state": ["completed"], "type": ["security"], "sort_order": "asc"},
    {"source": "installer", "min_priority": 9},
    {"server_name": "web-*"},
    {"server_name": "*berlin*"},
    {"created_after": NOW - timedelta(days=30), "sort_by": "priority"},
    {"completed_after": NOW - timedelta(days=1), "completed_before": NOW},
    {"min_progress": 40, "max_progress": 60},
    {"offset": 10_000},
]
SEARCHES = ["berlin", "disk almost", "3f9c", "certifcate", "nothingofthekind"]
STATISTICS: list[dict[str, Any]] = [
    {},
    {"state": ["completed"]},
    {"state": ["processing"]},
    {"type": ["security"], "source": "installer", "timezone": "Asia/Kolkata"},
    {"created_after": NOW - timedelta(days=7)},
    {"server_name": "web-*"},
    {"min_priority": 8},
]


class Explained:
    """A connection that keeps the plan of every query it runs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans: list[str] = []

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        await self._explain(query, *arguments)
        return await self._connection.fetch(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        await self._explain(query, *arguments)
        return await self._connection.fetchval(query, *arguments)

    async def cursor(self, query: str, *arguments: Any, **_: int) -> AsyncIterator[asyncpg.Record]:
        for row in await self.fetch(query, *arguments):
            yield row

    async def _explain(self, query: str, *arguments: Any) -> None:
        rows = await self._connection.fetch(f"EXPLAIN {query}", *arguments)
        self.plans.append("\n".join(row[0] for row in rows))


@pytest.mark.parametrize("owner", [None, "user-7"])
async def test_no_query_reads_a_table_from_end_to_end(settings: Settings, owner: str | None) -> None:
    await fill(settings.database_url, COUNT)

    async with open_pools(settings, application="test") as pools, pools.read.acquire() as connection:
        explained: Any = Explained(connection)
        for filters in LISTS:
            await list_page(explained, ListQuery(**filters), owner)
        for text in SEARCHES:
            await search(explained, SearchQuery(q=text), owner, offset=0)
        for filters in STATISTICS:
            await statistics(explained, StatsQuery(**filters), owner, now=NOW)

    assert len(explained.plans) > 40
    scans = [plan for plan in explained.plans if "Seq Scan on" in plan]
    assert not scans, scans[0]
