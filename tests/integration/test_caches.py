"""Redis, the memory layer and the RocksDB table: never an older version over a newer one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis
from tests.harness.waiting import DEADLINE

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.errors import UnavailableError
from assessmentstore.models.positions import Positions
from assessmentstore.settings import Settings
from assessmentstore.store import redis as redis_module
from assessmentstore.store.cache import DELETED, Lookup, MemoryCache, SharedCache
from assessmentstore.store.postgres import open_pools
from assessmentstore.store.reads import StateReader
from assessmentstore.store.redis import open_redis
from assessmentstore.store.routing import ReadRouter
from assessmentstore.store.table import StateTable

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with open_redis(settings) as client:
        yield client


@pytest.fixture
def cache(redis: Redis, settings: Settings) -> SharedCache:
    return SharedCache(redis, settings.topic_prefix)


def state(assessment_id: str = "a1", version: int = 1, **changes: object) -> AssessmentRecord:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    values = {"state": AssessmentState.PENDING, "created_at": now, "updated_at": now, "request_data": {}} | changes
    return AssessmentRecord.model_validate({"assessment_id": assessment_id, "version": version} | values)


def reflected(*states: AssessmentRecord) -> dict[str, tuple[int, bytes]]:
    return {item.assessment_id: (item.version, item.to_json()) for item in states}


async def test_a_fill_never_replaces_a_newer_version(cache: SharedCache) -> None:
    await cache.bulk_set([state(version=10)], b"")

    await cache.bulk_set([state(version=9), state("a2")], b"")

    found = await cache.bulk_get(["a1", "a2", "a3"])
    assert {key: item.version for key, item in found.items()} == {"a1": 10, "a2": 1}


async def test_what_was_filled_while_redis_had_no_position_is_forgotten_with_the_first_one(cache: SharedCache) -> None:
    """Nobody knows what was applied meanwhile: a worker that takes Redis for away does not tell it."""
    await cache.bulk_set([state(), state("a2")], await cache.generation())

    assert await cache.reflect(0, start=4, end=7, states=reflected(state("a2", version=2))) == 7

    found = await cache.bulk_get(["a1", "a2"])
    assert {key: item.version for key, item in found.items()} == {"a2": 2}


async def test_a_fill_that_was_read_before_redis_forgot_everything_comes_too_late(cache: SharedCache) -> None:
    await cache.reflect(0, start=0, end=5, states={})
    before = await cache.generation()
    await cache.forget_all()
    await cache.reflect(0, start=6, end=6, states={})

    await cache.bulk_set([state()], before)
    late = await cache.get("a1")
    await cache.bulk_set([state()], late.generation)

    assert (late.state, (await cache.get("a1")).state) == (None, state())


async def test_a_read_that_redis_forgets_in_the_middle_of_fills_nothing_in(
    settings: Settings, cache: SharedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis loses its memory after it was asked, and before Postgres has answered; it is asked once."""
    async with open_pools(settings, application="test") as pools:
        await pools.write.execute(
            "INSERT INTO assessment_states (assessment_id, state, request_data) VALUES ('a1', 'pending', '{}')"
        )
        router, asked = ReadRouter(pools.read, settings.commands_topic), list[bytes]()
        reader, read, get = StateReader(router, cache), router.read, cache.get

        async def count(*arguments: Any) -> Lookup:
            found = await get(*arguments)
            asked.append(found.generation)
            return found

        async def forget_and_read(*arguments: Any, **named: Any) -> Any:
            found = await read(*arguments, **named)
            await cache.forget_all()
            return found

        monkeypatch.setattr(cache, "get", count)
        with monkeypatch.context() as patched:
            patched.setattr(router, "read", forget_and_read)
            first = await reader.get("a1")
        late = await get("a1")
        second = await reader.get("a1")

    assert (first and first.version, late.state, second and second.version) == (1, None, 1)
    assert len(asked) == 2
    assert (await get("a1")).state == second


async def test_redis_is_passed_over_while_it_seldom_has_what_is_asked_for(
    settings: Settings, cache: SharedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked in time again, as others fill it; what the primary tells meanwhile is filled in."""
    async with open_pools(settings, application="test") as pools:
        await pools.write.execute(
            "INSERT INTO assessment_states (assessment_id, state, request_data)"
            " SELECT 'a' || number, 'pending', '{}' FROM generate_series(1, 200) AS number"
        )
        router, asked = ReadRouter(pools.read, settings.commands_topic), list[str]()
        reader, get = StateReader(router, cache), cache.get

        async def note(assessment_id: str, *arguments: Any) -> Lookup:
            asked.append(assessment_id)
            return await get(assessment_id, *arguments)

        monkeypatch.setattr(cache, "get", note)
        for number in range(1, 201):
            assert await reader.get(f"a{number}")
        await reader.settle()
        seldom = asked[-5:]
        asked.clear()
        for _ in range(300):
            assert await reader.get("a200")

    assert [int(last[1:]) - int(first[1:]) for first, last in pairwise(seldom)] == [16] * 4
    assert asked[-50:] == ["a200"] * 50
    assert len(asked) > 200


async def test_redis_has_what_the_primary_does_not_answer_however_seldom_it_is_asked(
    settings: Settings, cache: SharedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_pools(settings, application="test") as pools:
        router = ReadRouter(pools.read, settings.commands_topic)
        reader = StateReader(router, cache)
        for number in range(100):
            assert await reader.get(f"missing-{number}") is None
        await cache.bulk_set([state(version=3)], await cache.generation())

        async def away(*_: Any, **__: Any) -> None:
            raise UnavailableError("Postgres is away")

        monkeypatch.setattr(router, "read", away)
        found = [await reader.get("a1") for _ in range(20)]
        with pytest.raises(UnavailableError):
            await reader.get("a1", min_version=4)

    assert {item and item.version for item in found} == {3}


async def test_what_is_invalidated_is_gone(cache: SharedCache) -> None:
    await cache.bulk_set([state()], b"")

    await cache.invalidate(["a1", "never there"])

    assert (await cache.get("a1")).state is None


async def test_entries_of_one_installation_are_not_seen_by_another(cache: SharedCache, redis: Redis) -> None:
    await cache.bulk_set([state()], b"")

    assert (await SharedCache(redis, "another.").get("a1")).state is None


async def test_a_batch_moves_the_position_with_the_states(cache: SharedCache) -> None:
    assert await cache.reflect(0, start=0, end=5, states=reflected(state(version=3))) == 5
    assert await cache.reflect(0, start=5, end=8, states=reflected(state(version=4))) == 8

    found = (await cache.get("a1")).state
    assert found is not None
    assert found.version == 4


async def test_a_batch_after_a_missed_one_is_not_taken_and_the_gap_is_told(cache: SharedCache) -> None:
    await cache.reflect(0, start=0, end=5, states={})

    position = await cache.reflect(0, start=7, end=9, states=reflected(state()))

    assert position == 5
    assert (await cache.get("a1")).state is None


async def test_what_was_read_before_a_batch_was_not_taken_is_not_filled_in_after_it(cache: SharedCache) -> None:
    """The batch takes out what it changed, and would leave room for what a slow reader has in hand."""
    await cache.reflect(0, start=0, end=5, states=reflected(state()))
    read_under = (await cache.get("a1")).generation

    await cache.reflect(0, start=7, end=9, states=reflected(state(version=2)))
    await cache.bulk_set([state()], read_under)

    assert (await cache.get("a1")).state is None


async def test_positions_of_partitions_are_apart(cache: SharedCache) -> None:
    await cache.reflect(0, start=0, end=5, states={})

    assert await cache.reflect(1, start=0, end=2, states={}) == 2


async def test_redis_answers_a_reader_only_where_it_reflects_enough(cache: SharedCache) -> None:
    await cache.reflect(1, start=0, end=2, states={})
    await cache.reflect(0, start=0, end=5, states=reflected(state()))

    assert (await cache.get("a1", Positions({0: 5, 1: 1}))).state == state()
    assert (await cache.get("a1", Positions({}))).state == state()
    assert (await cache.get("a1", Positions({0: 6}))).state is None
    assert (await cache.get("a1", Positions({0: 5, 1: 3}))).state is None
    assert (await cache.get("a1", Positions({0: 5, 2: 1}))).state is None


async def test_messages_reach_whoever_listens(cache: SharedCache) -> None:
    heard: list[tuple[str, bytes]] = []

    async def listen() -> None:
        async for message in cache.messages("changes", "replies:me"):
            heard.append(message)
            if len(heard) == 1:
                await cache.reflect(
                    0, start=0, end=1, states={}, messages=[("replies:me", b"1"), ("replies:you", b"2")]
                )
            if len(heard) >= 3:
                return

    await asyncio.wait_for(listen(), DEADLINE)

    assert [message for message in heard if message[1]] == [("replies:me", b"1")]


async def test_a_redis_that_is_away_costs_one_time_out_and_then_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "_BREAKER_SECONDS", 3600.0)
    away = settings.model_copy(update={"redis_url": NOBODY_LISTENS})
    async with open_redis(away) as client:
        cache = SharedCache(client, "")
        with pytest.raises(UnavailableError, match="does not answer"):
            await cache.get("a1")

        with pytest.raises(UnavailableError, match="a moment ago"):
            await cache.get("a1")


async def test_reads_go_to_postgres_while_redis_is_away(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": NOBODY_LISTENS})
    async with open_pools(settings, application="test") as pools, open_redis(away) as client:
        await pools.write.execute(
            "INSERT INTO assessment_states (assessment_id, state, request_data) VALUES ('a1', 'pending', '{}')"
        )

        found = await StateReader(ReadRouter(pools.read, ""), SharedCache(client, "")).get("a1")

    assert found is not None
    assert found.assessment_id == "a1"


async def test_a_cached_version_that_is_too_old_is_read_from_postgres(settings: Settings, cache: SharedCache) -> None:
    async with open_pools(settings, application="test") as pools:
        await pools.write.execute(
            "INSERT INTO assessment_states (assessment_id, state, version, request_data)"
            " VALUES ('a1', 'pending', 4, '{}')"
        )
        await cache.bulk_set([state(version=3)], b"")
        reader = StateReader(ReadRouter(pools.read, settings.commands_topic), cache)

        cached, fresh = await reader.get("a1"), await reader.get("a1", min_version=4)

        await reader.settle()
        filled = (await cache.get("a1")).state
    assert (cached and cached.version, fresh and fresh.version, filled and filled.version) == (3, 4, 4)


@pytest.mark.parametrize("forget", [SharedCache.evict, SharedCache.invalidate])
async def test_what_was_read_before_it_was_forgotten_is_not_filled_in_after_it(
    cache: SharedCache, forget: Callable[[SharedCache, list[str]], Awaitable[None]]
) -> None:
    read_under = (await cache.get("a1")).generation

    await forget(cache, ["a1"])
    await cache.bulk_set([state(version=3)], read_under)

    assert (await cache.get("a1")).state is None


def test_memory_keeps_only_what_never_changes_again() -> None:
    memory = MemoryCache()

    for kind in AssessmentState:
        memory.set(state(kind, state=kind))

    assert {kind for kind in AssessmentState if memory.get(kind)} == {"completed", "cancelled"}


def test_a_table_comes_back_with_its_position(tmp_path: Path) -> None:
    table = StateTable(tmp_path / "t")
    assert table.position is None
    table.apply({"a1": state(version=2).to_json(), "ä": state("ä").to_json()}, position=7)
    table.close()

    again = StateTable(tmp_path / "t")

    assert again.position == 7
    assert again.get("a1") == state(version=2)
    assert again.bulk_get(["a1", "ä", "a3"]) == {"a1": state(version=2), "ä": state("ä")}
    again.close()


def test_a_cleared_table_is_empty(tmp_path: Path) -> None:
    table = StateTable(tmp_path / "t")
    table.apply({"a1": state().to_json()}, position=7)

    table.clear()

    assert (table.position, table.get("a1"), table.bulk_get(["a1"])) == (None, None, {})
    table.close()


async def test_what_is_new_replaces_what_is_left_of_a_deleted_one(cache: SharedCache) -> None:
    await cache.reflect(0, start=0, end=5, states=reflected(state(version=7), state("a2", version=7)))

    changed = reflected(state("a2", version=2), state(version=1), state("a3"))
    await cache.reflect(0, start=5, end=9, states=changed, created=["a1", "a3"])

    found = await cache.bulk_get(["a1", "a2", "a3"])
    assert {key: item.version for key, item in found.items()} == {"a1": 1, "a2": 7, "a3": 1}


async def test_a_generation_that_is_spoilt_gives_way(cache: SharedCache, redis: Redis, settings: Settings) -> None:
    """Else every fill would fail, and open the breaker."""
    await redis.rpush(f"{settings.topic_prefix}generation", "x")
    read_under = (await cache.get("a1")).generation

    await cache.bulk_set([state()], read_under)

    assert await cache.generation() == b""
    await cache.bulk_set([state()], b"")
    assert (await cache.get("a1")).state == state()


@pytest.mark.parametrize("spoilt", ["junk", "of another", "no hash", "no version"])
async def test_an_entry_that_is_spoilt_is_none_and_gives_way(
    cache: SharedCache, redis: Redis, settings: Settings, spoilt: str
) -> None:
    await cache.reflect(0, start=0, end=5, states=reflected(state(), state("a2")))
    key = f"{settings.topic_prefix}assessment:a1"
    if spoilt == "no hash":
        await redis.delete(key)
        await redis.set(key, "x")
    elif spoilt == "no version":
        await redis.hset(key, mapping={"v": "x", "d": b"{"})
    else:
        await redis.hset(key, "d", b"\xff" if spoilt == "junk" else state("a9").to_json())

    assert (await cache.get("a1")).state is None
    assert (await cache.bulk_get(["a1", "a2"])).keys() == {"a2"}
    assert (await cache.entries(["a1", "a2", "a3"])).keys() == {"a1", "a2"}
    await cache.reflect(0, start=5, end=6, states=reflected(state(version=2)))
    assert (await cache.get("a1")).state == state(version=2)


@pytest.mark.parametrize("kind", ["string", "list"])
async def test_a_position_that_is_none_is_forgotten_with_all_that_may_be_old(
    cache: SharedCache, redis: Redis, settings: Settings, kind: str
) -> None:
    await cache.reflect(0, start=0, end=5, states=reflected(state()))
    key = f"{settings.topic_prefix}position:0"
    await redis.delete(key)
    await (redis.set(key, "x") if kind == "string" else redis.rpush(key, "x"))

    assert await cache.positions([0]) == {}
    assert (await cache.get("a1", Positions({0: 5}))).state is None
    assert await cache.reflect(0, start=5, end=9, states=reflected(state("a2"))) == 9

    assert await cache.positions([0]) == {0: 9}
    assert (await cache.bulk_get(["a1", "a2"])).keys() == {"a2"}


async def test_an_eviction_is_told_to_everybody(cache: SharedCache) -> None:
    await cache.bulk_set([state(), state("a2")], b"")
    heard: list[bytes] = []

    async def listen() -> None:
        async for _, message in cache.messages(DELETED):
            if message:
                heard.append(message)
                return
            await cache.evict(["a1", "ä"])

    await asyncio.wait_for(listen(), DEADLINE)

    assert [orjson.loads(message) for message in heard] == [["a1", "ä"]]
    assert (await cache.bulk_get(["a1", "a2"])).keys() == {"a2"}


def test_what_a_table_has_under_a_wrong_name_or_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    """A worker that took it for a state would fail again and again: it is its own table."""
    table = StateTable(tmp_path / "t")

    table.apply({"a1": state("a9").to_json(), "a2": b"\xff", "a3": state("a3").to_json()}, position=7)

    assert table.bulk_get(["a1", "a2", "a3"]).keys() == {"a3"}
    assert [table.get(key) for key in ("a1", "a2")] == [None, None]
    table.close()


def test_what_is_evicted_from_a_table_is_gone_from_disk_and_memory(tmp_path: Path) -> None:
    table = StateTable(tmp_path / "t")
    states = {key: state(key) for key in ("a1", "ä", "a3")}
    table.apply({key: record.to_json() for key, record in states.items()}, position=7, records=states)

    table.evict(["a1", "ä", "never there"])

    assert table.bulk_get(["a1", "ä", "a3"]) == {"a3": states["a3"]}
    assert (table.get("ä"), table.position) == (None, 7)
    table.close()


def test_a_table_keeps_the_hash_of_the_last_audit_row_beside_a_state(tmp_path: Path) -> None:
    """Those that a worker from before there were hashes wrote have none."""
    table = StateTable(tmp_path / "table")
    states = {key: state(key) for key in ("a1", "a2", "a3")}
    values = {key: record.to_json() for key, record in states.items()}
    heads = {"a1": bytes(range(32)), "a2": bytes(32)}

    table.apply(values, position=7, records={"a1": states["a1"]}, heads=heads)

    assert table.heads(["a1", "a2", "a3", "unknown"]) == heads
    assert table.bulk_get(states) == states
    table.close()
    again = StateTable(tmp_path / "table")
    assert (again.heads(states), again.bulk_get(states)) == (heads, states)
    again.apply({"a1": values["a1"]}, position=8)
    assert again.heads(states) == {"a2": heads["a2"]}
    again.close()
