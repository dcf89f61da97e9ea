"""Retention on a real Postgres: chunk by chunk, past what is locked, and never before events are published."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from assessmentstore.settings import Settings
from assessmentstore.store import maintenance
from assessmentstore.store.batches import BatchRequests
from assessmentstore.store.maintenance import Maintenance
from assessmentstore.store.postgres import Pools, open_pools
from assessmentstore.store.queries import QUERIES

TOPIC = "assessment.commands"
COUNTS = "SELECT count(*) FROM assessment_states"


@pytest.fixture
async def pools(settings: Settings) -> AsyncIterator[Pools]:
    async with open_pools(settings, application="test") as opened:
        yield opened


@pytest.fixture
async def store(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> Maintenance:
    monkeypatch.setattr(maintenance, "CHUNK", 3)
    await BatchRequests(pools.write).begin("ann", "k", b"f", {"before": "", "deleted": 0})
    return Maintenance(pools.write, TOPIC)


async def fill(pools: Pools, count: int, *, published: int) -> None:
    """Completed assessments of ten days ago, one command each, whose events are published up to an offset."""
    await pools.read.execute(
        "INSERT INTO command_offsets (topic, partition, epoch, next_offset, emitted_offset, owner)"
        " VALUES ($1, 0, 1, $2, $3, 'test')",
        TOPIC,
        count,
        published,
    )
    await pools.read.execute(
        "INSERT INTO assessment_states (assessment_id, state, completed_at, request_data)"
        " SELECT 'a' || n, 'completed', NOW() - interval '10 days', '{}' FROM generate_series(0, $1::int - 1) AS n",
        count,
    )
    await pools.read.execute(
        "INSERT INTO assessment_audit_trail"
        " (assessment_id, action, new_state, new_version, command_id, command_partition, command_offset)"
        " SELECT 'a' || n, 'x', 'completed', 1, 'c' || n, 0, n FROM generate_series(0, $1::int - 1) AS n",
        count,
    )
    await pools.read.execute(
        "INSERT INTO assessment_metrics (assessment_id, metric_name, metric_value)"
        " SELECT assessment_id, 'x', 1 FROM assessment_states"
    )


async def chunks(store: Maintenance, before: datetime) -> list[int]:
    """Delete all there is, and tell how many each transaction took."""
    sizes = []
    while True:
        chunk = await store.delete_some("ann", "k", ended_before=before)
        sizes.append(len(chunk.deleted))
        if chunk.last:
            return sizes


async def test_each_transaction_takes_one_chunk(pools: Pools, store: Maintenance) -> None:
    await fill(pools, 8, published=8)

    assert await chunks(store, await store.retention_start(11)) == [0]
    assert await chunks(store, await store.retention_start(9)) == [3, 3, 2]

    for table in ("states", "audit_trail", "metrics"):
        assert await pools.read.fetchval(f"SELECT count(*) FROM assessment_{table}") == 0
    assert await pools.read.fetchval("SELECT string_agg(h::text, ' ') FROM history_offsets AS h") == "(0,8)"


async def test_what_somebody_works_on_is_passed_over_and_not_waited_for(pools: Pools, store: Maintenance) -> None:
    await fill(pools, 4, published=4)
    async with pools.read.acquire() as worker, worker.transaction():
        await worker.execute("UPDATE assessment_states SET version = 2 WHERE assessment_id = 'a1'")

        assert await chunks(store, await store.retention_start(9)) == [3, 0]

    assert await pools.read.fetchval(COUNTS) == 1


async def test_what_is_not_published_yet_stays(pools: Pools, store: Maintenance) -> None:
    await fill(pools, 4, published=2)
    before = await store.retention_start(9)

    assert await store.unpublished(ended_before=before)
    assert await chunks(store, before) == [2]
    await pools.read.execute("UPDATE command_offsets SET emitted_offset = 4")

    assert not await store.unpublished(ended_before=before)
    assert await chunks(store, before) == [2]


async def test_an_interrupted_cleanup_goes_on_counting(pools: Pools, store: Maintenance) -> None:
    await fill(pools, 5, published=5)
    before = await store.retention_start(9)

    first = await store.delete_some("ann", "k", ended_before=before)
    second = await store.delete_some("ann", "k", ended_before=before)
    await BatchRequests(pools.write).finish("ann", "k", b'{"deleted":5}', None)
    third = await store.delete_some("ann", "k", ended_before=before)

    assert [(chunk.total, chunk.last) for chunk in (first, second, third)] == [(3, False), (5, True), (5, True)]


async def test_keys_of_long_ago_are_free_again(pools: Pools, store: Maintenance) -> None:
    requests = BatchRequests(pools.write)
    for number in range(7):
        await requests.begin("ann", f"old-{number}", b"f", {})
    await pools.read.execute("UPDATE batch_requests SET created_at = NOW() - interval '31 days'")
    await requests.begin("ann", "new", b"f", {})

    await store.forget_requests()

    assert await pools.read.fetchval("SELECT string_agg(key, ' ') FROM batch_requests") == "new"


async def test_expired_ones_are_found_by_an_index(pools: Pools, store: Maintenance) -> None:
    """However many there are that stay: a chunk must not read them all."""
    await fill(pools, 3000, published=3000)
    await pools.read.execute("ANALYZE")
    async with pools.write.acquire() as connection:
        query = QUERIES["lock_expired"]
        await connection.execute(f"PREPARE expired (timestamptz, text, bigint) AS {query}")
        plan = await connection.fetch("EXPLAIN EXECUTE expired (NOW(), 'x', 500)")
        await connection.execute("DEALLOCATE expired")

    text = "\n".join(row[0] for row in plan)
    assert "idx_assessment_states_completed" in text
    assert "Sort" not in text
