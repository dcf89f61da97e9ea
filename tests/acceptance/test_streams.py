"""Streams of a web process while two workers apply traffic, and one of them is killed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from tests.harness.installation import Installation
from tests.harness.judge import settled
from tests.harness.load import under_load
from tests.harness.streams import Streams, serving_streams
from tests.harness.waiting import DEADLINE, eventually
from tests.harness.worker import Cluster

_BEFORE, _AFTER = 1500, 3000
"""Events until a worker is killed, and until the load ends."""

Seen = Counter[tuple[str, int]]


async def test_readers_that_reconnect_have_every_event_once_whatever_happens_to_the_workers(cluster: Cluster) -> None:
    installation = cluster.installation
    killed, other = cluster.start(), cluster.start()
    await cluster.until_owned_by(killed, other)
    async with serving_streams(installation.settings) as streams:
        async with streams.read() as start:
            await start.block()
        count: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        reading = asyncio.gather(*(_restless(streams, start.last_id, seed, count) for seed in range(3)))

        async with under_load(installation, seed=11, rate=400):
            await eventually(lambda: _stored(installation, _BEFORE), f"{_BEFORE} events")
            killed.kill9()
            await eventually(lambda: _stored(installation, _AFTER), f"{_AFTER} events")
        await settled(installation)
        expected = Counter(await _trail(installation))
        count.set_result(len(expected))
        told = await asyncio.wait_for(reading, DEADLINE)

    assert len(expected) >= _AFTER
    for seen in told:
        assert seen == expected, f"missing {expected - seen}, twice {seen - expected}"


async def _restless(streams: Streams, last_id: str | None, seed: int, count: asyncio.Future[int]) -> Seen:
    """Read, and come back at random places, until there are so many events."""
    chance = random.Random(seed)
    seen: Seen = Counter()
    versions: Counter[str] = Counter()
    while not (count.done() and seen.total() >= count.result()):
        async with streams.read(last_id=last_id) as reader:
            await reader.block()
            try:
                async with asyncio.timeout(chance.uniform(0.05, 1.5)):
                    while True:
                        block = await reader.event()
                        assert block is not None
                        assert block.event != "reset"
                        key, version = block.place
                        assert version == versions[key] + 1, "each assessment in the order of its versions"
                        versions[key] = version
                        seen[block.place] += 1
            except TimeoutError:
                last_id = reader.last_id
    return seen


async def _trail(installation: Installation) -> list[tuple[str, int]]:
    async with installation.database() as database:
        rows = await database.fetch("SELECT assessment_id, new_version FROM assessment_audit_trail")
    return [(row["assessment_id"], row["new_version"]) for row in rows]


async def _stored(installation: Installation, count: int) -> bool:
    return len(await _trail(installation)) >= count
