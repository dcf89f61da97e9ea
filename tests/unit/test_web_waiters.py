"""Waiting for thousands at once, over fakes of Redis and Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY
from tests.harness.waiting import DEADLINE

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.errors import StaleError, UnavailableError
from assessmentstore.models.positions import Positions
from assessmentstore.web import waiters as waiters_module
from assessmentstore.web.auth import AUTHENTICATOR, Authenticator, Role, mint_token
from assessmentstore.web.errors import MIDDLEWARES
from assessmentstore.web.reads import SOURCE
from assessmentstore.web.waiters import WAITING, Waiters, wait

SECRET = "a-secret-that-is-long-enough-for-hs256"
NOW = datetime.now(UTC)


def state(assessment_id: str, kind: AssessmentState, version: int) -> AssessmentRecord:
    return AssessmentRecord(
        assessment_id=assessment_id, state=kind, version=version, created_at=NOW, updated_at=NOW, request_data={}
    )


def news(*states: AssessmentRecord) -> bytes:
    return orjson.dumps([[item.assessment_id, item.version, item.state] for item in states])


def waiting_now() -> float:
    return REGISTRY.get_sample_value("assessmentstore_waiters") or 0.0


class FakeStates:
    """What Postgres and Redis hold, each away at will."""

    def __init__(self) -> None:
        self.truth: dict[str, AssessmentRecord] = {}
        self.cache: dict[str, AssessmentRecord] = {}
        self.truth_is_away = False
        self.cache_is_away = False
        self.asked: list[int] = []
        self.was_asked = asyncio.Event()

    async def final_states(self, assessment_ids: Collection[str]) -> list[AssessmentRecord]:
        self.asked.append(len(assessment_ids))
        self.was_asked.set()
        if self.truth_is_away:
            raise UnavailableError("Postgres does not answer")
        return [self.truth[key] for key in assessment_ids if key in self.truth and self.truth[key].is_final]

    async def bulk_get(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        if self.cache_is_away:
            raise UnavailableError("Redis does not answer")
        return {key: self.cache[key] for key in assessment_ids if key in self.cache}


@asynccontextmanager
async def running(states: FakeStates) -> AsyncIterator[Waiters]:
    waiters = Waiters(states, states)
    tasks = [asyncio.create_task(waiters.wake()), asyncio.create_task(waiters.poll())]
    try:
        yield waiters
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_asked(states: FakeStates, times: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while len(states.asked) < times:
            await states.was_asked.wait()
            states.was_asked.clear()


@pytest.fixture
def no_slow_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters_module, "_SLOW_POLL", 3600)


@pytest.mark.parametrize("kind", [AssessmentState.COMPLETED, AssessmentState.FAILED, AssessmentState.CANCELLED])
async def test_news_of_an_end_wake_whoever_waits_for_it(no_slow_polls: None, kind: AssessmentState) -> None:
    states = FakeStates()
    async with running(states) as waiters:
        waiters.subscribed()
        with waiters.expect("a") as first, waiters.expect("a") as second, waiters.expect("b") as other:
            states.cache["a"] = state("a", kind, 3)
            waiters.changed(news(states.cache["a"]))

            async with asyncio.timeout(DEADLINE):
                assert await first == await second == states.cache["a"]
            assert not other.done()


async def test_news_that_arrive_before_redis_was_refreshed_lead_to_postgres(no_slow_polls: None) -> None:
    states = FakeStates()
    states.cache["a"] = state("a", AssessmentState.PROCESSING, 2)
    async with running(states) as waiters:
        waiters.subscribed()
        with waiters.expect("a") as ended:
            await until_asked(states, 1)
            states.truth["a"] = state("a", AssessmentState.COMPLETED, 3)
            waiters.changed(news(states.truth["a"]))

            async with asyncio.timeout(DEADLINE):
                assert await ended == states.truth["a"]


async def test_what_failed_and_was_retried_before_the_look_has_not_ended(no_slow_polls: None) -> None:
    states = FakeStates()
    states.cache["a"] = state("a", AssessmentState.PENDING, 4)
    async with running(states) as waiters:
        waiters.subscribed()
        with waiters.expect("a") as ended, waiters.expect("b") as marker:
            waiters.changed(news(state("a", AssessmentState.FAILED, 3)))
            states.cache["b"] = state("b", AssessmentState.COMPLETED, 3)
            waiters.changed(news(states.cache["b"]))

            async with asyncio.timeout(DEADLINE):
                await marker
            assert not ended.done()

            states.cache["a"] = state("a", AssessmentState.CANCELLED, 5)
            waiters.changed(news(states.cache["a"]))
            async with asyncio.timeout(DEADLINE):
                assert (await ended).version == 5


async def test_without_redis_a_poll_finds_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters_module, "_FAST_POLL", 0.001)
    states = FakeStates()
    states.cache_is_away = True
    async with running(states) as waiters:
        with waiters.expect("a") as ended:
            await until_asked(states, 3)
            assert not ended.done()

            states.truth["a"] = state("a", AssessmentState.FAILED, 3)
            async with asyncio.timeout(DEADLINE):
                assert await ended == states.truth["a"]


async def test_a_wait_outlasts_postgres_being_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters_module, "_FAST_POLL", 0.001)
    states = FakeStates()
    states.truth["a"] = state("a", AssessmentState.COMPLETED, 3)
    states.truth_is_away = True
    async with running(states) as waiters:
        with waiters.expect("a") as ended:
            await until_asked(states, 5)
            assert not ended.done()

            states.truth_is_away = False
            async with asyncio.timeout(DEADLINE):
                assert await ended == states.truth["a"]


async def test_a_new_subscription_looks_at_what_was_missed(no_slow_polls: None) -> None:
    states = FakeStates()
    async with running(states) as waiters:
        waiters.subscribed()
        with waiters.expect("a") as ended:
            await until_asked(states, 1)
            states.truth["a"] = state("a", AssessmentState.COMPLETED, 3)

            waiters.subscribed()

            async with asyncio.timeout(DEADLINE):
                assert await ended == states.truth["a"]


async def test_thousands_are_looked_up_in_a_handful_of_queries(no_slow_polls: None) -> None:
    states = FakeStates()
    ids = [f"a-{number}" for number in range(5000)]
    states.truth = {key: state(key, AssessmentState.COMPLETED, 3) for key in ids}
    async with running(states) as waiters, AsyncExitStack() as stack:
        futures = [stack.enter_context(waiters.expect(key)) for key in ids]

        waiters.subscribed()

        async with asyncio.timeout(DEADLINE):
            assert len(await asyncio.gather(*futures)) == 5000
    assert states.asked == [1000] * 5


async def test_whoever_gives_up_leaves_nothing_behind() -> None:
    waiters = Waiters(FakeStates(), FakeStates())
    before = waiting_now()

    async def wait() -> None:
        with waiters.expect("a") as ended:
            await ended

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert waiting_now() == before + 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert waiting_now() == before
    assert waiters._waiting == {}


async def test_a_stop_ends_every_wait_and_lets_nobody_in() -> None:
    waiters = Waiters(FakeStates(), FakeStates())
    with waiters.expect("a") as ended:
        waiters.stop()

        with pytest.raises(UnavailableError, match="stopping"):
            await ended
    with pytest.raises(UnavailableError, match="stopping"), waiters.expect("b"):
        pass


async def test_a_wait_that_is_over_looks_a_last_time() -> None:
    source = AsyncMock()
    source.get.side_effect = [
        state("a", AssessmentState.PROCESSING, 2),
        state("a", AssessmentState.COMPLETED, 3),
    ]
    app = web.Application(middlewares=MIDDLEWARES)
    app[SOURCE], app[AUTHENTICATOR], app[WAITING] = source, Authenticator(SECRET), Waiters(FakeStates(), FakeStates())
    app.router.add_get("/assessments/{id}/wait", wait)
    headers = {"Authorization": f"Bearer {mint_token(SECRET, 'ann', [Role.ADMIN], timedelta(hours=1))}"}

    async with TestClient(TestServer(app), headers=headers) as client:
        answer = await client.get("/assessments/a/wait?timeout=0")

        assert (answer.status, (await answer.json())["status"]) == (200, "completed")


async def test_a_wait_with_a_token_is_told_no_end_from_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is that of a retry: Postgres still has the failure of the attempt before."""
    monkeypatch.setattr(waiters_module, "_FAST_POLL", 0.001)
    source, states = AsyncMock(), FakeStates()
    source.get.side_effect = [StaleError({0: 1}), StaleError({0: 1}), state("a", AssessmentState.COMPLETED, 6)]
    states.truth["a"] = state("a", AssessmentState.FAILED, 3)
    app = web.Application(middlewares=MIDDLEWARES)
    headers = {
        "Authorization": f"Bearer {mint_token(SECRET, 'ann', [Role.ADMIN], timedelta(hours=1))}",
        "Consistency-Token": Positions.after(0, 4).encode(),
    }
    async with running(states) as waiters:
        app[SOURCE], app[AUTHENTICATOR], app[WAITING] = source, Authenticator(SECRET), waiters
        app.router.add_get("/assessments/{id}/wait", wait)

        async with TestClient(TestServer(app), headers=headers) as client:
            answer = await client.get("/assessments/a/wait?timeout=60000")

            assert (answer.status, (await answer.json())["status"]) == (200, "completed")


async def test_a_wait_that_never_saw_what_its_token_asks_for_is_told_the_lag() -> None:
    source = AsyncMock()
    source.get.side_effect = StaleError({3: 5})
    app = web.Application(middlewares=MIDDLEWARES)
    app[SOURCE], app[AUTHENTICATOR], app[WAITING] = source, Authenticator(SECRET), Waiters(FakeStates(), FakeStates())
    app.router.add_get("/assessments/{id}/wait", wait)
    headers = {
        "Authorization": f"Bearer {mint_token(SECRET, 'ann', [Role.ADMIN], timedelta(hours=1))}",
        "Consistency-Token": Positions.after(3, 4).encode(),
    }

    async with TestClient(TestServer(app), headers=headers) as client:
        answer = await client.get("/assessments/a/wait?timeout=0")

        assert answer.status == 503
        assert (await answer.json())["error"]["details"] == {"lag": {"3": 5}}
