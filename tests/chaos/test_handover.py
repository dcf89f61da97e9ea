"""Workers come and go: how long a partition is without a worker, and that nothing suffers from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from tests.harness.judge import assert_exactly_once, slowest_events
from tests.harness.load import Sender, under_load
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster, Worker

from assessmentstore.chaos.messages import create
from assessmentstore.chaos.topics import read_topic

pytestmark = pytest.mark.timeout(900)

# The promises; the machine's own share of it is measured in a test that asserts them.
_GRACEFUL_SECONDS = 3.0
_SESSION_SECONDS = 10.0

# Two hand-overs may meet in one event: a worker that joins while another starts its lanes.
_LATE_SECONDS = 2 * _GRACEFUL_SECONDS

# A promise that the product breaks is broken each time; the machine, which stands still now and then, has three tries.
_TRIES = 3


async def _all_applied(cluster: Cluster, sender: Sender, label: str) -> None:
    """Commands sent now, on every partition, are applied and published."""
    settings = cluster.installation.settings
    messages = [create(f"{label}-{number}", f"{label}-{number}") for number in range(24)]
    places = await sender.send(*messages)
    assert {partition for partition, _ in places} == set(range(settings.topic_partitions))

    async def probe() -> bool:
        events = await read_topic(settings, settings.events_topic, settings.topic_partitions)
        keys = {record.key for records in events.values() for record in records}
        return all(message.key in keys for message in messages)

    await eventually(probe, f"the events of {label}")


async def _replaced_within(promise: float, cluster: Cluster, seed: int, end: Callable[[Worker], None]) -> list[Worker]:
    """End one of two workers under load until the other has its partitions in so many seconds; tell who ended."""
    heir, ended, took = cluster.start(), list[Worker](), list[float]()
    async with under_load(cluster.installation, seed=seed, rate=100) as sender:
        while not took or (min(took) >= promise and len(took) < _TRIES):
            victim = cluster.start()
            await cluster.until_owned_by(victim, heir)
            await _all_applied(cluster, sender, f"before-{len(took)}")

            started = time.monotonic()
            end(victim)
            await cluster.until_owned_by(heir)
            took.append(time.monotonic() - started)
            ended.append(victim)
            await _all_applied(cluster, sender, f"after-{len(took)}")

    assert min(took) < promise, took
    await assert_exactly_once(cluster.installation, sent=sender.sent)
    return ended


async def test_a_graceful_stop_hands_over_within_three_seconds(cluster: Cluster) -> None:
    for leaving in await _replaced_within(_GRACEFUL_SECONDS, cluster, 21, Worker.terminate):
        assert await leaving.ended() == 0
        assert "cut off" not in leaving.tail()


@pytest.mark.settings(session_timeout=_SESSION_SECONDS)
async def test_a_killed_worker_is_replaced_within_its_session_and_three_seconds(cluster: Cluster) -> None:
    await _replaced_within(_SESSION_SECONDS + 3, cluster, 22, Worker.kill9)


async def test_a_third_worker_that_joins_and_leaves_again_and_again_does_no_harm(cluster: Cluster) -> None:
    stable = cluster.start(), cluster.start()
    await cluster.until_owned_by(*stable)

    began: list[float] = []
    async with under_load(cluster.installation, seed=23, rate=200) as sender:
        for _ in range(_TRIES):
            began.append(time.time())
            third = cluster.start()
            await cluster.until_owned_by(*stable, third)
            third.terminate()
            await cluster.until_owned_by(*stable)
            assert await third.ended() == 0
        await _all_applied(cluster, sender, "last")

    await assert_exactly_once(cluster.installation, sent=sender.sent)
    slowest = await slowest_events(cluster.installation, began)
    assert all(slowest), "there were commands all the time"
    assert sorted(slowest)[_TRIES // 2] < _LATE_SECONDS, slowest
    assert [worker.returncode for worker in stable] == [None, None]


async def test_two_workers_that_start_at_once_share_the_partitions(cluster: Cluster) -> None:
    workers = cluster.start(), cluster.start()

    await cluster.until_owned_by(*workers)
    await asyncio.gather(*(worker.until_ready() for worker in workers))

    async def shared() -> bool:
        owners = await cluster.owners()
        return sorted(pid for pid, _ in owners.values()) == sorted(2 * [worker.pid for worker in workers])

    await eventually(shared, "two partitions with each")
