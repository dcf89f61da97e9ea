"""How fast a lost Postgres comes back from Kafka, and lost topics from Postgres; and how fast positions are skipped.

python -m bench.replay --commands 200000
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from assessmentstore.agents.topics import create_topics, specifications
from assessmentstore.output import measured
from assessmentstore.recovery.replay import replay_live, replay_to_kafka
from assessmentstore.settings import Settings

from .contenders import WORKER, running
from .events import reading
from .installation import fresh_installation, running_services
from .workload import commands, produce

_SKIPPED = 2_000_000

T = TypeVar("T")


async def _measure(count: int) -> None:
    async with running_services() as (settings, _), fresh_installation(settings, "replay") as own:
        await _load(own, count)
        await _drop_database(settings, own)
        seconds = await _timed(lambda: _replay(own))
        print(f"Postgres from Kafka: {count:,} events in {seconds:.1f} s, {count / seconds:,.0f}/s")
        await _delete_topics(own)
        seconds = await _timed(lambda: _to_kafka(own))
        print(f"Kafka from Postgres: {count:,} events in {seconds:.1f} s, {count / seconds:,.0f}/s")
        await _pretend_to_be_further(own)
        seconds = await _timed(lambda: _to_kafka(own))
        skipped = _SKIPPED * own.topic_partitions
        print(f"positions skipped: {skipped:,} offsets in {seconds:.1f} s, {skipped / seconds:,.0f}/s")


async def _load(settings: Settings, count: int) -> None:
    """Let a worker apply commands, all of which are accepted."""
    async with reading(settings) as events, running(WORKER, settings) as worker:
        await produce(settings, commands(count, name="replay"))
        await events.wait_for(count, worker)
    await _until_left(settings)


async def _until_left(settings: Settings) -> None:
    """Wait until the worker is no member of the group any more."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        while any(  # noqa: ASYNC110 - nobody tells
            group["members"]
            for answer in await admin.describe_consumer_groups([settings.app_id])
            for group in answer.to_object()["groups"]
        ):
            await asyncio.sleep(0.2)
    finally:
        await admin.close()


async def _replay(settings: Settings) -> None:
    with measured("rebuilding Postgres", "records") as progress:
        await replay_live(settings, progress)


async def _to_kafka(settings: Settings) -> None:
    await create_topics(settings)
    with measured("filling the topics", "commands") as progress:
        await replay_to_kafka(settings, progress)


async def _timed(work: Callable[[], Awaitable[T]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def _drop_database(settings: Settings, own: Settings) -> None:
    name = urlsplit(own.database_url).path.lstrip("/")
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()


async def _delete_topics(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    names = [topic.name for topic in specifications(settings)]
    await admin.delete_topics(names)
    while set(names) & set(await admin.list_topics()):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.2)
    await admin.close()


async def _pretend_to_be_further(settings: Settings) -> None:
    """Let the topics of the commands be behind by a lot, with nothing to publish."""
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute("UPDATE command_offsets SET next_offset = next_offset + $1", _SKIPPED)
    await connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__)
    parser.add_argument("--commands", type=int, default=200_000, help="default: %(default)s")
    sys.exit(asyncio.run(_measure(parser.parse_args().commands)))
