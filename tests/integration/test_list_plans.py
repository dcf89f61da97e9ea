"""The plans of lists, search and statistics on a filled database: none reads a table from end to end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
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
    """A connection that keeps the plan of every query it runs, and how many rows that looked at."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans: list[tuple[int, str]] = []

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
        if "EXPLAIN" in query:
            return
        told = await self._connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
        self.plans.append((rows_read(orjson.loads(told)[0]["Plan"]), f"{told} {arguments}"))


def rows_read(node: Mapping[str, Any]) -> int:
    """How many rows the scans in a plan looked at, those that they passed over too."""
    each = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) if "Relation Name" in node else 0
    return int(each * node["Actual Loops"]) + sum(map(rows_read, node.get("Plans", [])))


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
    worst = max(explained.plans)
    assert worst[0] < COUNT * 0.6, worst
