"""Lanes: one task for each owned partition, which takes that partition's record batches in order.

A lane lives as long as one generation of the consumer group gives this worker the partition. It claims the partition,
lets the consumer fetch from the claimed position, and applies batches. Whatever goes wrong, it does the same again:
claim, seek, apply; so there is one way back, and it is walked at every start.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from ..models.errors import UnavailableError
from ..store.batch import FencedError
from ..telemetry import ERRORS, FENCE_LOSSES, OWNED_PARTITIONS, RETRIES
from .fold import Record

log = structlog.get_logger(__name__)

# Fetches that wait for the batch under way, and become the next one: each has a megabyte at most.
_MOST_WAITING = 2

# Batches of a lane begin no closer together. What a batch costs is mostly the same for one command as for ten: where
# commands keep coming, those of this time share it; one that comes alone does not wait.
_SHORTEST_INTERVAL_SECONDS = 0.01

# A batch takes well under a second; a lane that has not ended by then is stuck on a service and is cut off.
_CLOSE_SECONDS = 5.0

# How often an idle lane looks after what can wait.
_IDLE_SECONDS = 1.0

_flows = itertools.count(1)

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


class Processor(Protocol):
    """What a lane needs of a partition."""

    @property
    def next_offset(self) -> int:
        """Where to go on."""

    async def claim(self) -> None:
        """Take the partition."""

    async def apply(self, records: Sequence[Record]) -> None:
        """Apply a batch."""

    async def maintain(self) -> None:
        """Look after what can wait."""


class Processors(Protocol):
    """What the lanes of one generation share."""

    def new(self, partition: int) -> Processor:
        """What applies the commands of a partition."""

    async def close(self) -> None:
        """Let go of what is shared."""


class Membership(Protocol):
    """What a lane needs of the consumer."""

    async def confirm_membership(self, generation: int) -> bool:
        """Whether the coordinator still counts this worker into the generation."""

    async def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that the topic still has, and the one after the last.

        Raises:
            UnavailableError: Kafka is away.
        """

    def check_partitions(self) -> None:
        """See that the topic has as many partitions as it had when ids were spread over them.

        Raises:
            UnavailableError: it has others.
        """

    async def seek_to(self, partition: int, offset: int) -> None:
        """Fetch from this offset on."""

    async def rejoin(self) -> None:
        """Ask the coordinator for a new generation."""


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one partition, as the consumer fetched them."""

    flow: int
    """The lane's flow that they were fetched for; another flow begins after every seek."""
    start: int
    """Where the lane's flow stood before these records: nothing between was skipped."""
    records: Sequence[Record]
    acknowledge: Callable[[], Any] = lambda: None

    @property
    def end(self) -> int:
        """The offset after the last record."""
        return self.records[-1].offset + 1

    def followed_by(self, other: RecordBatch) -> RecordBatch:
        """Both as one; where records between them were skipped, the other alone, which tells it by its start."""
        if other.start > self.end:
            return other
        return RecordBatch(self.flow, self.start, [*self.records, *other.records], other.acknowledge)


class Lane:
    """One partition in one generation."""

    def __init__(
        self, partition: int, generation: int, processor: Processor, membership: Membership, *, batch_size: int
    ) -> None:
        self.partition = partition
        self.generation = generation
        self._batch_size = batch_size
        self.flow = 0
        """Another one after every seek: what was fetched before it is void."""
        self.fetch_position = 0
        """The offset that the consumer fetches next for this flow."""
        self.applied_position = 0
        """The offset below which every command is applied, as far as this lane knows."""
        self.flowing = False
        self._processor = processor
        self._membership = membership
        self._waiting: deque[RecordBatch] = deque()
        self._called = asyncio.Event()
        """Something waits, or the lane is ending."""
        self._ending = asyncio.Event()
        self._applying = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether everything that was fetched is applied."""
        return self.applied_position >= self.fetch_position

    @property
    def wants_records(self) -> bool:
        """Whether the consumer should fetch for it."""
        return self.flowing and len(self._waiting) < _MOST_WAITING

    def start(self, on_bug: Callable[[BaseException], Awaitable[None]]) -> None:
        """Begin; an error that nobody foresaw goes to `on_bug`."""
        self._task = asyncio.create_task(self._guard(on_bug), name=f"lane {self.partition}")

    def put(self, batch: RecordBatch) -> None:
        """Take a fetched batch; one of an earlier flow is void, since the seek after it fetches it again."""
        if self.flowing and batch.flow == self.flow:
            self._waiting.append(batch)
            self._called.set()

    async def close(self) -> None:
        """Finish the batch under way and end; after a few seconds, end anyhow: whoever takes over resumes."""
        self.flowing = False
        self._ending.set()
        self._called.set()
        if self._task is None:
            return
        if not self._applying:
            # A claim is begun anew by whoever takes over: it is no work to wait for.
            self._task.cancel()
        done, _ = await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)
        if not done:
            log.warning("the lane is cut off in the middle of a batch", partition=self.partition)
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)

    async def _guard(self, on_bug: Callable[[BaseException], Awaitable[None]]) -> None:
        try:
            await self._run()
        except Exception as error:
            ERRORS.labels("lane_bug").inc()
            log.exception("the lane met an error that nobody foresaw", partition=self.partition)
            await on_bug(error)
        finally:
            self.flowing = False

    async def _run(self) -> None:
        pauses = _pauses()
        while not self._ending.is_set():
            try:
                if await self._claim():
                    OWNED_PARTITIONS.inc()
                    pauses = _pauses()
                    try:
                        await self._apply_batches()
                    finally:
                        OWNED_PARTITIONS.dec()
            except FencedError as error:
                FENCE_LOSSES.inc()
                log.warning("the partition belongs to another worker now", partition=self.partition, why=str(error))
                self.flowing = False
                await self._membership.rejoin()
                return
            except UnavailableError as error:
                RETRIES.labels(error.service).inc()
                log.warning("the batch is tried again", partition=self.partition, why=str(error))
            self.flowing = False
            await self._pause(next(pauses))

    async def _claim(self) -> bool:
        """Take the partition and let records flow from its position on."""
        if not await self._membership.confirm_membership(self.generation):
            return False
        self._membership.check_partitions()
        await self._processor.claim()
        await self._check_topic()
        await self._rewind()
        return True

    async def _check_topic(self) -> None:
        """See that the topic has what comes next: fetching would pass over what is not there without a word.

        Raises:
            UnavailableError: it is another topic than the one that was applied, or has lost commands; the lane waits.
        """
        position = self._processor.next_offset
        first, end = await self._membership.bounds(self.partition)
        if end < position or (first > position > 0):
            ERRORS.labels("commands_lost").inc()
            raise UnavailableError(
                f"Kafka has the commands {first} to {end - 1} of partition {self.partition}, but {position} comes next:"
                " the topic was made anew, or lost commands; restore it, or set next_offset in command_offsets"
            )

    async def _rewind(self) -> None:
        """Void what was fetched, and fetch from the applied position on."""
        self.flowing = False
        self.flow = next(_flows)
        self._waiting.clear()
        self.fetch_position = self.applied_position = self._processor.next_offset
        await self._membership.seek_to(self.partition, self.fetch_position)
        self.flowing = not self._ending.is_set()

    async def _apply_batches(self) -> None:
        clock = asyncio.get_running_loop().time
        while not self._ending.is_set():
            batch, begun = await self._next_batch(), clock()
            self._membership.check_partitions()
            if batch is None:
                await self._processor.maintain()
            elif batch.start > self._processor.next_offset:
                ERRORS.labels("skipped_batch").inc()
                log.error("a batch was skipped: fetching it again", partition=self.partition, start=batch.start)
                await self._rewind()
            else:
                self._applying = True
                try:
                    await self._processor.apply(batch.records)
                finally:
                    self._applying = False
                self.applied_position = self._processor.next_offset
                batch.acknowledge()
                await asyncio.sleep(begun + _SHORTEST_INTERVAL_SECONDS - clock())

    async def _next_batch(self) -> RecordBatch | None:
        """What waits, up to the size of a batch; nothing where nothing comes for a moment or the lane is ending."""
        if not self._waiting:
            self._called.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._called.wait(), _IDLE_SECONDS)
        if not self._waiting or self._ending.is_set():
            return None
        batch = self._waiting.popleft()
        while self._waiting and len(batch.records) + len(self._waiting[0].records) <= self._batch_size:
            batch = batch.followed_by(self._waiting.popleft())
        return batch

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._ending.wait(), seconds)
        except TimeoutError:
            return


def _pauses() -> Iterator[float]:
    """Growing pauses with jitter, so that the lanes of all workers do not knock in step."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


class Lanes:
    """The lanes of this worker."""

    def __init__(
        self,
        new_processors: Callable[[], Processors],
        on_bug: Callable[[BaseException], Awaitable[None]],
        *,
        batch_size: int,
    ) -> None:
        self._batch_size = batch_size
        self._new_processors = new_processors
        self._on_bug = on_bug
        self._processors: Processors | None = None
        self._lanes: dict[int, Lane] = {}
        self.settled = False
        """Whether the group has given this worker its partitions, be they none."""

    @property
    def current(self) -> dict[int, Lane]:
        """The lane of each partition that this worker has been given."""
        return self._lanes

    @property
    def wanting(self) -> dict[int, Lane]:
        """The lanes that the consumer should fetch for."""
        return {partition: lane for partition, lane in self._lanes.items() if lane.wants_records}

    @property
    def ready(self) -> bool:
        """Whether every partition that was given is claimed."""
        return self.settled and all(lane.flowing for lane in self._lanes.values())

    def open(self, partitions: Collection[int], generation: int, membership: Membership) -> None:
        """Begin a lane for each partition."""
        processors = self._processors = self._new_processors()
        for partition in partitions:
            lane = Lane(partition, generation, processors.new(partition), membership, batch_size=self._batch_size)
            self._lanes[partition] = lane
            lane.start(self._on_bug)
        self.settled = True

    async def close(self) -> None:
        """End all lanes, side by side, and what they share."""
        lanes, self._lanes = self._lanes, {}
        processors, self._processors = self._processors, None
        self.settled = False
        await asyncio.gather(*(lane.close() for lane in lanes.values()))
        if processors is not None:
            await processors.close()

    def put(self, partition: int, batch: RecordBatch) -> None:
        """Hand a batch to its lane, if there still is one."""
        lane = self._lanes.get(partition)
        if lane is not None:
            lane.put(batch)
