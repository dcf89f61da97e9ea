"""The plans of lists, search and statistics on a filled database: none reads a table from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from bench.fill import assessments, fill, store
from tests.harness.plans import Explained

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.filters import ListQuery, SearchQuery, StatsQuery
from assessmentstore.settings import Settings
from assessmentstore.store import lists
from assessmentstore.store.list_orders import COUNTED
from assessmentstore.store.lists import list_page
from assessmentstore.store.postgres import open_pools
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
DAYS = [NOW - timedelta(days=days) for days in (1, 30, 300)]
# Each lets the newest through and few others, or the other way round.
CORRELATED: list[dict[str, Any]] = [
    {"state": ["completed"]},
    {"state": ["pending", "failed"]},
    {"type": ["security"]},
    {"server_name": "web-*"},
    {"server_name": "*lima*"},
    {"min_priority": 8},
    {"max_priority": 2},
    *({"created_after": day} for day in DAYS),
    *({"created_before": day} for day in DAYS),
    {"type": ["health"], "created_before": DAYS[1]},
    {"state": ["failed"], "type": ["security"], "source": "installer", "min_priority": 9},
    {"state": ["completed"], "server_name": "web-*", "min_priority": 8},
]
SEARCHES = ["berlin", "disk almost", "3f9c", "certifcate", "nothingofthekind"]
STATISTICS: list[dict[str, Any]] = [
    {},
    {"state": ["completed"]},
    {"state": ["processing"]},
    {"type": ["security"], "source": "installer", "timezone": "Asia/Kolkata"},
    {"created_after": NOW - timedelta(days=7)},
    {"server_name": "web-*"},
    {"server_name": "*berlin*", "type": ["security"], "state": ["processing", "failed"]},
    {"min_priority": 8},
    {"min_priority": 8, "timezone": "Asia/Kolkata"},
]


async def test_no_query_reads_a_table_from_end_to_end(settings: Settings) -> None:
    await fill(settings.database_url, COUNT)

    async with open_pools(settings, application="test") as pools, pools.read.acquire() as connection:
        explained: Any = Explained(connection)
        for owner in (None, "user-7"):
            for filters in LISTS:
                await list_page(explained, ListQuery(**filters), owner)
            for text in SEARCHES:
                await search(explained, SearchQuery(q=text), owner)
            for filters in STATISTICS:
                await statistics(explained, StatsQuery(**filters), owner, now=NOW)

    assert len(explained.plans) > 80
    worst = max(explained.plans)
    assert worst[0] < COUNT * 0.6, worst


def correlated(count: int) -> Iterator[AssessmentRecord]:
    """So many of all kinds over a year, and then as many in some minutes that have everything in common."""
    yield from assessments(count, now=NOW - timedelta(hours=2))
    same = {"assessmentType": "compliance", "source": "installer", "priority": 5, "serverName": "server-0042"}
    for number, record in enumerate(assessments(count, seed=2)):
        created = NOW - timedelta(minutes=4) * (1 - number / count)
        ended = created + timedelta(seconds=9)
        yield record.model_copy(
            update={
                "state": AssessmentState.COMPLETED,
                "version": 3,
                "progress": 100,
                "created_at": created,
                "updated_at": ended,
                "started_at": created + timedelta(seconds=1),
                "completed_at": ended,
                "request_data": record.request_data | same,
            }
        )


async def test_what_the_newest_have_in_common_makes_no_page_slow(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the assessments looked at, with limits as small beside the store as they are beside a million."""
    count = COUNT // 2
    monkeypatch.setattr(lists, "MOST_COUNTED", count // 50)
    monkeypatch.setattr(lists, "_MOST_PASSED", count // 200)
    await store(settings.database_url, correlated(count), 2 * count)

    looked_at: list[tuple[int, str]] = []
    async with open_pools(settings, application="test") as pools, pools.read.acquire() as connection:
        for filters, sort_order, sort_by in product(CORRELATED, ["asc", "desc"], ["createdAt", "updatedAt"]):
            if sort_by == "updatedAt" and not filters.keys() <= COUNTED:
                continue
            explained: Any = Explained(connection)
            await list_page(explained, ListQuery(**filters, sort_by=sort_by, sort_order=sort_order, limit=20), None)
            rows = sum(plan.rows for plan in explained.plans if "assessment_states" in plan.told)
            looked_at.append((rows, f"{sort_by} {sort_order} {filters} {explained.plans}"))

    worst = max(looked_at)
    assert worst[0] < count * 0.6, worst
