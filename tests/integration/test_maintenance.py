"""Retention on a real Postgres: chunk by chunk, past what is locked, and never before events are published."""

from __future__ import annotations

from datetime import datetime

import pytest

from assessmentstore.store import maintenance
from assessmentstore.store.batches import BatchRequests
from assessmentstore.store.maintenance import Maintenance
from assessmentstore.store.postgres import Pools
from assessmentstore.store.queries import QUERIES

TOPIC = "assessment.commands"
COUNTS = "SELECT count(*) FROM assessment_states"


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


async def forget_all(store: Maintenance, days: int) -> int:
    """Forget all there is beside the assessments, and count the rounds."""
    before, rounds = await store.retention_start(days), 1
    while not await store.forget_some(before):
        rounds += 1
    return rounds


@pytest.mark.parametrize(("days", "kept"), [(0, "k new"), (30, "k new"), (32, "k new old-0 old-1 old-2 old-3 old-4")])
async def test_keys_of_long_ago_are_free_again(pools: Pools, store: Maintenance, days: int, kept: str) -> None:
    requests = BatchRequests(pools.write)
    for number in range(5):
        await requests.begin("ann", f"old-{number}", b"f", {})
    await pools.read.execute("UPDATE batch_requests SET created_at = NOW() - interval '31 days' WHERE key <> 'k'")
    await requests.begin("ann", "new", b"f", {})

    await forget_all(store, days)

    assert await pools.read.fetchval("SELECT string_agg(key, ' ' ORDER BY key) FROM batch_requests") == kept


async def test_refused_commands_go_with_the_retention_once_they_are_published(pools: Pools, store: Maintenance) -> None:
    await fill(pools, 1, published=8)
    await pools.read.execute(
        "INSERT INTO command_rejections (command_id, command_type, command_fingerprint, assessment_id, code, message,"
        " details, created_at, command_partition, command_offset)"
        " SELECT 'c' || n, 'assessment.start', 'f', 'a0', 'x', 'y', '{}',"
        " NOW() - CASE WHEN n IN (4, 5) THEN interval '1 second' ELSE interval '10 days' END, 0, n"
        " FROM generate_series(0, 9) AS n"
    )
    left = "SELECT string_agg(command_id, ' ' ORDER BY command_id) FROM command_rejections"

    assert await forget_all(store, 11) == 1
    assert await pools.read.fetchval("SELECT count(*) FROM command_rejections") == 10
    assert await forget_all(store, 9) == 3
    assert await pools.read.fetchval(left) == "c4 c5 c8 c9", "two are new, two are not published"
    await forget_all(store, 0)
    assert await pools.read.fetchval(left) == "c4 c5 c8 c9", "somebody may be waiting for the answer"


async def test_dead_letters_go_once_somebody_saw_to_them(pools: Pools, store: Maintenance) -> None:
    await fill(pools, 1, published=8)
    await pools.read.execute(
        "INSERT INTO dead_letters (command_partition, command_offset, header_names, header_values, reason, created_at)"
        " SELECT 0, n, '{}', '{}', 'x', NOW() - make_interval(days => 10 * (n % 2)) FROM generate_series(0, 9) AS n"
    )
    await pools.read.execute("UPDATE dead_letters SET redriven_at = NOW() WHERE command_offset IN (0, 1, 9)")
    await pools.read.execute("UPDATE dead_letters SET dropped_at = NOW() WHERE command_offset IN (2, 3)")

    await forget_all(store, 9)

    left = "SELECT string_agg(command_offset::text, ' ' ORDER BY command_offset) FROM dead_letters"
    assert await pools.read.fetchval(left) == "0 2 4 5 6 7 8 9", "two are new, one is not published, the rest are open"


async def test_words_that_no_document_has_any_more_are_forgotten(pools: Pools, store: Maintenance) -> None:
    await fill(pools, 4, published=4)
    await pools.read.execute(
        "INSERT INTO assessment_states (assessment_id, state, request_data) VALUES ('b', 'pending', '{}')"
    )
    await pools.read.execute(
        "INSERT INTO assessment_search (assessment_id, created_at, names, document)"
        " SELECT assessment_id, NOW(), '', CASE assessment_id WHEN 'b' THEN 'common:1A kept:1A' WHEN 'a1'"
        " THEN 'common:1A rare:1B web01:1C' ELSE 'common:1A' END::tsvector FROM assessment_states"
    )
    await pools.read.execute("INSERT INTO search_vocabulary VALUES ('common'), ('kept'), ('rare'), ('strange')")

    await chunks(store, await store.retention_start(9))

    words = await pools.read.fetchval("SELECT string_agg(word, ' ' ORDER BY word) FROM search_vocabulary")
    assert words == "common kept strange", "only words of what went are looked at"
    assert await pools.read.fetchval("SELECT string_agg(assessment_id, ' ') FROM assessment_names") == "b"


async def test_a_word_is_kept_that_only_an_old_document_has(
    pools: Pools, store: Maintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_NEWEST_DOCUMENTS", 1)
    await fill(pools, 1, published=1)
    await pools.read.execute(
        "INSERT INTO assessment_states (assessment_id, state, request_data)"
        " VALUES ('b', 'pending', '{}'), ('c', 'pending', '{}')"
    )
    await pools.read.execute(
        "INSERT INTO assessment_search (assessment_id, created_at, names, document) VALUES"
        " ('a0', NOW(), '', 'word:1A'), ('b', NOW() - interval '1 year', '', 'word:1A'), ('c', NOW(), '', 'other:1A')"
    )
    await pools.read.execute("INSERT INTO search_vocabulary VALUES ('word')")

    assert await chunks(store, await store.retention_start(9)) == [1]

    assert await pools.read.fetchval("SELECT word FROM search_vocabulary") == "word"


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
