"""What Kafka has of one command partition: events, rejections and dead letters, in the order of their commands."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import murmur2

from ..agents.crash_points import CrashPoints
from ..agents.publisher import Publisher, fence, kafka_errors, new_name
from ..agents.topics import create_topics
from ..kafka import kafka_connection, kafka_refusals
from ..models.checkpoints import Checkpoint
from ..models.deletions import Deletion
from ..models.errors import UnavailableError
from ..models.letter_marks import LetterMarks
from ..settings import Settings
from ..store.postgres import open_pools
from ..store.recovery import RecoveryStore
from .errors import RecoveryError
from .records import (
    LoggedEvent,
    LogItem,
    command_offset,
    read_checkpoint,
    read_deletion,
    read_event,
    read_letter,
    read_marks,
    read_rejection,
)

# How long a fetch waits; a log that is read to its end is not waited for.
_POLL_MILLISECONDS = 500

# How long the broker keeps a fetch that finds nothing, and with it the answer to where a log ends: it comes after it.
_BROKER_WAIT_MILLISECONDS = 50

_RECORDS_AT_ONCE = 1000

# Four partitions at a time, each with what was fetched and unpacked, and the next of it. A larger batch comes all
# the same, alone (KIP-74).
_FETCH_BYTES = 1024 * 1024

# Kafka gives up on a broker that is away after this; a replay is begun again by hand.
_REQUEST_MILLISECONDS = 30_000

Passed = Callable[[int], None]
"""Told how many places of the log were passed."""


@asynccontextmanager
async def open_consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of what is committed, in no group.

    Raises:
        UnavailableError: Kafka is away.
    """
    connection = kafka_connection(settings)
    consumer = AIOKafkaConsumer(
        **connection,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=_BROKER_WAIT_MILLISECONDS,
        request_timeout_ms=_REQUEST_MILLISECONDS,
    )
    with kafka_errors():
        try:
            async with kafka_refusals(connection):
                await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


@asynccontextmanager
async def open_admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for what is no record.

    Raises:
        UnavailableError: Kafka is away.
    """
    connection = kafka_connection(settings)
    admin = AIOKafkaAdminClient(**connection)
    with kafka_errors():
        try:
            async with kafka_refusals(connection):
                await admin.start()
            yield admin
        finally:
            await admin.close()


async def complete_topics(settings: Settings) -> list[str]:
    """Make anew the topics that are lost where the events are not, and name them: states and audit trail need no other.

    Raises:
        SettingsError: a topic has another number of partitions.
        UnavailableError: Kafka is away.
    """
    async with open_consumer(settings) as consumer:
        has_events = settings.events_topic in await consumer.topics()
    return await create_topics(settings) if has_events else []


async def bounds(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> list[tuple[int, int]]:
    """The first offset that each partition still has, and the one after the last."""
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    first, end = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    return [(first[place], end[place]) for place in places]


async def watermarks(settings: Settings, topic: str | None = None) -> dict[int, int]:
    """The emitted watermark of each partition that has one, or that of another topic than the commands.

    Raises:
        UnavailableError: Kafka is away, or does not tell yet.
    """
    of = topic or settings.commands_topic
    wanted = [TopicPartition(of, partition) for partition in range(settings.topic_partitions)]
    async with open_admin(settings) as admin:
        found = await admin.list_consumer_group_offsets(settings.emitted_group, partitions=wanted)
    if found.keys() != set(wanted):
        raise UnavailableError("Kafka does not tell the emitted watermarks yet")
    return {place.partition: found[place].offset for place in wanted if found[place].offset >= 0}


def home_of(assessment_id: str, partitions: int) -> int:
    """The partition that Kafka's default partitioner takes the commands of an assessment to."""
    return int((murmur2(assessment_id.encode()) & 0x7FFFFFFF) % partitions)


@asynccontextmanager
async def open_publisher(settings: Settings, store: RecoveryStore) -> AsyncIterator[Publisher]:
    """A publisher for any partition, which whoever claims one after it fences.

    Raises:
        UnavailableError: Kafka or Postgres is away.
    """
    publisher = Publisher(settings, new_name(settings), CrashPoints(""))
    try:
        await publisher.start()
        await store.name_producer(publisher.name)
        yield publisher
    finally:
        await publisher.stop()


async def end_transactions(settings: Settings) -> None:
    """End what a worker that died had under way, and fence one that is frozen: only then do watermarks stand still.

    Postgres names who may have published, and where it is lost, Kafka the last one that did for each partition.

    Raises:
        UnavailableError: Kafka or Postgres is away.
    """
    async with open_admin(settings) as admin:
        told = await admin.list_consumer_group_offsets(settings.emitted_group)
    async with open_pools(settings, application="assessmentstore replay") as pools:
        named = await RecoveryStore(pools.write, settings.commands_topic).producers()
    for name in sorted(named | {each.metadata for each in told.values() if each.metadata}):
        await fence(settings, name)


async def refuse_beside_workers(settings: Settings) -> None:
    """See that nobody applies commands.

    Raises:
        RecoveryError: there are workers.
    """
    async with open_admin(settings) as admin:
        responses = await admin.describe_consumer_groups([settings.app_id])
    members = [
        member for response in responses for group in response.to_object()["groups"] for member in group["members"]
    ]
    if members:
        raise RecoveryError(
            f"{len(members)} of the workers of {settings.app_id} are in the group: stop them, and run this again (one"
            f" that was killed stays there for {settings.session_timeout:g} s)"
        )


async def read_deletions(consumer: AIOKafkaConsumer, settings: Settings, partition: int) -> AsyncIterator[Deletion]:
    """What retention deleted of a partition, in order.

    Raises:
        RecoveryError: a record is nothing of that sort.
    """
    place = TopicPartition(settings.deletions_topic, partition)
    consumer.assign([place])
    await consumer.seek_to_beginning(place)
    async for record in records(consumer, place, lambda _: None):
        yield read_deletion(record)


async def read_letter_marks(settings: Settings) -> list[LetterMarks]:
    """All that became of dead letters, in order; nothing where it was told nowhere yet, by versions before this one.

    Raises:
        RecoveryError: a record is nothing of that sort.
        UnavailableError: Kafka is away.
    """
    place = TopicPartition(settings.letter_marks_topic, 0)
    async with open_consumer(settings) as consumer:
        if place.topic not in await consumer.topics():
            return []
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        return [read_marks(record) async for record in records(consumer, place, lambda _: None)]


async def read_checkpoints(consumer: AIOKafkaConsumer, settings: Settings, partition: int) -> list[Checkpoint]:
    """The checkpoints of a partition that were published, in their order.

    Raises:
        RecoveryError: a record is none.
    """
    place = TopicPartition(settings.checkpoints_topic, partition)
    consumer.assign([place])
    await consumer.seek_to_beginning(place)
    # One that was published again is there twice until the topic is compacted.
    found = [read_checkpoint(record) async for record in records(consumer, place, lambda _: None)]
    return sorted({checkpoint.sequence: checkpoint for checkpoint in found}.values(), key=lambda each: each.sequence)


async def read_log(
    consumer: AIOKafkaConsumer, settings: Settings, partition: int, *, start: int, passed: Passed
) -> AsyncIterator[LogItem]:
    """What came of the commands of a partition from the offset `start` on, in their order.

    Args:
        consumer: for this alone.
        settings: of the installation.
        partition: of the commands topic.
        start: the first command.
        passed: hears of the progress.
    """
    events = TopicPartition(settings.events_topic, partition)
    rejections = TopicPartition(settings.rejections_topic, partition)
    letters = TopicPartition(settings.dead_letters_topic, 0)
    consumer.assign([events, rejections, letters])
    await consumer.seek_to_beginning(events, rejections, letters)
    sources = [
        _told(records(consumer, events, passed), start, read_event),
        _told(records(consumer, rejections, passed), start, read_rejection),
        _letters(records(consumer, letters, lambda _: None), start, partition),
    ]
    async for item in _merged(sources):
        yield item


async def read_events(
    consumer: AIOKafkaConsumer, settings: Settings, partition: int, *, passed: Passed
) -> AsyncGenerator[LoggedEvent, None]:
    """The events of a partition alone, from the first that is there."""
    place = TopicPartition(settings.events_topic, partition)
    consumer.assign([place])
    await consumer.seek_to_beginning(place)
    async for record in records(consumer, place, passed):
        yield read_event(record)


async def first_command(settings: Settings, partition: int) -> int | None:
    """The command that the first event of a partition came of, or nothing where there is no event.

    A topic that was made anew begins at offset 0 as one that has everything does: this tells them apart.
    """
    async with (
        open_consumer(settings) as consumer,
        aclosing(read_events(consumer, settings, partition, passed=lambda _: None)) as events,
    ):
        async for event in events:
            return event.offset
    return None


async def records(consumer: AIOKafkaConsumer, place: TopicPartition, passed: Passed) -> AsyncIterator[ConsumerRecord]:
    """The records of one partition up to where it ends now."""
    end = (await consumer.end_offsets([place]))[place]
    position = await consumer.position(place)
    while position < end:
        fetched = await consumer.getmany(place, timeout_ms=_POLL_MILLISECONDS, max_records=_RECORDS_AT_ONCE)
        for record in fetched.get(place, ()):
            yield record
        before, position = position, await consumer.position(place)
        passed(position - before)


async def _told(
    found: AsyncIterator[ConsumerRecord], start: int, read: Callable[[ConsumerRecord], Any]
) -> AsyncIterator[LogItem]:
    """Events or rejections from a command on; those before it are not even parsed."""
    async for record in found:
        if command_offset(record) >= start:
            yield read(record)


async def _letters(found: AsyncIterator[ConsumerRecord], start: int, partition: int) -> AsyncIterator[LogItem]:
    async for record in found:
        origin, letter = read_letter(record)
        if origin == partition and letter.offset >= start:
            yield letter


async def _merged(sources: Sequence[AsyncIterator[LogItem]]) -> AsyncIterator[LogItem]:
    """Items of several ordered sources in one order; a command has one outcome, so that no two are equal."""
    heads = {source: item for source in sources if (item := await anext(source, None)) is not None}
    while heads:
        source = min(heads, key=lambda each: heads[each].offset)
        yield heads[source]
        following = await anext(source, None)
        if following is None:
            del heads[source]
        else:
            heads[source] = following
