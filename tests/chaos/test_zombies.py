"""Workers that are frozen past their session and wake up again: they write nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from tests.harness.installation import Installation
from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import under_load
from tests.harness.worker import Cluster

from assessmentstore.agents.crash_points import CrashPoint
from assessmentstore.chaos.topics import end_offsets

pytestmark = pytest.mark.timeout(900)

# Before the fence, behind it, after the commit, and with a Kafka transaction open.
_STEPS = ("decoded:3", "written:2", "committed:3", "sent:2")

# Five processes that start, or meet, at once, beside the load.
_DEADLINE = 240.0


async def _written(installation: Installation) -> dict[str, Any]:
    """All that there is to write to, except who owns what."""
    settings = installation.settings
    async with installation.database() as database:
        tables = {
            table: await database.fetch(f"SELECT * FROM {table} ORDER BY 1")
            for table in (
                "assessment_states",
                "assessment_audit_trail",
                "assessment_metrics",
                "command_rejections",
                "dead_letters",
            )
        }
        positions = await database.fetch("SELECT partition, next_offset FROM command_offsets ORDER BY partition")
    topics = {
        topic: await end_offsets(settings, topic, partitions)
        for topic, partitions in (
            (settings.events_topic, settings.topic_partitions),
            (settings.rejections_topic, settings.topic_partitions),
            (settings.dead_letters_topic, 1),
        )
    }
    return {"positions": positions, **tables, **topics}


async def _freeze_and_wake(cluster: Cluster, seed: int, steps: Sequence[str]) -> None:
    """Freeze a worker at each step beside one that goes on, wake them in the quiet, and look for what they wrote."""
    heir = cluster.start()
    async with under_load(cluster.installation, seed=seed, rate=200) as sender:
        zombies = [cluster.start(crash_point=step, sabotage="freeze") for step in steps]
        await asyncio.gather(*(zombie.until_frozen(deadline=_DEADLINE) for zombie in zombies))
        await cluster.until_owned_by(heir, deadline=_DEADLINE)
    await settled(cluster.installation)
    before = await _written(cluster.installation)

    for zombie in zombies:
        zombie.thaw()
    await cluster.until_owned_by(*zombies, heir, deadline=_DEADLINE)

    assert await _written(cluster.installation) == before
    await assert_exactly_once(cluster.installation, sent=sender.sent)
    assert all(worker.returncode is None for worker in cluster.workers)


@pytest.mark.settings(topic_partitions=8)
async def test_a_worker_frozen_in_the_middle_of_a_batch_writes_nothing_when_it_wakes(cluster: Cluster) -> None:
    await _freeze_and_wake(cluster, 2, _STEPS)


@pytest.mark.soak
@pytest.mark.settings(topic_partitions=8)
@pytest.mark.parametrize("seed", range(40, 45))
async def test_workers_frozen_at_any_step_write_nothing_when_they_wake(cluster: Cluster, seed: int) -> None:
    chance = random.Random(seed)
    points = [point for point in CrashPoint if point not in (CrashPoint.CLAIMED, CrashPoint.RESUMED)]
    await _freeze_and_wake(cluster, seed, [f"{chance.choice(points)}:{chance.randint(1, 9)}" for _ in range(5)])
