"""Read whole topics, without a group."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from ..kafka import kafka_connection
from ..settings import Settings

Place = tuple[int, int]
"""Partition and offset."""

# On a machine that is busy with other things.
_READ_SECONDS = 60.0


@dataclass(frozen=True)
class TopicRecord:
    """A record as a consumer sees it."""

    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970, by the clock of the producer."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def event(self) -> Any:
        """The value as JSON."""
        return json.loads(self.value or b"")

    def header(self, name: str) -> str | None:
        """The last header of this name, as text."""
        values = [value for header, value in self.headers if header == name]
        return values[-1].decode() if values and values[-1] is not None else None


async def end_offsets(settings: Settings, topic: str, partitions: int) -> dict[int, int]:
    """Where each partition of a topic ends."""
    async with _consumer(settings) as consumer:
        tps = [TopicPartition(topic, partition) for partition in range(partitions)]
        ends = await consumer.end_offsets(tps)
    return {tp.partition: end for tp, end in ends.items()}


async def read_topic(settings: Settings, topic: str, partitions: int) -> dict[int, list[TopicRecord]]:
    """All committed records of each partition, in order."""
    tps = [TopicPartition(topic, partition) for partition in range(partitions)]
    found: dict[int, list[TopicRecord]] = {partition: [] for partition in range(partitions)}
    async with _consumer(settings) as consumer, asyncio.timeout(_READ_SECONDS):
        # Before anything is fetched: a broker answers it behind the fetch, which half a second long waits for records.
        ends = await consumer.end_offsets(tps)
        written = [tp for tp in tps if ends[tp]]
        consumer.assign(written)
        while [tp for tp in written if await consumer.position(tp) < ends[tp]]:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found[tp.partition] += [
                    TopicRecord(tp.partition, item.offset, item.timestamp, item.key, item.value, tuple(item.headers))
                    for item in records
                ]
    return found


async def emitted_watermarks(settings: Settings) -> dict[int, int]:
    """The emitted watermark of each partition that has one; none while the coordinator is not there yet."""
    return await committed_offsets(settings, settings.emitted_group, settings.commands_topic)


async def committed_offsets(settings: Settings, group: str, topic: str) -> dict[int, int]:
    """What a group has committed of each partition of a topic; nothing while the coordinator is not there yet."""
    admin = AIOKafkaAdminClient(**kafka_connection(settings))
    try:
        await admin.start()
        found = await admin.list_consumer_group_offsets(group)
    except KafkaError:
        return {}
    finally:
        await admin.close()
    return {tp.partition: item.offset for tp, item in found.items() if tp.topic == topic}


def _consumer(settings: Settings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **kafka_connection(settings),
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        retry_backoff_ms=20,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
