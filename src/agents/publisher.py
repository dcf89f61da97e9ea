"""Step 6 of a batch: events, rejections, dead letters and the emitted watermark in one Kafka transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from ..kafka import kafka_connection
from ..models.checkpoints import Checkpoint
from ..models.envelope import MAX_RECORD_BYTES, event_headers, rejection_headers
from ..models.errors import RejectedCommand, UnavailableError
from ..refused import unavailable
from ..settings import Settings
from ..store.batch import FencedError
from ..store.changes import DeadLetter, Outbox, Refused
from .crash_points import CrashPoint, CrashPoints

# A broker that restarts is back within this time or the transaction is begun anew by another producer.
_TIMEOUT_SECONDS = 20.0

_STOP_SECONDS = 2.0

_REQUEST_MILLISECONDS = 10_000

# aiokafka speaks Produce v8, which Kafka 4 answers with spurious NotEnoughReplicas now and then (KAFKA-15459): the
# stock pause of 100 ms would be the longest part of a batch.
_RETRY_BACKOFF_MILLISECONDS = 10

_SEND_BATCH_BYTES = 512 * 1024

KafkaRecord = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
"""Key, value and headers."""


@contextmanager
def kafka_errors() -> Iterator[None]:
    """Translate driver errors.

    Raises:
        FencedError: another worker publishes for this partition now.
        UnavailableError: Kafka is away.
    """
    try:
        yield
    except ProducerFenced as error:
        raise FencedError("another worker publishes for this partition") from error
    except IllegalOperation as error:
        # aiokafka learnt in the background that the transaction failed, and keeps the reason to itself: the next claim
        # finds out whether another worker is behind it.
        raise UnavailableError("Kafka has ended the transaction") from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise unavailable("Kafka", error) from error


class Watermarks(NamedTuple):
    """How far everything is published; nothing where Kafka does not know, or has let it expire."""

    emitted: int | None
    """Below it every offset's events are."""
    checkpoints: int | None
    """Below it every checkpoint is, by its sequence."""


class Publisher:
    """The transactional producer of one command partition."""

    def __init__(self, settings: Settings, partition: int, crash_points: CrashPoints) -> None:
        self._settings = settings
        self._partition = partition
        self._commands = TopicPartition(settings.commands_topic, partition)
        self._checkpoints = TopicPartition(settings.checkpoints_topic, partition)
        self._crash_points = crash_points
        self._producer = AIOKafkaProducer(
            **kafka_connection(settings),
            client_id=f"{settings.app_id}-{partition}",
            transactional_id=f"{settings.app_id}-{partition}",
            acks="all",
            linger_ms=0,
            max_batch_size=_SEND_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            retry_backoff_ms=_RETRY_BACKOFF_MILLISECONDS,
        )

    async def start(self) -> None:
        """Fence every producer of this partition before, and end what it had under way.

        Raises:
            UnavailableError: Kafka is away.
        """
        with kafka_errors():
            await asyncio.wait_for(self._producer.start(), _TIMEOUT_SECONDS)

    async def watermarks(self) -> Watermarks:
        """How far everything is published; to be asked after `start` only.

        Raises:
            UnavailableError: Kafka is away.
        """
        admin = AIOKafkaAdminClient(**kafka_connection(self._settings))
        wanted = [self._commands, self._checkpoints]
        with kafka_errors():
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                try:
                    await admin.start()
                    found = await admin.list_consumer_group_offsets(self._settings.emitted_group, partitions=wanted)
                finally:
                    await admin.close()
        # A coordinator that is still loading leaves partitions out: that is not the same as no watermark.
        if found.keys() != set(wanted):
            raise UnavailableError(f"Kafka does not tell the emitted watermark of partition {self._partition} yet")
        return Watermarks(*(found[each].offset if found[each].offset >= 0 else None for each in wanted))

    async def publish(self, outbox: Outbox, position: int) -> None:
        """Publish in one transaction, and move the emitted watermark to `position` with it.

        Raises:
            FencedError: another worker publishes for this partition now; nothing became visible.
            UnavailableError: Kafka is away; whether it became visible is told by the watermark of the next producer.
        """
        async with self._transaction(self._commands, position) as pending:
            pending.extend(await self._send_all(outbox))

    async def publish_checkpoints(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Publish checkpoints that follow each other in a transaction of their own, with a watermark of its own.

        Raises:
            FencedError: another worker publishes for this partition now; nothing became visible.
            UnavailableError: Kafka is away; whether it became visible is told by the watermark of the next producer.
        """
        async with self._transaction(self._checkpoints, checkpoints[-1].sequence + 1) as pending:
            records = map(_checkpoint, checkpoints)
            pending.extend(await self._send(self._settings.checkpoints_topic, self._partition, records))

    @asynccontextmanager
    async def _transaction(self, of: TopicPartition, watermark: int) -> AsyncIterator[list[Awaitable[object]]]:
        """What is sent, and added to the list, becomes visible with a watermark, or not at all."""
        pending: list[Awaitable[object]] = []
        with kafka_errors():
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._producer.begin_transaction()
                yield pending
                offsets = {of: OffsetAndMetadata(watermark, "")}
                # The watermark is on its way while the records are: each is one round trip less to wait for.
                moved = self._producer.send_offsets_to_transaction(offsets, self._settings.emitted_group)
                await asyncio.gather(moved, *pending)
                self._crash_points.reach(CrashPoint.SENT)
                await self._producer.commit_transaction()

    async def stop(self) -> None:
        """Let go of the producer, in whichever state it is."""
        stopping = asyncio.ensure_future(self._producer.stop())
        done, _ = await asyncio.wait({stopping}, timeout=_STOP_SECONDS)
        if not done:
            stopping.cancel()
            await self._producer.client.close()

    async def _send_all(self, outbox: Outbox) -> list[Awaitable[object]]:
        settings = self._settings
        events: list[KafkaRecord] = [
            (event.assessment_id.encode(), value, event_headers(event, traceparent, offset, fingerprint))
            for event, value, traceparent, offset, fingerprint in outbox.events
        ]
        return [
            *await self._send(settings.events_topic, self._partition, events),
            *await self._send(settings.rejections_topic, self._partition, map(_rejection, outbox.rejections)),
            *await self._send(settings.dead_letters_topic, 0, map(self._dead_letter, outbox.dead_letters)),
        ]

    async def _send(
        self, topic: str, partition: int, records: Iterator[KafkaRecord] | Sequence[KafkaRecord]
    ) -> list[asyncio.Future[object]]:
        """Hand records over in whole batches: a future for each record costs more than the record."""
        pending: list[asyncio.Future[object]] = []
        batch = None
        for key, value, headers in records:
            arguments = {"timestamp": None, "key": key, "value": value, "headers": headers}
            if batch is None or batch.append(**arguments) is None:
                if batch is not None:
                    pending.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                batch.append(**arguments)
        if batch is not None:
            pending.append(await self._producer.send_batch(batch, topic, partition=partition))
        return pending

    def _dead_letter(self, letter: DeadLetter) -> KafkaRecord:
        told = {
            "topic": self._settings.commands_topic,
            "partition": self._partition,
            "offset": letter.offset,
            "reason": letter.reason,
            "time": "" if letter.at is None else letter.at.isoformat(),
        }
        # The headers as they came, null values as empty ones: aiokafka can write no null. Which those are is told.
        headers = [(name, value or b"") for name, value in letter.headers]
        if nulls := [str(place) for place, (_, value) in enumerate(letter.headers) if value is None]:
            told["null-headers"] = ",".join(nulls)
        return letter.key, letter.value, headers + [(name, str(value).encode()) for name, value in told.items()]


def _checkpoint(checkpoint: Checkpoint) -> KafkaRecord:
    key = f"{checkpoint.partition}:{checkpoint.sequence}".encode()
    return key, checkpoint.to_json(), [("content-type", b"application/json")]


def _rejection(refused: Refused) -> KafkaRecord:
    header = refused.header
    record = RejectedCommand.of(header, refused.rejection, at=refused.at)
    return header.assessment_id.encode(), record.to_json(), rejection_headers(header, refused.at, refused.offset)
