"""Workers come and go: how long a partition is without a worker, and that nothing suffers from it."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.harness.judge import assert_exactly_once, slowest_events
from tests.harness.load import Sender, under_load
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster

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


async def test_a_graceful_stop_hands_over_within_three_seconds(cluster: Cluster) -> None:
    staying, handed_over = cluster.start(), list[float]()
    async with under_load(cluster.installation, seed=21, rate=100) as sender:
        while not handed_over or (min(handed_over) >= _GRACEFUL_SECONDS and len(handed_over) < _TRIES):
            leaving = cluster.start()
            await cluster.until_owned_by(leaving, staying)
            await _all_applied(cluster, sender, f"before-{len(handed_over)}")

            started = time.monotonic()
            leaving.terminate()
            await cluster.until_owned_by(staying)
            handed_over.append(time.monotonic() - started)
            await _all_applied(cluster, sender, f"after-{len(handed_over)}")

            assert await leaving.ended() == 0
            assert "cut off" not in leaving.tail()

    assert min(handed_over) < _GRACEFUL_SECONDS, handed_over
    await assert_exactly_once(cluster.installation, sent=sender.sent)


@pytest.mark.settings(session_timeout=_SESSION_SECONDS)
async def test_a_killed_worker_is_replaced_within_its_session_and_three_seconds(cluster: Cluster) -> None:
    heir, taken_over = cluster.start(), list[float]()
    async with under_load(cluster.installation, seed=22, rate=100) as sender:
        while not taken_over or (min(taken_over) >= _SESSION_SECONDS + 3 and len(taken_over) < _TRIES):
            victim = cluster.start()
            await cluster.until_owned_by(victim, heir)
            await _all_applied(cluster, sender, f"before-{len(taken_over)}")

            started = time.monotonic()
            victim.kill9()
            await cluster.until_owned_by(heir)
            taken_over.append(time.monotonic() - started)
            await _all_applied(cluster, sender, f"after-{len(taken_over)}")

    assert min(taken_over) < _SESSION_SECONDS + 3, taken_over
    await assert_exactly_once(cluster.installation, sent=sender.sent)


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
