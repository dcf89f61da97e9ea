"""Postgres from Kafka: the log of each partition becomes batches, written by the code that writes those of a worker.

    1. Claim      the partition: a worker that runs beside this is fenced, and so is another replay
    2. Deletions  what retention deleted is kept as deleted, and is passed over
    3. Batches    items become changes, committed with the position that they reach: killed, it goes on from there
    4. Position   at the end the position is the emitted watermark: all below it came to what the log tells
    5. Proof      checkpoints that were signed over these rows are kept again

Then, for all partitions, dead letters are marked with what became of them. Nothing is published, and nobody is woken.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from aiokafka import AIOKafkaConsumer

from ..models.assessment import AssessmentRecord
from ..settings import Settings
from ..store.batch import BatchStore, FencedError, PartitionClaim
from ..store.changes import BatchChanges
from ..store.checkpoints import CheckpointStore
from ..store.postgres import StaleViewError, open_pools
from ..store.recovery import RecoveryStore
from .errors import RecoveryError
from .fold import Deleted, Until, fold_items, is_rebirth, reborn, touched
from .log import (
    Passed,
    bounds,
    open_consumer,
    read_checkpoints,
    read_deletions,
    read_letter_marks,
    read_log,
    watermarks,
)
from .partitions import for_each
from .progress import Progress
from .records import LoggedEvent, LogItem

# Large enough that a commit and its round trips cost little beside the rows, small enough to be done within a second.
_ITEMS = 2000
_BYTES = 8 * 1024 * 1024

# Two partitions may bring outcomes of one command id at the same moment: the second try sees what the other wrote.
_ATTEMPTS = 5

# States of the batches before, so that few are read back.
_RECENT_STATES = 20_000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    positions: Mapping[int, int]
    """Where each partition goes on."""
    items: int
    """Events, rejections and dead letters that were written."""
    lost: Sequence[str]
    """What has to be said of commands that can no longer be applied."""
    unproved: Sequence[str]
    """What has to be said of checkpoints that are not of these rows."""


async def rebuild(settings: Settings, until: Until, progress: Progress) -> Rebuilt:
    """Bring a database to where the log is, or was.

    Raises:
        RecoveryError: the database and the log contradict each other, or somebody else writes to the database.
        UnavailableError: Postgres or Kafka is away.
    """
    async with open_pools(settings, application="assessmentstore replay") as pools:
        store, batches = RecoveryStore(pools.write, settings.commands_topic), BatchStore(pools.write)
        checkpoints = CheckpointStore(pools.write)
        present = await store.positions()
        if not present and await store.has_assessments():
            raise RecoveryError(
                "the database has assessments, but no position of any partition: the log does not explain them;"
                " replay into an empty database, or into a side schema (--schema)"
            )
        emitted = await watermarks(settings) if until.is_end else {}
        await announce(settings, progress)
        owner = f"replay:{socket.gethostname()}:{os.getpid()}"

        async def one(partition: int) -> PartitionRebuild:
            async with open_consumer(settings) as consumer:
                work = PartitionRebuild(
                    settings, partition, batches=batches, checkpoints=checkpoints, store=store, consumer=consumer
                )
                await work.run(owner, until, emitted.get(partition), progress.passed)
                return work

        done = await for_each(range(settings.topic_partitions), one)
        # The two outcomes may be of different partitions: only now both are there.
        await store.forget_refusals_of_accepted()
        marks = [marks for marks in await read_letter_marks(settings) if until.admits_marks(marks)]
        await store.restore_letter_marks(marks)
        positions = {partition: work.position for partition, work in done.items()}
        lost = await _lost_commands(settings, positions) if until.is_end else []
        unproved = [work.unproved for work in done.values() if work.unproved]
        return Rebuilt(positions, sum(work.written for work in done.values()), lost, unproved)


class PartitionRebuild:
    """The log of one partition, on its way into Postgres."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        *,
        batches: BatchStore,
        checkpoints: CheckpointStore,
        store: RecoveryStore,
        consumer: AIOKafkaConsumer,
    ) -> None:
        self.partition = partition
        self.written = 0
        self.unproved = ""
        """What has to be said of a checkpoint that is not of these rows."""
        self._settings = settings
        self._batches = batches
        self._checkpoints = checkpoints
        self._store = store
        self._consumer = consumer
        self._claim: PartitionClaim | None = None
        self._recent: dict[str, AssessmentRecord] = {}
        self._heads: dict[str, bytes] = {}
        """The hashes of the last audit rows of those."""
        self._log_end = 0
        """Above everything that was written out of the log."""

    @property
    def position(self) -> int:
        """Everything below is applied."""
        return self._claimed.next_offset

    async def run(self, owner: str, until: Until, emitted: int | None, passed: Passed) -> None:
        """Steps 1 to 5.

        Raises:
            RecoveryError: the log contradicts what is there, or somebody else took the partition.
            UnavailableError: Postgres or Kafka is away.
        """
        topic = self._settings.commands_topic
        self._claim = await self._batches.claim(topic, self.partition, owner=owner, epoch=None)
        try:
            deletions = read_deletions(self._consumer, self._settings, self.partition)
            applied = [deletion async for deletion in deletions if until.admits_deletion(deletion)]
            await self._store.restore_deletions(self.partition, applied)
            async for batch in self._read(until, Deleted(applied), passed):
                await self._write(batch)
            await self._finish(emitted or 0)
            await self._prove(until)
        except FencedError as error:
            raise RecoveryError(
                f"{error}: a worker or another replay runs on this database; stop it, and run this again: it goes on"
                " where it was"
            ) from error

    async def _read(self, until: Until, deleted: Deleted, passed: Passed) -> AsyncIterator[list[LogItem]]:
        """The log in batches."""
        batch: list[LogItem] = []
        size, seen = 0, set[str]()
        log = read_log(self._consumer, self._settings, self.partition, start=self.position, passed=passed)
        async for item in log:
            if not until.admits(self.partition, item) or deleted.has(item):
                continue
            if batch and (len(batch) == _ITEMS or size > _BYTES or is_rebirth(item, seen)):
                yield batch
                batch, size, seen = [], 0, set()
            batch.append(item)
            size += len(getattr(item, "value", None) or b"")
            if isinstance(item, LoggedEvent):
                seen.add(item.event.assessment_id)
        if batch:
            yield batch

    async def _write(self, batch: Sequence[LogItem]) -> None:
        """Commit a batch with the position that it reaches."""
        end = batch[-1].offset + 1
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                changes, heads = await self._commit(batch, end)
                break
            except StaleViewError as error:
                if attempt == _ATTEMPTS:
                    raise RecoveryError(
                        f"the commands {batch[0].offset} to {end - 1} of partition {self.partition} do not fit what"
                        f" Postgres has ({error}): replay into an empty database, or into a side schema (--schema)"
                    ) from error
        self._claim = replace(self._claimed, next_offset=end)
        self._log_end = end
        self._remember(changes.after, heads)
        self.written += len(batch)

    async def _commit(self, batch: Sequence[LogItem], end: int) -> tuple[BatchChanges, dict[str, bytes]]:
        """Write a batch in one transaction; return its changes, and the hashes that its assessments end with."""
        async with self._batches.transaction({self._claimed: end}) as transaction:
            ids = touched(batch)
            states = {key: self._recent[key] for key in ids if key in self._recent}
            states |= await transaction.load(ids - states.keys())
            gone = reborn(batch, states)
            await transaction.forget(self._settings.commands_topic, gone)
            changes = fold_items(batch, {key: state for key, state in states.items() if key not in gone})
            await transaction.forget_outdated(changes)
            before = {key: self._heads[key] for key in ids & self._heads.keys()}
            heads = await transaction.write({self.partition: changes}, before)
        return changes, heads

    async def _finish(self, emitted: int) -> None:
        """Move the position past commands that came to nothing, and note what is published.

        A database that is ahead of the log has something to publish yet: its position says nothing about that.
        """
        published = max(self._claimed.emitted_offset, self._log_end, emitted)
        if published > self.position:
            async with self._batches.transaction({self._claimed: published}):
                pass
        end = max(self.position, published)
        self._claim = replace(self._claimed, next_offset=end, emitted_offset=published)
        await self._batches.record_emitted(self._claimed)

    async def _prove(self, until: Until) -> None:
        """Keep the checkpoints that speak of these rows, up to the first that does not."""
        published = await read_checkpoints(self._consumer, self._settings, self.partition)
        admitted = [checkpoint for checkpoint in published if until.admits_checkpoint(checkpoint)]
        wrong = await self._checkpoints.restore(self._claimed, admitted)
        if wrong is not None:
            self.unproved = (
                f"partition {self.partition}: checkpoint {wrong.sequence} on {self._settings.checkpoints_topic} does"
                " not follow on the one before, or was signed over other rows: it and those after it are left out;"
                " compare the topic with an export of the checkpoints before a worker is started"
            )

    def _remember(self, states: Mapping[str, AssessmentRecord], heads: Mapping[str, bytes]) -> None:
        for key, state in states.items():
            self._recent.pop(key, None)
            self._recent[key] = state
        self._heads |= heads
        while len(self._recent) > _RECENT_STATES:
            oldest = next(iter(self._recent))
            del self._recent[oldest], self._heads[oldest]

    @property
    def _claimed(self) -> PartitionClaim:
        if self._claim is None:
            raise RuntimeError(f"partition {self.partition} is used before it is claimed")
        return self._claim


async def announce(settings: Settings, progress: Progress, *, events_only: bool = False) -> None:
    """Tell how long the log, or what it has of events, is, and see that it is there.

    Raises:
        RecoveryError: topics are missing.
    """
    async with open_consumer(settings) as consumer:
        topics = await consumer.topics()
        told = (settings.events_topic, settings.rejections_topic)
        others = (settings.dead_letters_topic, settings.deletions_topic, settings.checkpoints_topic)
        names = (*told, *others, settings.commands_topic)
        if missing := [name for name in names if name not in topics]:
            raise RecoveryError(
                f"Kafka has no topic {', '.join(missing)}: there is nothing to replay from; where Kafka was lost and"
                " Postgres was not, run assessmentstore replay --to-kafka"
            )
        total = 0
        for name in told[:1] if events_only else told:
            total += sum(end - first for first, end in await bounds(consumer, name, settings.topic_partitions))
    progress.expect(total)


async def _lost_commands(settings: Settings, positions: Mapping[int, int]) -> list[str]:
    """What Kafka no longer has, or has not yet, of the commands that come next."""
    async with open_consumer(settings) as consumer:
        found = await bounds(consumer, settings.commands_topic, settings.topic_partitions)
    lost = []
    for partition, (first, end) in enumerate(found):
        position = positions[partition]
        if first > position:
            lost.append(
                f"partition {partition}: the commands {position} to {first - 1} are gone from Kafka (retention), and"
                " with them what was committed but not published; to go on without them: UPDATE command_offsets"
                f" SET next_offset = {first}, emitted_offset = {first} WHERE topic = '{settings.commands_topic}' AND"
                f" partition = {partition}"
            )
        elif end < position:
            lost.append(
                f"partition {partition}: the topic of the commands ends at {end}, and {position} comes next: it was"
                " made anew; run assessmentstore replay --to-kafka, which brings it to where it has to be"
            )
    return lost
