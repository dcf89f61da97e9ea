"""What Postgres looked at to answer a query."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import asyncpg
import orjson

from assessmentstore.store.postgres import Connection

_PASSED_OVER = ["Rows Removed by Filter", "Rows Removed by Index Recheck"]


class Plan(NamedTuple):
    """The plan of a query that was run."""

    rows: int
    """Those that it looked at, but for counters of servers: in a small store each assessment has nearly its own."""
    assessments: int
    """Rows of `assessment_states` among them."""
    told: str
    """The plan as Postgres tells it, and the arguments."""


class Explained:
    """A connection that keeps the plan of every query it runs, and how many rows that looked at."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans: list[Plan] = []

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
        read = _rows_read(orjson.loads(told)[0]["Plan"])
        rows = sum(count for table, count in read if table != "server_facet_totals")
        assessments = sum(count for table, count in read if table == "assessment_states")
        self.plans.append(Plan(rows, assessments, f"{told} {arguments}"))


def _rows_read(node: Mapping[str, Any]) -> list[tuple[str, int]]:
    """How many rows of which table each scan in a plan looked at, those that it passed over too."""
    below = [scan for plan in node.get("Plans", []) for scan in _rows_read(plan)]
    if "Relation Name" not in node:
        return below
    each = node["Actual Rows"] + sum(node.get(name, 0) for name in _PASSED_OVER)
    return [(node["Relation Name"], int(each * node["Actual Loops"])), *below]
