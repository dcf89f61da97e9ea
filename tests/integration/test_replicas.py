"""Reads on a real streaming replica that is paused, resumed, frozen, killed and promoted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from tests.harness.replica import Replica, open_replica
from tests.harness.waiting import DEADLINE, eventually

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.errors import StaleError, UnavailableError
from assessmentstore.models.positions import Positions
from assessmentstore.settings import Settings
from assessmentstore.store import replicas as replicas_module
from assessmentstore.store import routing
from assessmentstore.store.cache import SharedCache
from assessmentstore.store.postgres import Connection, open_pools, open_read_pool
from assessmentstore.store.reads import StateReader
from assessmentstore.store.redis import open_redis
from assessmentstore.store.replicas import Replicas, open_replicas
from assessmentstore.store.routing import ReadRouter

_TOPIC = "commands"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas_module, "_PROBE_SECONDS", 0.2)
    monkeypatch.setattr(replicas_module, "_MOST_LAG_SECONDS", 60.0)
    monkeypatch.setattr(routing, "_WAIT_SECONDS", 0.3)


@pytest.fixture
def short_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds behind is too far."""
    monkeypatch.setattr(replicas_module, "_MOST_LAG_SECONDS", 2.0)


class Reads:
    """A router under watch, and the primary to write to."""

    def __init__(self, router: ReadRouter, replicas: Replicas, primary: asyncpg.Pool) -> None:
        self.router, self.replicas, self.primary = router, replicas, primary

    async def apply(self, next_offset: int) -> Positions:
        """Do as a worker that has applied so much of partition 0."""
        await self.primary.execute(
            "INSERT INTO command_offsets (topic, partition, epoch, next_offset, owner) VALUES ($1, 0, 1, $2, 'test')"
            " ON CONFLICT (topic, partition) DO UPDATE SET next_offset = $2",
            _TOPIC,
            next_offset,
        )
        return Positions.after(0, next_offset - 1)

    async def forget_the_log(self) -> None:
        """Let the primary throw away all of its log that nobody waits for."""
        for _ in range(2):
            await self.primary.execute("SELECT pg_switch_wal()")
            await self.primary.execute("CHECKPOINT")

    async def offset(self, positions: Positions | None = None) -> tuple[int, bool]:
        """What a reader sees, and whether the primary showed it."""

        async def work(connection: Connection) -> int:
            return await connection.fetchval("SELECT next_offset FROM command_offsets WHERE topic = $1", _TOPIC) or 0

        return await self.router.read(work, positions)

    async def until(self, *healthy: bool) -> None:
        """Wait for a verdict on each replica."""

        async def judged() -> bool:
            return [told["healthy"] for told in self.replicas.health()] == list(healthy)

        await eventually(judged, f"the replicas to be {healthy}")

    async def until_seen(self, next_offset: int, positions: Positions | None = None) -> None:
        """Wait until a replica shows so much; on a busy machine it is left alone now and then, and comes back."""

        async def seen() -> bool:
            return await self.offset(positions) == (next_offset, False)

        await eventually(seen, f"{next_offset} on the replica", tolerate=(UnavailableError,))

    async def until_connected(self, *, to_replica: bool) -> None:
        """Wait until a reader without a token is connected to the one or the other."""

        async def connected() -> bool:
            async with self.router.connection() as connection:
                return await connection.fetchval("SELECT pg_is_in_recovery()") is to_replica

        await eventually(connected, "the connection")


@asynccontextmanager
async def reading(settings: Settings, *urls: str) -> AsyncIterator[Reads]:
    """Reads of a database and of these replicas."""
    chosen = settings.model_copy(update={"database_replica_urls": ",".join(urls)})
    async with AsyncExitStack() as stack:
        pools = await stack.enter_async_context(open_pools(chosen, application="test"))
        replicas = await stack.enter_async_context(open_replicas(chosen, pools.read, application="test"))
        watch = asyncio.create_task(replicas.watch())
        try:
            yield Reads(ReadRouter(pools.read, _TOPIC, replicas), replicas, pools.write)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


def count(reason: str) -> float:
    return REGISTRY.get_sample_value("assessmentstore_read_fallbacks_total", {"reason": reason}) or 0.0


async def test_a_reader_with_a_token_is_never_shown_less_however_far_the_replica_is_behind(
    settings: Settings, replica: Replica
) -> None:
    async with reading(settings, replica.url(settings.database_url)) as reads:
        token = await reads.apply(1)
        await reads.until(True)
        await reads.until_seen(1)
        await reads.until_seen(1, token)  # a replica that is fresh enough answers

        await replica.pause()
        token = await reads.apply(2)

        await reads.until_seen(1)  # without a token the reader misses it
        assert await reads.offset(token) == (2, True)
        async with reads.router.connection(token) as connection:
            assert await connection.fetchval("SELECT pg_is_in_recovery()") is False
        await reads.until_connected(to_replica=True)

        await replica.resume()
        await reads.until_seen(2)
        await reads.until_seen(2, token)


async def test_a_replica_that_falls_behind_is_left_and_comes_back(
    settings: Settings, replica: Replica, short_lag: None
) -> None:
    async with reading(settings, replica.url(settings.database_url)) as reads:
        await reads.apply(1)
        await reads.until(True)
        await reads.until_seen(1)
        await replica.pause()
        await reads.apply(2)

        await reads.until(False)
        assert await reads.offset() == (2, True)
        (told,) = reads.replicas.health()
        assert 2.0 <= told["lagSeconds"] < 60
        assert (REGISTRY.get_sample_value("assessmentstore_replica_lag_seconds", {"replica": "0"}) or 0) >= 2.0

        await replica.resume()
        await reads.until(True)
        await reads.until_seen(2)


async def test_an_idle_primary_makes_no_replica_old(settings: Settings, replica: Replica) -> None:
    """Paused or not, a replica that has all there is to have is as fresh as the primary."""
    async with reading(settings, replica.url(settings.database_url)) as reads:
        await reads.apply(1)
        await reads.until(True)
        await reads.until_seen(1)
        lags = []

        async def three_seconds_later() -> bool:
            lags.append(reads.replicas.health()[0]["lagSeconds"])
            return time.monotonic() - started > 3

        started = time.monotonic()
        await eventually(three_seconds_later, "three seconds to pass")

        assert min(lags[-10:]) < 2.0


@pytest.mark.parametrize("end", ["kill", "freeze"])
async def test_reads_go_on_when_a_replica_is_lost(settings: Settings, replica: Replica, end: str) -> None:
    async with reading(settings, replica.url(settings.database_url)) as reads:
        await reads.apply(1)
        await reads.until(True)
        await reads.until_seen(1)
        if end == "kill":
            with pytest.raises(UnavailableError, match="in the middle"):
                await _read_while(reads.router, replica.kill())
        else:
            replica.freeze()

        failed = count("failed")
        async with asyncio.timeout(DEADLINE):
            for _ in range(20):
                await reads.offset()

        assert count("failed") - failed <= 1, "one read finds out, and the others leave it alone"
        await reads.until(False)
        await reads.apply(2)
        await reads.forget_the_log()

        if end == "kill":
            await replica.start()
        else:
            replica.thaw()
        await reads.until(True)
        await reads.until_seen(2)


async def test_reads_outlast_the_primary(
    settings: Settings, replica: Replica, short_lag: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is away the replica has all that anybody can know; only what it lacks cannot be had."""
    monkeypatch.setattr(replicas_module, "_SILENCE_SECONDS", 0.5)
    async with reading(settings, replica.url(settings.database_url)) as reads:
        token = await reads.apply(1)
        await reads.until(True)
        await reads.until_seen(1)
        away = settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/none"})
        async with open_read_pool(away, away.database_url, "test") as nobody:
            reads.router.primary = nobody
            reads.replicas._primary = nobody
            started = time.monotonic()

            async def much_later() -> bool:
                return time.monotonic() - started > 3

            await eventually(much_later, "the primary to be away for longer than the most lag")

            await reads.until_seen(1)
            await reads.until_seen(1, token)
            with pytest.raises(UnavailableError):
                await reads.offset(Positions.after(0, 1))


async def test_a_query_in_the_way_of_replay_is_asked_of_the_primary(settings: Settings, replica: Replica) -> None:
    await replica.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
    await replica.execute("SELECT pg_reload_conf()")
    async with reading(settings, replica.url(settings.database_url)) as reads:
        await reads.apply(1)
        await reads.until(True)
        await reads.until_seen(1)
        begun, failed = asyncio.Event(), count("failed")

        async def work(connection: Connection) -> bool:
            is_replica = await connection.fetchval("SELECT pg_is_in_recovery()")
            begun.set()
            if is_replica:
                await connection.execute("SELECT pg_sleep(90), next_offset FROM command_offsets")
            return bool(is_replica)

        asking = asyncio.create_task(reads.router.read(work, patience=90))
        await begun.wait()

        async def answered() -> bool:
            await reads.primary.execute("UPDATE command_offsets SET owner = owner || '.'")
            await reads.primary.execute("VACUUM command_offsets")
            return asking.done()

        await eventually(answered, "the query to be in the way")

        assert await asking == (False, True)
        assert count("failed") == failed + 1
        await reads.until(True)  # that was no fault of the replica


async def test_an_answer_that_will_not_do_is_asked_of_the_primary(settings: Settings, replica: Replica) -> None:
    async with reading(settings, replica.url(settings.database_url)) as reads:
        await reads.until(True)
        await replica.pause()
        await reads.apply(1)

        async def work(connection: Connection) -> Any:
            return await connection.fetchval("SELECT next_offset FROM command_offsets WHERE topic = $1", _TOPIC)

        async def missed() -> bool:
            return await reads.router.read(work) == (None, False)

        await eventually(missed, "what the replica does not know")
        assert await reads.router.read(work, enough=lambda found: found is not None) == (1, True)


async def test_what_nobody_has_applied_is_waited_for_and_then_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(settings) as reads:
        await reads.apply(3)
        wanted = Positions({0: 5, 1: 1, 2**31 - 1: 2**63 - 1})

        with pytest.raises(StaleError) as late:
            await reads.offset(wanted)
        assert late.value.lag == {0: 2, 1: 1, 2**31 - 1: 2**63 - 1}

        monkeypatch.setattr(routing, "_WAIT_SECONDS", DEADLINE)
        soon = asyncio.create_task(reads.offset(Positions({0: 5})))
        await asyncio.sleep(0)
        await reads.apply(5)
        assert await soon == (5, True)


def record(version: int) -> AssessmentRecord:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return AssessmentRecord(
        assessment_id="a1",
        state=AssessmentState.PENDING,
        version=version,
        created_at=now,
        updated_at=now,
        request_data={},
    )


async def test_a_state_comes_from_the_first_layer_that_is_fresh_enough(settings: Settings, replica: Replica) -> None:
    async with reading(settings, replica.url(settings.database_url)) as reads, open_redis(settings) as redis:
        cache = SharedCache(redis, settings.topic_prefix)
        reader = StateReader(reads.router, cache)

        async def version(positions: Positions | None = None, *, min_version: int = 0) -> int | None:
            state = await reader.get("a1", min_version=min_version, positions=positions)
            return None if state is None else state.version

        await reads.until(True)
        await replica.pause()
        await reads.primary.execute(
            "INSERT INTO assessment_states (assessment_id, state, version, request_data)"
            " VALUES ('a1', 'pending', 1, '{}')"
        )
        assert await version() == 1, "what a replica does not know is asked of the primary"
        await cache.invalidate(["a1"])
        await replica.resume()
        await reads.apply(1)
        await reads.until_seen(1)
        await replica.pause()
        await reads.primary.execute("UPDATE assessment_states SET version = 2")
        second = await reads.apply(2)

        async def of_the_replica() -> bool:
            await reader.settle()
            await cache.invalidate(["a1"])
            return await version() == 1

        await eventually(of_the_replica, "the state that the replica has")
        await reader.settle()
        assert (await cache.get("a1")).state is None, "what a replica has, and may be old, fills nothing"
        assert await version(min_version=2) == 2
        await cache.invalidate(["a1"])
        assert await version(second) == 2
        await cache.invalidate(["a1"])
        await cache.reflect(0, start=1, end=2, states={"a1": (5, record(5).to_json())})
        assert await version(second) == 5, "Redis is asked first, and is fresh enough"
        third = await reads.apply(3)
        assert await version(third) == 2, "Redis does not reflect the third command yet"


async def test_of_several_replicas_one_that_is_fresh_enough_answers(settings: Settings, replica: Replica) -> None:
    async with open_replica(settings.database_url) as other:
        urls = [each.url(settings.database_url) for each in (replica, other)]
        async with reading(settings, *urls) as reads:
            await reads.apply(1)
            await reads.until(True, True)
            await reads.until_seen(1)
            await replica.pause()
            token = await reads.apply(2)

            async def seen() -> bool:
                return {await reads.offset() for _ in urls} == {(1, False), (2, False)}

            await eventually(seen, "each replica to take its turn")

            assert {(await reads.offset(token))[0] for _ in range(4)} == {2}
            await reads.until_seen(2, token)
            await other.kill()
            assert [await reads.offset(token) for _ in range(2)] == [(2, True)] * 2
            await reads.until_seen(1)


async def test_a_promoted_replica_a_foreign_one_and_the_primary_itself_are_refused(
    settings: Settings, replica: Replica
) -> None:
    other_database = settings.database_url.rpartition("/")[0] + "/postgres"
    urls = (
        replica.url(settings.database_url), replica.url(other_database), settings.database_url,
    )  # fmt: skip
    async with reading(settings, *urls) as reads:
        await reads.apply(1)
        await reads.until(True, False, False)

        await replica.promote()

        await reads.until(False, False, False)
        token = await reads.apply(2)
        assert await reads.offset() == (2, True)
        assert await reads.offset(token) == (2, True)


async def _read_while(router: ReadRouter, something: Awaitable[None]) -> None:
    async with router.connection() as connection:
        await something
        await connection.fetchval("SELECT 1")
