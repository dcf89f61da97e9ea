"""Step 6 of a batch: events, rejections, dead letters and emitted watermarks in one Kafka transaction.

The partitions of a worker share a publisher, and whatever of them waits is one transaction (docs/adr/0020).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from uuid import uuid4

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced
from aiokafka.producer import sender
from aiokafka.structs import OffsetAndMetadata

from ..kafka import kafka_connection
from ..models.checkpoints import Checkpoint
from ..models.envelope import MAX_RECORD_BYTES
from ..models.errors import UnavailableError
from ..refused import unavailable
from ..settings import Settings
from ..store.changes import Outbox
from .crash_points import CrashPoint, CrashPoints
from .group_commit import GroupCommit
from .publications import KafkaRecord, Publication, checkpoints_publication, outbox_publication

# A broker that restarts is back within this time or the transaction is begun anew by another producer.
_TIMEOUT_SECONDS = 20.0

_STOP_SECONDS = 2.0

# aiokafka speaks Produce v8, which Kafka 4 answers with spurious NotEnoughReplicas now and then (KAFKA-15459): the
# stock pause of 100 ms would be the longest part of a batch.
_RETRY_BACKOFF_MILLISECONDS = 10

# A producer's next transaction begins once the markers of the one before are written, some milliseconds after its
# commit is answered (KAFKA-5477). Two take turns, so that one's are written while the other publishes; and where they
# are not yet, aiokafka's own pause before it asks again, 20 ms, would be most of a transaction.
_PRODUCERS = 2
sender.BACKOFF_OVERRIDE = 0.005

_SEND_BATCH_BYTES = 512 * 1024


class ProducerFencedError(UnavailableError):
    """Somebody has fenced a producer: another one publishes for one of its partitions, or for all.

    Which partitions are lost is told by the epochs of their claims.
    """


@contextmanager
def kafka_errors() -> Iterator[None]:
    """Translate driver errors.

    Raises:
        ProducerFencedError: somebody else publishes for one of the producer's partitions now.
        UnavailableError: Kafka is away.
    """
    try:
        yield
    except ProducerFenced as error:
        message = "Kafka takes no more of this producer, since a partition of it was claimed by another worker"
        raise ProducerFencedError(message) from error
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
    """Transactional producers that take turns, from their start to the first failure of one."""

    def __init__(self, settings: Settings, name: str, crash_points: CrashPoints) -> None:
        """Take what it needs.

        Args:
            settings: of the installation.
            name: tells the transactional ids of the producers.
            crash_points: where a fault test makes it die.
        """
        self.name = name
        self.is_broken = False
        """Whether it can publish no more."""
        self._settings = settings
        self._crash_points = crash_points
        self._group = GroupCommit(self._publish_together)
        self._producers = [_producer(settings, f"{name}-{number}") for number in range(_PRODUCERS)]
        self._turns = itertools.cycle(self._producers)
        self._moved: dict[TopicPartition, int] = {}
        """The watermarks that its committed transactions moved: Kafka tells them a little later."""

    async def start(self) -> None:
        """Fence the producers of every publisher before that has the same name, and end what they had under way.

        Raises:
            UnavailableError: Kafka is away.
        """
        with kafka_errors():
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await asyncio.gather(*(producer.start() for producer in self._producers))

    async def watermarks(self, partition: int) -> Watermarks:
        """How far everything of a partition is published; to be asked once all others who published for it are fenced.

        Raises:
            UnavailableError: Kafka is away.
        """
        admin = AIOKafkaAdminClient(**kafka_connection(self._settings))
        topics = self._settings.commands_topic, self._settings.checkpoints_topic
        wanted = [TopicPartition(topic, partition) for topic in topics]
        with kafka_errors():
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                try:
                    await admin.start()
                    found = await admin.list_consumer_group_offsets(self._settings.emitted_group, partitions=wanted)
                finally:
                    await admin.close()
        # A coordinator that is still loading leaves partitions out: that is not the same as no watermark.
        if found.keys() != set(wanted):
            raise UnavailableError(f"Kafka does not tell the emitted watermark of partition {partition} yet")
        latest = (max(found[each].offset, self._moved.get(each, -1)) for each in wanted)
        return Watermarks(*(offset if offset >= 0 else None for offset in latest))

    async def publish(self, partition: int, outbox: Outbox, position: int, *, alone: bool = False) -> None:
        """Publish with whatever else waits, or alone, and move the partition's emitted watermark to `position` with it.

        Raises:
            ProducerFencedError: another worker publishes for one of its partitions; nothing became visible.
            UnavailableError: Kafka is away; whether it became visible is told by the watermark after the next claim.
        """
        await self._group.submit(outbox_publication(self._settings, partition, outbox, position), alone=alone)

    async def publish_checkpoints(self, partition: int, checkpoints: Sequence[Checkpoint]) -> None:
        """Publish checkpoints that follow each other, with a watermark of their own.

        Raises:
            ProducerFencedError: another worker publishes for one of its partitions; nothing became visible.
            UnavailableError: Kafka is away; whether it became visible is told by the watermark after the next claim.
        """
        await self._group.submit(checkpoints_publication(self._settings, partition, checkpoints))

    async def stop(self) -> None:
        """Let go of the producers, in whichever state they are."""
        self.is_broken = True
        await self._group.close(_at_its_end())
        await asyncio.gather(*map(_stop, self._producers))

    async def _publish_together(self, publications: Sequence[Publication]) -> Sequence[None]:
        """One transaction. A producer whose transaction may be open, or may have been committed, is at its end."""
        if self.is_broken:
            raise _at_its_end()
        has_ended = False
        try:
            with kafka_errors():
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    producer = next(self._turns)
                    await self._send_all(producer, publications)
                    self._crash_points.reach(CrashPoint.SENT)
                    await producer.commit_transaction()
            has_ended = True
        finally:
            self.is_broken |= not has_ended
        self._moved |= {each.of: each.watermark for each in publications}
        return [None] * len(publications)

    async def _send_all(self, producer: AIOKafkaProducer, publications: Sequence[Publication]) -> None:
        await producer.begin_transaction()
        pending: list[Awaitable[object]] = []
        for publication in publications:
            for place, records in publication.records:
                pending.extend(await self._send(producer, place, records))
        # Metadata tells whom to fence where Postgres, which knows, is lost.
        offsets = {each.of: OffsetAndMetadata(each.watermark, self.name) for each in publications}
        # The watermark is on its way while the records are: each is one round trip less to wait for.
        moved = producer.send_offsets_to_transaction(offsets, self._settings.emitted_group)
        await asyncio.gather(moved, *pending)

    async def _send(
        self, producer: AIOKafkaProducer, place: TopicPartition, records: Iterable[KafkaRecord]
    ) -> list[asyncio.Future[object]]:
        """Hand records over in whole batches: a future for each record costs more than the record."""
        pending: list[asyncio.Future[object]] = []
        batch = None
        for key, value, headers in records:
            arguments = {"timestamp": None, "key": key, "value": value, "headers": headers}
            if batch is None or batch.append(**arguments) is None:
                if batch is not None:
                    pending.append(await producer.send_batch(batch, place.topic, partition=place.partition))
                batch = producer.create_batch()
                batch.append(**arguments)
        if batch is not None:
            pending.append(await producer.send_batch(batch, place.topic, partition=place.partition))
        return pending


def _producer(settings: Settings, transactional_id: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **kafka_connection(settings),
        client_id=transactional_id,
        transactional_id=transactional_id,
        acks="all",
        linger_ms=0,
        max_batch_size=_SEND_BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
        retry_backoff_ms=_RETRY_BACKOFF_MILLISECONDS,
    )


async def _stop(producer: AIOKafkaProducer) -> None:
    stopping = asyncio.ensure_future(producer.stop())
    done, _ = await asyncio.wait({stopping}, timeout=_STOP_SECONDS)
    if not done:
        stopping.cancel()
        await producer.client.close()


def _at_its_end() -> UnavailableError:
    return UnavailableError("Kafka has failed this producer: the partition is claimed again, with another one")


class Publishers:
    """The publishers that the lanes of one generation of the consumer group share, one after the other."""

    def __init__(self, settings: Settings, crash_points: CrashPoints) -> None:
        self._settings = settings
        self._crash_points = crash_points
        self._current: Publisher | None = None
        self._fenced: set[str] = set()
        self._starting = asyncio.Lock()
        self._fencing = asyncio.Lock()

    async def current(self) -> Publisher:
        """The publisher, or another one where that is broken.

        Raises:
            UnavailableError: Kafka is away.
        """
        async with self._starting:
            if self._current is None or self._current.is_broken:
                await self.close()
                publisher = Publisher(self._settings, new_name(self._settings), self._crash_points)
                try:
                    await publisher.start()
                except BaseException:
                    await publisher.stop()
                    raise
                self._current = publisher
            return self._current

    async def fence(self, names: Collection[str]) -> None:
        """See that nothing more comes of other publishers; each has started once, so that one fencing is for good.

        Raises:
            UnavailableError: Kafka is away.
        """
        async with self._fencing:
            for name in set(names) - self._fenced:
                await fence(self._settings, name)
                self._fenced.add(name)

    async def close(self) -> None:
        """Let go of the publisher."""
        if self._current is not None:
            publisher, self._current = self._current, None
            await publisher.stop()


def new_name(settings: Settings) -> str:
    """A name that no publisher has had, and that none may have again: a publisher starts once."""
    return f"{settings.app_id}-{uuid4().hex}"


async def fence(settings: Settings, name: str) -> None:
    """End what the producers of a publisher have under way, and let them publish no more (KIP-98, InitProducerId).

    Raises:
        UnavailableError: Kafka is away.
    """
    heir = Publisher(settings, name, CrashPoints(""))
    try:
        await heir.start()
    finally:
        await heir.stop()
