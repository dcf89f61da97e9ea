"""The yardsticks: Kafka, a fold, batched Postgres and a transactional producer, with as little as can be.

They trust every byte: no validation, no fence, no duplicates, no resuming after a crash, no table, no Redis, no
metrics; states stand in a dict. They write the same rows and the same events.

    python -m bench.bare          contender (b): one loop that fetches, folds, commits and publishes in turn
    python -m bench.bare lanes    the same work with all partitions side by side, as the worker has them: how far off
                                  the worker is from what its own way of working could give without its guards

The settings come from the environment.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from assessmentstore.settings import Settings
from assessmentstore.store.queries import QUERIES

from .fold import State, change, event, headers

_BATCHES_WAITING = 2
_SEND_BATCH_BYTES = 512 * 1024
_RETRY_BACKOFF_MILLISECONDS = 10


class Batch:
    """The rows and events of one batch, gathered command after command."""

    def __init__(self, states: dict[str, State], now: datetime) -> None:
        self._states = states
        self._now = now
        self._stamp = now.isoformat()
        self.created: dict[str, tuple[Any, ...]] = {}
        self.updated: dict[str, tuple[Any, ...]] = {}
        self.audit: list[tuple[Any, ...]] = []
        self.events: list[tuple[bytes, bytes, list[tuple[str, bytes]]]] = []

    def add(self, message: Any) -> None:
        """Apply a command."""
        command = orjson.loads(message.value)
        key = command["subject"]
        before = self._states.get(key)
        after, extra = change(before, command, self._now)
        self._states[key] = after
        self._write_state(key, before, after, extra)
        self._tell(message, command, event(command, before, after, extra, self._stamp))

    def _write_state(self, key: str, before: State | None, after: State, extra: dict[str, Any]) -> None:
        version, state, progress, message, created, started = after
        ended = self._now if state == "completed" else None
        result = orjson.dumps(extra["result"]).decode() if "result" in extra else None
        if before is None or key in self.created:
            request, metadata = self._request(key, extra)
            head = (key, state, version, progress, message, created, self._now, started, ended)
            self.created[key] = (*head, request, result, None, 0, None, metadata)
        else:
            first = self.updated.get(key)
            expected = first[1] if first else before[0]
            place = (key, expected, state, version, progress, message, self._now, started, ended)
            self.updated[key] = (*place, result, None, 0, None)

    def _request(self, key: str, extra: dict[str, Any]) -> tuple[str, str]:
        if "request" in extra:
            request = extra["request"]
            return orjson.dumps(request).decode(), orjson.dumps(request["metadata"]).decode()
        row = self.created[key]
        return row[9], row[14]

    def _tell(self, message: Any, command: dict[str, Any], told: dict[str, Any]) -> None:
        value, traceparent = orjson.dumps(told), command["traceparent"]
        action = told["type"].removeprefix("assessment.")
        place = (told["assessmentId"], action, told["previousState"], told["state"], told["version"])
        row = (*place, told["userId"], value.decode(), self._now, told["commandId"])
        self.audit.append((*row, None, message.offset, traceparent))
        self.events.append((message.key, value, headers(told, traceparent)))


class Lane:
    """One partition: its states, its producer, its batches in order."""

    def __init__(self, settings: Settings, partition: int, pool: asyncpg.Pool) -> None:
        self.waiting: asyncio.Queue[Sequence[Any]] = asyncio.Queue(_BATCHES_WAITING)
        self._settings = settings
        self._partition = partition
        self._pool = pool
        self._states: dict[str, State] = {}
        self._producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka_bootstrap,
            transactional_id=f"{settings.commands_topic}-{partition}",
            acks="all",
            max_batch_size=_SEND_BATCH_BYTES,
            retry_backoff_ms=_RETRY_BACKOFF_MILLISECONDS,
        )

    async def run(self) -> None:
        """Work off what waits."""
        await self.start()
        while True:
            await self.apply(await self.waiting.get())

    async def start(self) -> None:
        """Get the producer ready."""
        await self._producer.start()

    async def apply(self, messages: Sequence[Any]) -> None:
        """Work off one batch."""
        batch = Batch(self._states, datetime.now(UTC))
        for message in messages:
            batch.add(message)
        await self._write(batch)
        await self._publish(batch, messages[-1].offset + 1)

    async def _write(self, batch: Batch) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            if batch.created:
                created = [(*row, None) for row in batch.created.values()]
                await connection.execute(QUERIES["insert_states"], *zip(*created, strict=True))
            if batch.updated:
                updated = [(*row, None, None) for row in batch.updated.values()]
                await connection.execute(QUERIES["update_states"], *zip(*updated, strict=True))
            audit = zip(*((self._partition, *row, None, None) for row in batch.audit), strict=True)
            await connection.execute(QUERIES["insert_audit"], *audit)

    async def _publish(self, batch: Batch, position: int) -> None:
        settings, producer = self._settings, self._producer
        await producer.begin_transaction()
        pending = [
            await producer.send_batch(records, settings.events_topic, partition=self._partition)
            for records in self._record_batches(batch)
        ]
        await asyncio.gather(*pending)
        offsets = {TopicPartition(settings.commands_topic, self._partition): position}
        await producer.send_offsets_to_transaction(offsets, settings.app_id)
        await producer.commit_transaction()

    def _record_batches(self, batch: Batch) -> list[Any]:
        record_batches = [self._producer.create_batch()]
        for key, value, with_it in batch.events:
            if record_batches[-1].append(key=key, value=value, timestamp=None, headers=with_it) is None:
                record_batches.append(self._producer.create_batch())
                record_batches[-1].append(key=key, value=value, timestamp=None, headers=with_it)
        return record_batches


async def run(settings: Settings, *, side_by_side: bool) -> None:
    """Work until the process is told to end."""
    consumer = AIOKafkaConsumer(
        settings.commands_topic,
        bootstrap_servers=settings.kafka_bootstrap,
        group_id=settings.app_id,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=int(settings.session_timeout * 1000),
    )
    async with asyncpg.create_pool(settings.database_url, min_size=1, max_size=settings.topic_partitions) as pool:
        lanes = [Lane(settings, partition, pool) for partition in range(settings.topic_partitions)]
        if not side_by_side:
            await asyncio.gather(*(lane.start() for lane in lanes))
            await consumer.start()
            await _loop(consumer, lanes, settings.batch_size)
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane.run())
            await consumer.start()
            group.create_task(_feed(consumer, lanes, settings.batch_size))


async def _loop(consumer: AIOKafkaConsumer, lanes: Sequence[Lane], size: int) -> None:
    """One thing after the other."""
    while True:
        for partition, messages in (await consumer.getmany(timeout_ms=50, max_records=None)).items():
            for first in range(0, len(messages), size):
                await lanes[partition.partition].apply(messages[first : first + size])


async def _feed(consumer: AIOKafkaConsumer, lanes: Sequence[Lane], size: int) -> None:
    """Hand each partition's records to its lane; a full lane is fed later, and the others meanwhile."""
    while True:
        hungry = [lane for lane in lanes if not lane.waiting.full()]
        if not hungry:
            await asyncio.sleep(0.002)
            continue
        wanted = {partition for partition in consumer.assignment() if not lanes[partition.partition].waiting.full()}
        fetched = await consumer.getmany(*wanted, timeout_ms=50, max_records=None)
        for partition, messages in fetched.items():
            lane = lanes[partition.partition]
            for first in range(0, len(messages), size):
                await lane.waiting.put(messages[first : first + size])


if __name__ == "__main__":
    asyncio.run(run(Settings.load(), side_by_side=sys.argv[1:] == ["lanes"]))
