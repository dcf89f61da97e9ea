"""Events off Kafka for somebody slower than Kafka: each partition in order, acknowledged when he has them.

A partition whose chunk is under way is paused: no more than a chunk of it is in memory, and the others go on. What was
handed over is committed; a crash, or a partition that goes to another worker, makes some be handed over again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from ..kafka import kafka_connection
from ..settings import Settings
from ..store.background import background
from ..telemetry import AUDIT_LAG

log = structlog.get_logger(__name__)

_POLL_MILLISECONDS = 500

# A chunk is committed as a whole: a crash repeats so many at the most of each partition.
_CHUNK = 500

# What a partition has fetched beyond its chunk is dropped when it is paused, and fetched again: not much more than one.
_FETCH_BYTES = 256 * 1024

_LAG_SECONDS = 5.0

# A member that leaves in good order hands its partitions over at once; one that cannot is missed soon enough.
_CLOSE_SECONDS = 5.0


class EventRecord(Protocol):
    """A Kafka record, as far as it is looked at."""

    partition: int
    offset: int
    value: bytes | None


Handle = Callable[[Sequence[EventRecord]], Awaitable[None]]
"""Hand over a chunk of one partition, in its order, and return when all of it is; it never gives up."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What of a partition is under way."""

    task: asyncio.Task[None]
    first: int
    """Its first offset: nothing from here on is acknowledged."""


class EventsConsumer:
    """A member of a consumer group of the events topic; a new group begins where the topic begins."""

    def __init__(self, settings: Settings, group: str, handle: Handle) -> None:
        self._settings = settings
        self._group = group
        self._handle = handle
        self._chunks: dict[TopicPartition, _Chunk] = {}
        self._lag_due = 0.0
        self._told = ""
        self._stopping = False
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Consume meanwhile; while Kafka is away it is tried again and again."""
        async with background(self._run):
            yield
            self._stopping = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._ended.wait()

    async def _run(self) -> None:
        consumer = self._new_consumer()
        try:
            await consumer.start()
            consumer.subscribe([self._settings.events_topic], listener=_Rebalance(self._let_go))
            while not self._stopping:
                await self._turn(consumer)
                self._told = ""
        except (KafkaError, OSError) as error:
            if self._told != repr(error):
                log.warning("events for the audit service wait for Kafka", why=repr(error))
            self._told = repr(error)
        finally:
            await self._let_go(list(self._chunks))
            await consumer.stop()
            if self._stopping:
                self._ended.set()

    def _new_consumer(self) -> AIOKafkaConsumer:
        timeout = self._settings.session_timeout
        return AIOKafkaConsumer(
            **kafka_connection(self._settings),
            group_id=self._group,
            client_id=self._group,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=_FETCH_BYTES,
            session_timeout_ms=int(timeout * 1000),
            heartbeat_interval_ms=int(timeout * 100),
        )

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        fetched = await consumer.getmany(timeout_ms=_POLL_MILLISECONDS, max_records=_CHUNK)
        for place, records in fetched.items():
            consumer.pause(place)
            handing = self._hand_over(consumer, place, records)
            self._chunks[place] = _Chunk(asyncio.create_task(handing), records[0].offset)
        for place, chunk in list(self._chunks.items()):
            if chunk.task.done():
                del self._chunks[place]
                chunk.task.result()
        if time.monotonic() >= self._lag_due:
            self._lag_due = time.monotonic() + _LAG_SECONDS
            await self._tell_lag(consumer)

    async def _hand_over(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, records: Sequence[EventRecord]
    ) -> None:
        await self._handle(records)
        try:
            await consumer.commit({place: records[-1].offset + 1})
            consumer.resume(place)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("a partition went to another worker, which hands its chunk over again", why=repr(error))

    async def _let_go(self, places: Collection[TopicPartition]) -> None:
        """End the chunks of partitions that go to somebody else."""
        ending = [self._chunks.pop(place).task for place in places if place in self._chunks]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        AUDIT_LAG.clear()

    async def _tell_lag(self, consumer: AIOKafkaConsumer) -> None:
        """How many records of the partitions that are ours are not acknowledged yet."""
        for place, end in (await consumer.end_offsets(consumer.assignment())).items():
            chunk = self._chunks.get(place)
            reached = chunk.first if chunk else await consumer.position(place)
            AUDIT_LAG.labels(str(place.partition)).set(max(0, end - reached))


class _Rebalance(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, let_go: Callable[[Collection[TopicPartition]], Awaitable[None]]) -> None:
        self._let_go = let_go

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._let_go(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Nothing to do: each goes on where it was committed."""
