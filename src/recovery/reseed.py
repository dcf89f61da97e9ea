"""Kafka from Postgres: the audit trail becomes the topics again.

1. Reset     the emitted watermark of topics that are empty: it may be left from those that are lost; where they are
             not, and it is, it is made out of what they have
2. Commands  positions never go back: the new topic of the commands is filled up to where each partition was, with
             records that say nothing, and what was filled is deleted; offsets go on growing from there
3. Outbox    everything that was ever told is told again, in the transactions of a worker's publisher, each with
             the watermark that it reaches: killed, it goes on from there
4. Proof     the checkpoints, with their watermark
5. Deletions what retention deleted
6. Marks     what became of dead letters
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from ..agents.publisher import ProducerFencedError, Publisher, kafka_errors
from ..kafka import idempotent_producer
from ..settings import Settings
from ..store.batch import BatchStore
from ..store.changes import Outbox
from ..store.checkpoints import CheckpointStore
from ..store.moment import one_moment
from ..store.postgres import Pool, open_pools
from ..store.recovery import RecoveryStore
from ..web.deletions import open_deletions_topic
from .errors import RecoveryError
from .log import (
    Passed,
    bounds,
    end_transactions,
    first_command,
    open_admin,
    open_consumer,
    open_publisher,
    read_deletions,
    read_letter_marks,
    read_log,
    records,
    watermarks,
)
from .partitions import for_each
from .progress import Progress

# Events in one transaction: a second's work at the most.
_EVENTS = 2000

# Checkpoints in one transaction.
_CHECKPOINTS = 1000

_FILLER_BYTES = 512 * 1024
_FILLER_HEADERS = (("filler", b""),)
"""What tells a record that only moves the offset on from a tombstone that somebody sent."""


@dataclass(frozen=True, slots=True)
class Reseeded:
    """What was put on the topics."""

    published: int
    """Commands whose outcome was told."""
    skipped: int
    """Offsets of the commands topics that were passed over."""
    checkpoints: int
    deletions: int
    marks: int
    """Dead letters of which it was told what became of them."""


async def reseed(settings: Settings, progress: Progress) -> Reseeded:
    """Bring empty topics to where Postgres is; those that were brought a part of the way go on.

    Raises:
        RecoveryError: the topics have something else.
        UnavailableError: Postgres or Kafka is away.
    """
    await end_transactions(settings)
    async with open_pools(settings, application="assessmentstore replay") as pools:
        store, batches = RecoveryStore(pools.write, settings.commands_topic), BatchStore(pools.write)
        positions = await store.positions()
        async with open_publisher(settings, store) as publisher:
            if await _are_empty(settings):
                told = dict.fromkeys(positions, 0)
            else:
                told = await _told_without_watermark(settings, positions, await store.published())
            await for_each(told, lambda partition: publisher.publish(partition, Outbox(), told[partition]))
            emitted = await watermarks(settings)
            await _refuse_half_a_log(settings, {each: emitted.get(each, 0) for each in positions}, pools.write)
            progress.expect(sum(max(0, end - emitted.get(partition, 0)) for partition, end in positions.items()))
            skipped = await for_each(positions, lambda partition: _skip(settings, partition, positions[partition]))
            telling = _Telling(publisher, store, batches, progress.passed)
            published = await for_each(
                positions, lambda each: telling.commands(each, emitted.get(each, 0), positions[each])
            )
            firsts = await _first_checkpoints(settings)
            made = CheckpointStore(pools.write)
            checkpoints = await for_each(positions, lambda each: telling.checkpoints(each, firsts[each], made))
        deletions = await for_each(positions, lambda partition: _tell_deletions(settings, partition, store))
        marks = await _tell_letter_marks(settings, store)
    return Reseeded(
        published=sum(published.values()),
        skipped=sum(skipped.values()),
        checkpoints=sum(checkpoints.values()),
        deletions=sum(deletions.values()),
        marks=marks,
    )


async def _are_empty(settings: Settings) -> bool:
    """Whether nothing was ever told on these topics."""
    async with open_consumer(settings) as consumer:
        found = [
            *await bounds(consumer, settings.events_topic, settings.topic_partitions),
            *await bounds(consumer, settings.rejections_topic, settings.topic_partitions),
            *await bounds(consumer, settings.dead_letters_topic, 1),
        ]
    return all(end == 0 for _, end in found)


async def _told_without_watermark(
    settings: Settings, positions: Collection[int], noted: Mapping[int, int]
) -> dict[int, int]:
    """How far the partitions are told whose watermark Kafka forgot: with the topic of the commands, or in a week.

    Postgres knows of what it has heard, and the topics themselves have the rest.
    """
    known = await watermarks(settings)

    async def told(partition: int) -> int:
        position = noted.get(partition, 0)
        async with open_consumer(settings) as consumer:
            async for item in read_log(consumer, settings, partition, start=position, passed=lambda _: None):
                position = item.offset + 1
        return position

    return await for_each([partition for partition in positions if partition not in known], told)


async def _refuse_half_a_log(settings: Settings, published: Mapping[int, int], pool: Pool) -> None:
    """See that the events topic was not lost alone, and made anew: what it lacks cannot be told behind what it has.

    Raises:
        RecoveryError: a partition lacks its beginning.
    """
    async with open_consumer(settings) as consumer:
        found = await bounds(consumer, settings.events_topic, settings.topic_partitions)
    # Where one begins later, its retention cut it: that was somebody's decision.
    whole = [partition for partition in published if not found[partition][0]]
    firsts = await for_each(whole, lambda partition: first_command(settings, partition))
    for partition, first in firsts.items():
        async with one_moment(pool) as moment:
            end = published[partition]
            lacking = await moment.rows_below(partition, end if first is None else min(first, end))
        if lacking:
            lost = f"{settings.events_topic}, {settings.rejections_topic} and {settings.dead_letters_topic}"
            raise RecoveryError(
                f"{settings.events_topic}[{partition}] lacks {lacking} events that were published: it was lost, and the"
                f" others were not. Stop the workers, delete the topics {lost}, but not {settings.commands_topic}, and"
                " run this again: it tells all of them anew"
            )


class _Telling:
    """Tells what Postgres knows."""

    def __init__(self, publisher: Publisher, store: RecoveryStore, batches: BatchStore, passed: Passed) -> None:
        self._publisher = publisher
        self._store = store
        self._batches = batches
        self._passed = passed

    async def commands(self, partition: int, first: int, end: int) -> int:
        """Tell what came of the commands from `first` to `end` - 1."""
        position = first
        try:
            while position < end:
                following = min(await self._store.outbox_end(partition, position, _EVENTS) or end, end)
                outbox = await self._batches.outbox(partition, position, following)
                await self._publisher.publish(partition, outbox, following)
                self._passed(following - position)
                position = following
        except ProducerFencedError as error:
            raise RecoveryError(f"{error}: stop the workers and every other replay, and run this again") from error
        return max(0, end - first)

    async def checkpoints(self, partition: int, first: int, made: CheckpointStore) -> int:
        """Put the checkpoints from one on on their topic."""
        missing = await made.since(partition, first)
        for place in range(0, len(missing), _CHECKPOINTS):
            await self._publisher.publish_checkpoints(partition, missing[place : place + _CHECKPOINTS])
        return len(missing)


async def _skip(settings: Settings, partition: int, position: int) -> int:
    """Bring the commands topic to a position, and count the offsets that were passed over.

    Raises:
        RecoveryError: somebody sent commands below it.
    """
    place = TopicPartition(settings.commands_topic, partition)
    async with open_consumer(settings) as consumer:
        first, end = (await bounds(consumer, settings.commands_topic, settings.topic_partitions))[partition]
        fillers = await _count_fillers(consumer, place, first, min(end, position))
    if end < position:
        if fillers < end - first:
            raise RecoveryError(
                f"{place.topic}[{partition}] ends at {end}, below {position}, and has commands of others: nobody may"
                " send before positions are back where they were; stop all web processes and producers, delete the"
                " topic, and run this again"
            )
        await _fill(settings, place, end, position)
    if end < position or fillers:
        async with open_admin(settings) as admin:
            await admin.delete_records({place: RecordsToDelete(position)})
    return max(0, position - end)


async def _count_fillers(consumer: AIOKafkaConsumer, place: TopicPartition, first: int, end: int) -> int:
    """How many records say nothing, from `first` on and below `end`, before the first one that says something."""
    count = 0
    if first < end:
        consumer.assign([place])
        consumer.seek(place, first)
        async for record in records(consumer, place, lambda _: None):
            if record.offset >= end or tuple(record.headers) != _FILLER_HEADERS:
                break
            count += 1
    return count


async def _fill(settings: Settings, place: TopicPartition, end: int, position: int) -> None:
    """Append records that say nothing from `end` to `position` - 1.

    Raises:
        RecoveryError: somebody else sends meanwhile.
    """
    with kafka_errors():
        async with idempotent_producer(settings, max_batch_size=_FILLER_BYTES, compression_type="lz4") as producer:
            while end < position:
                batch = producer.create_batch()
                while end + batch.record_count() < position:
                    if batch.append(timestamp=None, key=None, value=None, headers=[*_FILLER_HEADERS]) is None:
                        break
                size = batch.record_count()
                sent = await (await producer.send_batch(batch, place.topic, partition=place.partition))
                if sent.offset != end:
                    raise RecoveryError(
                        f"somebody sent commands to {place.topic}[{place.partition}] at {end}, below {position}: stop"
                        " all web processes and producers, delete the topic, and run this again"
                    )
                end += size


async def _first_checkpoints(settings: Settings) -> dict[int, int]:
    """The first checkpoint of each partition that is not told; a watermark may be left from a topic that is lost."""
    told = await watermarks(settings, settings.checkpoints_topic)
    async with open_consumer(settings) as consumer:
        found = await bounds(consumer, settings.checkpoints_topic, settings.topic_partitions)
    return {partition: told.get(partition, 1) if end else 1 for partition, (_, end) in enumerate(found)}


async def _tell_deletions(settings: Settings, partition: int, store: RecoveryStore) -> int:
    """Put on their topic the deletions that it does not have."""
    async with open_consumer(settings) as consumer:
        told = {
            (deletion.assessment_id, deletion.last_offset)
            async for deletion in read_deletions(consumer, settings, partition)
        }
    count = 0
    with kafka_errors():
        async with open_deletions_topic(settings) as topic:
            async for deletions in store.deletions(partition):
                missing = [item for item in deletions if (item.assessment_id, item.last_offset) not in told]
                await topic.send(missing)
                count += len(missing)
    return count


async def _tell_letter_marks(settings: Settings, store: RecoveryStore) -> int:
    """Put on their topic the marks of dead letters that it does not have."""
    told = {marks.place: marks for marks in await read_letter_marks(settings)}
    count = 0
    with kafka_errors():
        async with idempotent_producer(settings) as producer:
            async for found in store.letter_marks():
                missing = [marks for marks in found if told.get(marks.place) != marks]
                topic = settings.letter_marks_topic
                sent = [await producer.send(topic, marks.to_json(), marks.place.encode()) for marks in missing]
                await asyncio.gather(*sent)
                count += len(missing)
    return count
