"""Statistics of a span of time come from counters by the day, which Postgres keeps whoever changes an assessment."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from bench.fill import fill
from tests.harness.installation import Installation

from assessmentstore.models.filters import StatsQuery
from assessmentstore.settings import Settings
from assessmentstore.store.postgres import Pools
from assessmentstore.store.stats import statistics

COUNT = 1500
NOW = datetime.now(UTC)
ZONES = ["UTC", "Asia/Kolkata", "America/St_Johns"]

CHANGES = """
UPDATE assessment_states SET state = 'failed', completed_at = started_at + interval '70.5 s' WHERE state = 'processing';
UPDATE assessment_states SET state = 'pending', started_at = NULL, completed_at = NULL, retry_count = retry_count + 1
WHERE state = 'failed' AND priority < 4;
UPDATE assessment_states SET progress = 99 WHERE state = 'cancelled';
UPDATE assessment_states SET created_at = created_at - interval '40 days' WHERE priority = 7;
DELETE FROM assessment_search WHERE assessment_id < '2';
DELETE FROM assessment_audit_trail WHERE assessment_id < '2';
DELETE FROM assessment_states WHERE assessment_id < '2';
SELECT rebuild_totals();
"""


def some_span(dice: random.Random) -> dict[str, Any]:
    """A span of time that begins and ends anywhere, often at midnight, within one day, or nowhere."""
    moments = sorted(NOW - timedelta(days=dice.uniform(-2, 400)) for _ in range(2))
    if dice.random() < 0.3:
        moments[1] = moments[0] + timedelta(hours=dice.uniform(0, 30))
    if dice.random() < 0.4:
        moments = [moment.replace(hour=0, minute=0, second=0, microsecond=0) for moment in moments]
    ends = dict(zip(("created_after", "created_before"), moments, strict=True))
    span: dict[str, Any] = {name: ends[name] for name in dice.choice([ends, ["created_after"], ["created_before"]])}
    if dice.random() < 0.3:
        span["state"] = tuple(dice.sample(["completed", "failed", "cancelled"], 2))
    return span | {"timezone": dice.choice(ZONES)}


async def answers(pools: Pools, span: dict[str, Any]) -> list[Any]:
    """By counters; and by the assessments themselves, as a filter on the server is not counted."""
    found = []
    async with pools.read.acquire() as connection:
        for query in (StatsQuery(**span), StatsQuery(**span, server_name="*")):
            told = await statistics(connection, query, None, now=NOW)
            if query.state:  # counters know when a server was assessed last, whatever became of it
                told["topServers"] = [server | {"lastAssessment": None} for server in told["topServers"]]
            found.append(told)
    return found


async def test_counters_by_the_day_are_what_the_assessments_are(pools: Pools, settings: Settings) -> None:
    dice = random.Random(3)
    await fill(settings.database_url, COUNT)
    for changes in ("SELECT", CHANGES):
        async with Installation(settings).database() as database:
            await database.execute(changes)
        for _ in range(60):
            span = some_span(dice)
            counted, gone_through = await answers(pools, span)
            servers, expected = counted.pop("topServers"), gone_through.pop("topServers")
            assert counted == gone_through, span
            assert [server["assessmentCount"] for server in servers] == [
                server["assessmentCount"] for server in expected
            ], span
            if changes != CHANGES:  # a deletion leaves the time of a server's last creation as it was
                assert servers == expected, span


async def test_what_is_rolled_back_is_not_counted(pools: Pools, settings: Settings) -> None:
    await fill(settings.database_url, 50)
    async with Installation(settings).database() as database:
        before = await counted_by_state(database)
        transaction = database.transaction()
        await transaction.start()
        await database.execute("UPDATE assessment_states SET state = 'failed'")
        assert await counted_by_state(database) != before
        await transaction.rollback()

        assert await counted_by_state(database) == before


@pytest.mark.timeout(120)
async def test_no_writer_waits_for_the_counters_of_another(settings: Settings) -> None:
    await fill(settings.database_url, 60)
    async with Installation(settings).database() as one, Installation(settings).database() as other:
        await asyncio.gather(*(each.execute("SET lock_timeout = '30s'") for each in (one, other)))
        async with one.transaction():
            await change(one, "8")
            async with other.transaction():
                await change(other, "c")
                # Each goes on with what the other has counted, too: they would wait for each other for ever.
                await asyncio.gather(change(one, "4"), change(other, "f"))

        stored = await one.fetch("SELECT state, count(*)::int FROM assessment_states GROUP BY state")
        assert {name: count for name, count in (await counted_by_state(one)).items() if count} == dict(
            tuple(row) for row in stored
        )


async def change(database: asyncpg.Connection, first_letter: str) -> None:
    """Let assessments of the whole year fail, those whose ids begin with a letter from the one three before."""
    await database.execute(
        "UPDATE assessment_states SET state = 'failed' WHERE left(assessment_id, 1) BETWEEN $1 AND $2",
        chr(ord(first_letter) - 3) if first_letter > "9" else str(int(first_letter) - 3),
        first_letter,
    )


async def counted_by_state(database: asyncpg.Connection) -> dict[str, int]:
    row = await database.fetchrow(
        "SELECT sum(pending)::int AS pending, sum(processing)::int AS processing, sum(completed)::int AS completed,"
        " sum(failed)::int AS failed, sum(cancelled)::int AS cancelled FROM day_totals"
    )
    assert row is not None
    return dict(row)
