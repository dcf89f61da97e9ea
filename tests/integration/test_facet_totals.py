"""Statistics by server, priority and any state come from counters, which Postgres keeps, whoever changes a state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bench.fill import assessments, store
from tests.harness.installation import Installation
from tests.harness.plans import Explained

from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.filters import StatsQuery
from assessmentstore.settings import Settings
from assessmentstore.store import lists
from assessmentstore.store.migrate import migrate
from assessmentstore.store.postgres import Pools
from assessmentstore.store.stats import statistics

COUNT = 1500
NOW = datetime.now(UTC)

SERVERS = ["web-lima-1", "web-lima-2", "web_oslo", "WEB-LIMA-1", "100%", "a*b", "über-lima", "x" * 300, *"bcdefgh"]

CHOICES: dict[str, list[Any]] = {
    "state": [(), ("pending",), ("completed",), ("pending", "processing"), ("processing", "failed", "cancelled")],
    "type": [(), ("security",), ("health", "security")],
    "source": [None, None, "installer"],
    "server_name": [None, "web-lima-1", "web-*", "*lima*", "*", "?", "web_*", "*%", "x" * 255, "nowhere", "*nowhere"],
    "min_priority": [None, None, 4, 8],
    "max_priority": [None, None, 9, 3],
    "timezone": ["UTC", "UTC", "Asia/Kolkata", "America/St_Johns", "Africa/Abidjan"],
}

CHANGES = """
UPDATE assessment_states SET state = 'failed', completed_at = started_at + interval '70.5 s' WHERE state = 'processing';
UPDATE assessment_states SET state = 'pending', started_at = NULL, completed_at = NULL, retry_count = retry_count + 1
WHERE state = 'failed' AND priority < 4;
UPDATE assessment_states SET state = 'processing', started_at = now(), completed_at = NULL WHERE assessment_id > 'e';
UPDATE assessment_states SET progress = 99 WHERE state = 'cancelled';
UPDATE assessment_states SET request_data = request_data || '{"priority": 2, "serverName": "moved"}' WHERE priority = 9;
UPDATE assessment_states SET request_data = request_data - 'serverName' - 'source' WHERE assessment_id LIKE 'a%';
UPDATE assessment_states SET created_at = created_at - interval '40 days' WHERE priority = 7;
DELETE FROM assessment_search WHERE assessment_id < '2';
DELETE FROM assessment_audit_trail WHERE assessment_id < '2';
DELETE FROM assessment_states WHERE assessment_id < '2';
SELECT rebuild_totals();
"""

WITHOUT_THE_COUNTERS = """
DROP TRIGGER count_facets_at_insert ON assessment_states;
DROP TRIGGER count_facets_at_update ON assessment_states;
DROP TRIGGER count_facets_at_delete ON assessment_states;
DROP FUNCTION count_facets_at_insert, count_facets_at_update, count_facets_at_delete, counted_states;
DROP TABLE server_facet_totals;
DELETE FROM schema_migrations WHERE name LIKE '0026%';
"""


def on_few_servers() -> Iterator[AssessmentRecord]:
    """Assessments of the last months; some have no server, or no source."""
    dice = random.Random(5)
    for record in assessments(COUNT):
        request = record.request_data | {"serverName": dice.choice(SERVERS)}
        for name in ("serverName", "source", "priority"):
            if dice.random() < 0.1:
                del request[name]
        created = NOW - (NOW - record.created_at) / 4
        yield record.model_copy(update={"request_data": request, "created_at": created})


def some_filters(dice: random.Random) -> dict[str, Any]:
    return {name: dice.choice(values) for name, values in CHOICES.items()}


async def answers(pools: Pools, filters: dict[str, Any], owner: str | None = None) -> list[Any]:
    """By counters; and by the assessments themselves, as a filter of progress is not counted."""
    found = []
    async with pools.read.acquire() as connection:
        for query in (StatsQuery(**filters), StatsQuery(**filters, min_progress=0)):
            told = await statistics(connection, query, owner, now=NOW)
            if query.state:  # counters know when a server was assessed last, whatever became of it
                told["topServers"] = [server | {"lastAssessment": None} for server in told["topServers"]]
            found.append(told)
    return found


def without_last(servers: list[Any]) -> list[Any]:
    """The servers without what a deletion leaves as it was: the time of the last creation."""
    return [server | {"lastAssessment": None} for server in servers]


async def assert_counted(pools: Pools, *, seed: int, exact: bool = True) -> None:
    """Counters say what the assessments are, whatever is asked."""
    dice = random.Random(seed)
    for _ in range(150):
        filters = some_filters(dice)
        counted, gone_through = await answers(pools, filters)
        if not exact:
            for told in (counted, gone_through):
                told["topServers"] = without_last(told["topServers"])
        assert counted == gone_through, filters


async def test_counters_are_what_the_assessments_are(
    pools: Pools, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(settings.database_url, on_few_servers(), COUNT)
    await assert_counted(pools, seed=1)

    async with Installation(settings).database() as database:
        await database.execute(CHANGES)
    await assert_counted(pools, seed=2, exact=False)

    # As where too many names are like a pattern to be told one by one.
    monkeypatch.setattr(lists, "_MOST_NAMES", 1)
    await assert_counted(pools, seed=5, exact=False)


async def test_an_owner_has_his_own_statistics(pools: Pools, settings: Settings) -> None:
    await store(settings.database_url, on_few_servers(), COUNT)
    dice = random.Random(3)

    for _ in range(30):
        filters = some_filters(dice)
        counted, gone_through = await answers(pools, filters, "user-7")
        assert counted == gone_through, filters
        assert counted["total"] < COUNT / 10


async def test_what_was_stored_before_the_counters_were_is_counted(pools: Pools, settings: Settings) -> None:
    async with Installation(settings).database() as database:
        await database.execute(WITHOUT_THE_COUNTERS)
    await store(settings.database_url, on_few_servers(), COUNT)

    assert len(await migrate(settings.database_url)) == 1

    await assert_counted(pools, seed=4)


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kolkata"])
async def test_no_more_assessments_are_looked_at_than_thirty_days_have(
    pools: Pools, settings: Settings, timezone: str
) -> None:
    await store(settings.database_url, on_few_servers(), COUNT)
    dice = random.Random(6)

    async with pools.read.acquire() as connection:
        lately = await connection.fetchval(
            "SELECT count(*) FROM assessment_states WHERE created_at >= $1", NOW - timedelta(days=31)
        )
        for _ in range(60):
            filters = some_filters(dice) | {"timezone": timezone}
            explained: Any = Explained(connection)
            await statistics(explained, StatsQuery(**filters), None, now=NOW)

            assert sum(plan.assessments for plan in explained.plans) <= lately < COUNT / 2, filters
