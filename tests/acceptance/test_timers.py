"""Timers in real workers: one effect however many fire, none lost over a restart, and what came in between wins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.harness.judge import assert_exactly_once
from tests.harness.load import open_sender
from tests.harness.shared import Running, running
from tests.harness.waiting import eventually
from tests.harness.web import Web

from assessmentstore.agents.caught_up import Position
from assessmentstore.agents.timers import Timers
from assessmentstore.chaos.messages import command, request
from assessmentstore.chaos.topics import read_topic
from assessmentstore.kafka import idempotent_producer
from assessmentstore.settings import Settings
from assessmentstore.store.postgres import open_pools
from assessmentstore.store.timers import TimerStore

TIMED_OUT = "ASSESSMENT_TIMEOUT: no progress for 300 s"
HOUR = {"maxRetries": 1, "initialDelaySeconds": 3600}


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(services, template_database, tmp_path_factory.mktemp("timers"), pending_too_long=3600.0) as made:
        yield made


@pytest.fixture
def web(shared: Running) -> Web:
    return shared.web


async def rows(shared: Running, query: str, *arguments: Any) -> list[Any]:
    async with shared.installation.database() as database:
        return list(await database.fetch(query, *arguments))


async def let_leases_end(shared: Running, *ids: str) -> None:
    await rows(
        shared,
        "UPDATE assessment_states SET updated_at = NOW() - interval '301 seconds' WHERE assessment_id = ANY($1)",
        ids,
    )


async def let_retries_be_due(shared: Running, *ids: str) -> None:
    await rows(
        shared,
        "UPDATE assessment_states SET next_retry_at = NOW() WHERE state = 'failed' AND assessment_id = ANY($1)",
        ids,
    )


async def begin(web: Web, *ids: str, **members: Any) -> None:
    """Create assessments, and start them."""
    requests = [request(assessmentId=key, timeout=300, **members) for key in ids]
    answer = await web.ask("POST", "/assessments/batch", requests)
    assert answer.body["errors"] == []
    for key in ids:
        assert (await web.ask("POST", f"/assessments/{key}/start")).status == 200


async def until(web: Web, key: str, state: str) -> dict[str, Any]:
    async def probe() -> dict[str, Any]:
        body: dict[str, Any] = (await web.ask("GET", f"/assessments/{key}")).body
        return body if body["state"] == state else {}

    return await eventually(probe, f"{key} is {state}")


async def history(web: Web, key: str) -> list[tuple[str, str]]:
    found = (await web.ask("GET", f"/assessments/{key}/history")).body["history"]
    return [(item["action"], item["userId"]) for item in found]


async def commands_of_timers(shared: Running, key: str) -> list[str]:
    """The ids of those that were put on the topic."""
    settings = shared.installation.settings
    found = await read_topic(settings, settings.commands_topic, settings.topic_partitions)
    values = [record.event for records in found.values() for record in records]
    return [value["id"] for value in values if value["subject"] == key and value["id"].startswith("timer:")]


async def refused(shared: Running, key: str) -> list[str]:
    found = await rows(shared, "SELECT code FROM command_rejections WHERE assessment_id = $1", key)
    return [row["code"] for row in found]


async def test_without_progress_an_assessment_fails_with_a_reason_and_is_retried_as_its_policy_says(
    web: Web, shared: Running
) -> None:
    await begin(web, "life", retryPolicy=HOUR)
    await let_leases_end(shared, "life")

    failed = await until(web, "life", "failed")
    waited = await web.ask("GET", "/assessments/life/wait?timeout=1000")
    await let_retries_be_due(shared, "life")
    retried = await until(web, "life", "pending")
    await web.ask("POST", "/assessments/life/start")
    again = await web.ask("POST", "/assessments/life/fail", {"error": "it broke"})

    assert (failed["errorMessage"], failed["retryCount"]) == (TIMED_OUT, 0)
    assert failed["nextRetryAt"] > failed["completedAt"]
    assert waited.body["error"] == TIMED_OUT
    assert (retried["nextRetryAt"], retried["errorMessage"], retried["retryCount"]) == (None, None, 1)
    assert again.body["nextRetryAt"] is None
    assert await history(web, "life") == [
        ("created", "alice"),
        ("started", "alice"),
        ("failed", "system:timers"),
        ("retried", "system:timers"),
        ("started", "alice"),
        ("failed", "alice"),
    ]
    # The state of any time is the fold of the events up to it.
    third = await web.ask("GET", "/assessments/life?atVersion=3")
    assert third.body["nextRetryAt"] == failed["nextRetryAt"]


class Firing:
    """Timers of a worker that believes to have all partitions, and to have applied all that is there."""

    def __init__(self, settings: Settings, store: TimerStore) -> None:
        everything = Position(flow=1, applied=2**62, is_idle=True, end=0)
        positions = dict.fromkeys(range(settings.topic_partitions), everything)
        self.settings = settings
        self.timers = Timers(settings, store, lambda: positions)

    async def look(self) -> None:
        async with idempotent_producer(self.settings) as producer:
            await self.timers._look(producer)


async def test_a_timer_that_several_workers_fire_has_one_effect(web: Web, shared: Running) -> None:
    settings, ids = shared.installation.settings, [f"race-{number}" for number in range(5)]
    await begin(web, *ids, retryPolicy=HOUR)
    async with open_pools(settings, application="test") as pools:
        stores = [TimerStore(pools.read) for _ in range(3)]
        for let_end, state in ((let_leases_end, "failed"), (let_retries_be_due, "pending")):
            # Nothing is applied meanwhile, so that each finds all of them due, however late it looks.
            async with shared.cluster.workers[-1].frozen():
                await let_end(shared, *ids)
                await asyncio.gather(*(Firing(settings, store).look() for store in stores))
            for key in ids:
                await until(web, key, state)

    for key in ids:
        assert [action for action, _ in await history(web, key)] == ["created", "started", "failed", "retried"]
        assert await refused(shared, key) == []
    sent = [await commands_of_timers(shared, key) for key in ids]
    assert all(len(set(each)) == 2 for each in sent)
    assert sum(map(len, sent)) > 2 * len(ids), "nothing was fired twice: the test shows nothing"


async def test_what_came_between_a_look_and_its_command_wins(web: Web, shared: Running) -> None:
    """A progress renews the lease; a retry by hand is the only one; a cancelled assessment stays so."""
    settings = shared.installation.settings
    await begin(web, "renewed", "by-hand", "cancelled", retryPolicy=HOUR)
    await web.ask("POST", "/assessments/by-hand/fail", {"error": "it broke"})
    looked, go = asyncio.Event(), asyncio.Event()

    class Slow(TimerStore):
        """Somebody else's commands come after the look."""

        async def due(self, timer: Any, after: Any) -> Any:
            found = await super().due(timer, after)
            if found[0]:
                looked.set()
                await go.wait()
            return found

    # The worker's own timers are not to be first.
    async with shared.cluster.workers[-1].frozen(), open_pools(settings, application="test") as pools:
        firing = Firing(settings, Slow(pools.read))
        await let_leases_end(shared, "renewed", "cancelled")
        await let_retries_be_due(shared, "by-hand")
        look = asyncio.create_task(firing.look())
        await looked.wait()
        async with open_sender(shared.installation) as sender:
            await sender.send(
                command("r1", "progress", "renewed", {"progress": 5}),
                command("r2", "cancel", "cancelled"),
                command("r3", "retry", "by-hand"),
            )
        go.set()
        await look

    async def refusals() -> dict[str, list[str]]:
        found = {key: await refused(shared, key) for key in ("renewed", "cancelled", "by-hand")}
        return found if all(found.values()) else {}

    once = ["OPTIMISTIC_LOCK_FAILED"]
    assert await eventually(refusals, "the refusals") == {"renewed": once, "cancelled": once, "by-hand": once}
    assert (await until(web, "renewed", "processing"))["version"] == 3
    assert (await until(web, "cancelled", "cancelled"))["version"] == 3
    assert (await until(web, "by-hand", "pending"))["retryCount"] == 1


async def test_a_restart_loses_no_timer_and_fires_none_that_the_topic_has_overtaken(web: Web, shared: Running) -> None:
    lost, overtaken = [f"lost-{number}" for number in range(6)], [f"overtaken-{number}" for number in range(6)]
    await begin(web, *lost, *overtaken, retryPolicy=HOUR)
    for key in lost[:3]:
        await web.ask("POST", f"/assessments/{key}/fail", {"error": "it broke"})
    shared.cluster.workers[-1].kill9()
    await let_leases_end(shared, *lost, *overtaken)
    await let_retries_be_due(shared, *lost)
    async with open_sender(shared.installation) as sender:
        await sender.send(*(command(f"{key}-p", "progress", key, {"progress": 9}) for key in overtaken))

    await shared.cluster.until_owned_by(shared.cluster.start())

    for key in lost:
        await until(web, key, "pending" if key in lost[:3] else "failed")
    for key in overtaken:
        assert (await until(web, key, "processing"))["version"] == 3
        assert await commands_of_timers(shared, key) == []
        assert await refused(shared, key) == []


async def test_who_waits_too_long_is_told_once_in_the_log_and_counted(web: Web, shared: Running) -> None:
    await web.ask("POST", "/assessments", request(assessmentId="waiting"))
    await rows(
        shared,
        "UPDATE assessment_states SET created_at = NOW() - interval '2 hours', updated_at = NOW() - interval '2 hours'"
        " WHERE assessment_id = 'waiting'",
    )

    async def told() -> bool:
        log = shared.cluster.workers[-1].log.read_text()
        return "nobody takes up an assessment" in log

    await eventually(told, "the log line")

    async def counted() -> bool:
        text = str((await web.ask("GET", "/metrics")).body)
        return "assessmentstore_pending_too_long 1.0" in text

    await eventually(counted, "the gauge")

    async def healthy() -> Any:
        health = (await web.ask("GET", "/health")).body
        return health["services"]["queue"].get("pendingTooLong") == 1 and health["overall"] == "healthy"

    await eventually(healthy, "the health to tell it, and to be well")
    log = shared.cluster.workers[-1].log.read_text()
    assert log.count("nobody takes up an assessment") == 1


async def test_all_of_it_happened_exactly_once(shared: Running) -> None:
    await assert_exactly_once(shared.installation, overruled=["waiting"])
