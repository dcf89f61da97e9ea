"""Whoever has seen an event reads its state, or a later one (docs/adr/0003)."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from tests.harness.load import open_sender
from tests.harness.waiting import DEADLINE
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import Message, command, create
from assessmentstore.models.events import event_from_json
from assessmentstore.settings import Settings
from assessmentstore.store.cache import SharedCache
from assessmentstore.store.redis import open_redis

_ASSESSMENTS = 40
_COMMANDS = 10


async def _stale_reads(cluster: Cluster, sabotage: str) -> int:
    """How often Redis had an older version, or none, when its event was there."""
    settings = cluster.installation.settings
    await cluster.until_owned_by(cluster.start(sabotage=sabotage))
    reading = asyncio.create_task(_read_on_each_event(settings, _ASSESSMENTS * _COMMANDS))
    async with open_sender(cluster.installation) as sender:
        for number in range(_COMMANDS):
            await sender.send(*(_message(f"a-{assessment}", number) for assessment in range(_ASSESSMENTS)))
    return await asyncio.wait_for(reading, DEADLINE)


def _message(assessment: str, number: int) -> Message:
    if number == 0:
        return create(f"{assessment}-0", assessment)
    if number == 1:
        return command(f"{assessment}-1", "start", assessment)
    return command(f"{assessment}-{number}", "progress", assessment, {"progress": number})


async def _read_on_each_event(settings: Settings, events: int) -> int:
    stale = 0
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, isolation_level="read_committed")
    async with consumer, open_redis(settings) as redis:
        cache = SharedCache(redis, settings.topic_prefix)
        partitions = [TopicPartition(settings.events_topic, number) for number in range(settings.topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        for _ in range(events):
            event = event_from_json((await consumer.getone()).value)
            state, _ = await cache.get(event.assessment_id)
            stale += state is None or state.version < event.version
    return stale


async def test_nobody_who_has_seen_an_event_reads_an_older_state(cluster: Cluster) -> None:
    assert await _stale_reads(cluster, "-") == 0


async def test_with_the_other_order_somebody_does(cluster: Cluster) -> None:
    assert await _stale_reads(cluster, "publish-before-refresh") > 0
