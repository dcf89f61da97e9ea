"""The events topic, as a `read_committed` consumer sees it: the one clock that all contenders are measured by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from assessmentstore.settings import Settings

from .contenders import Running

# Counting must not take the CPU that is measured: a fetch waits until there is much, or for this long.
_COUNTING = {"fetch_min_bytes": 512 * 1024, "fetch_max_wait_ms": 20}

# Latency is measured one by one.
_LISTENING = {"fetch_min_bytes": 1, "fetch_max_wait_ms": 500}

_STUCK_SECONDS = 120.0
_POLL_SECONDS = 0.005

Arrivals = Callable[[list[bytes], float], None]
"""Told the values of events and when they arrived."""


class Events:
    """Counts what has arrived."""

    def __init__(self, consumer: AIOKafkaConsumer, arrived: Arrivals | None) -> None:
        self._consumer = consumer
        self._arrived = arrived
        self.count = 0
        self.latest = 0.0
        """When the latest arrived (`time.perf_counter`)."""

    async def wait_for(self, count: int, *running: Running) -> float:
        """Wait until there are so many, and tell when the last of them came.

        Raises:
            ContenderDiedError: one of those that work on it ended before.
            TimeoutError: nothing has come for a long time.
        """
        since = time.perf_counter()
        while self.count < count:
            for process in running:
                process.check()
            if time.perf_counter() - max(since, self.latest) > _STUCK_SECONDS:
                raise TimeoutError(f"only {self.count} of {count} events came:\n{running[0].log.read_text()[-4000:]}")
            await asyncio.sleep(_POLL_SECONDS)
        if self.count > count:
            raise AssertionError(f"{self.count} events came, where {count} commands were given")
        return self.latest

    async def read(self) -> None:
        """Read on and on."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=200)
            now = time.perf_counter()
            for records in fetched.values():
                self.count += len(records)
                self.latest = now
                if self._arrived is not None:
                    self._arrived([record.value for record in records], now)


@asynccontextmanager
async def reading(settings: Settings, arrived: Arrivals | None = None) -> AsyncIterator[Events]:
    """Read the events of an installation; with `arrived`, each as soon as it comes."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        **(_COUNTING if arrived is None else _LISTENING),
    )
    consumer.assign([TopicPartition(settings.events_topic, number) for number in range(settings.topic_partitions)])
    await consumer.start()
    events = Events(consumer, arrived)
    task = asyncio.create_task(events.read())
    try:
        yield events
    finally:
        task.cancel()
        await consumer.stop()


def command_id(value: bytes) -> str:
    """The command that an event tells of."""
    return str(orjson.loads(value)["commandId"])
