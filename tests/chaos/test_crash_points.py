"""Workers die at each named point under load; nothing is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
import signal

import pytest
from tests.harness.judge import assert_exactly_once
from tests.harness.load import under_load
from tests.harness.worker import Cluster

from assessmentstore.agents.crash_points import CrashPoint

pytestmark = pytest.mark.timeout(900)

# How often a point is reached before it kills: the first batches of a worker, and one in full flow.
_COUNTS = {CrashPoint.DECODED: 5, CrashPoint.COMMITTED: 3, CrashPoint.SENT: 7, CrashPoint.PUBLISHED: 2}

# So many die side by side; with eight partitions each has one or two.
_AT_ONCE = 5

# Until all of them have started, and come so far.
_DEADLINE = 240.0


async def _die_at(cluster: Cluster, *points: CrashPoint, count: int = 0) -> None:
    """Start a worker for each point, and see each die there."""
    victims = [cluster.start(crash_point=f"{point}:{count or _COUNTS.get(point, 1)}") for point in points]
    endings = await asyncio.gather(*(victim.ended(deadline=_DEADLINE) for victim in victims))
    assert endings == [-signal.SIGKILL] * len(points), points


@pytest.mark.settings(topic_partitions=8)
async def test_a_crash_at_any_step_loses_nothing_and_doubles_nothing(cluster: Cluster) -> None:
    """Some at a time die beside a worker that goes on."""
    survivor, points = cluster.start(), list(CrashPoint)

    async with under_load(cluster.installation, seed=1, rate=300) as sender:
        for first in range(0, len(points), _AT_ONCE):
            await _die_at(cluster, *points[first : first + _AT_ONCE])
        await cluster.until_owned_by(survivor)

    await assert_exactly_once(cluster.installation, sent=sender.sent)
    assert survivor.returncode is None


async def test_a_crash_in_the_middle_of_what_a_crash_left_behind_is_made_good_too(cluster: Cluster) -> None:
    """The heir dies while it publishes the batch that the one before only committed, and its heir does so too."""
    async with under_load(cluster.installation, seed=4, rate=150) as sender:
        await _die_at(cluster, CrashPoint.COMMITTED, count=4)
        await _die_at(cluster, CrashPoint.SENT)
        await _die_at(cluster, CrashPoint.RESUMED)
        await cluster.until_owned_by(cluster.start())

    await assert_exactly_once(cluster.installation, sent=sender.sent)


@pytest.mark.soak
@pytest.mark.parametrize("point", CrashPoint)
async def test_a_crash_at_one_step_again_and_again(cluster: Cluster, point: CrashPoint) -> None:
    survivor = cluster.start()
    async with under_load(cluster.installation, seed=5, rate=300) as sender:
        for count in range(1, 9):
            await _die_at(cluster, point, count=count)
        await cluster.until_owned_by(survivor)

    await assert_exactly_once(cluster.installation, sent=sender.sent)
