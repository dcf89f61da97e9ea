"""The four rules of the lanes (docs: faust.md, R1 to R4), on the real lanes and the real consumer, without services.

R1  what a fetch brings for a flow that has ended is fetched again, never dropped
R2  the emitted watermark is out of reach of the consumer's own commits (test_agents_watermark.py)
R3  the flow is stopped before lanes are ended, and a late batch of an old flow starts nothing
R4  a batch that begins beyond the applied position is never applied
"""

# ruff: noqa: ARG002, ASYNC109 - the fakes have the parameters of what they stand in for

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from tests.harness.waiting import eventually

from assessmentstore.agents.batches import BatchConsumer
from assessmentstore.agents.crash_points import CrashPoints
from assessmentstore.agents.fold import Record
from assessmentstore.agents.lanes import Lane, Lanes, RecordBatch
from assessmentstore.models.errors import UnavailableError
from assessmentstore.store.batch import FencedError

TOPIC = "assessment.commands"


class Partition:
    """A log of commands, a consumer's position on it, and what was applied."""

    def __init__(self, size: int = 20) -> None:
        self.log = [
            SimpleNamespace(offset=offset, timestamp=0, key=b"k", value=b"", headers=()) for offset in range(size)
        ]
        self.position = 0
        self.first = 0
        """The first offset that the topic still has."""
        self.seeks: list[int] = []
        self.applied: list[int] = []
        self.claims = 0
        self.rejoins = 0
        self.member = True
        self.trouble: list[Exception] = []
        """Raised by the next batches, in this order."""
        self.hold = asyncio.Event()
        self.hold.set()

    # What a lane needs of a processor.

    @property
    def next_offset(self) -> int:
        return len(self.applied)

    async def claim(self) -> None:
        self.claims += 1

    async def apply(self, records: Sequence[Record]) -> None:
        await self.hold.wait()
        if self.trouble:
            raise self.trouble.pop(0)
        self.applied += [record.offset for record in records if record.offset >= self.next_offset]

    async def maintain(self) -> None:
        return None

    # What a lane needs of what its generation shares.

    def new(self, partition: int) -> Partition:
        return self

    async def close(self) -> None:
        return None

    # What a lane needs of the consumer.

    async def confirm_membership(self, generation: int) -> bool:
        return self.member

    def check_partitions(self) -> None:
        """They never change."""

    async def bounds(self, partition: int) -> tuple[int, int]:
        return self.first, len(self.log)

    async def seek_to(self, partition: int, offset: int) -> None:
        self.seeks.append(offset)
        self.position = offset

    async def rejoin(self) -> None:
        self.rejoins += 1

    def take(self, count: int) -> list[Any]:
        """What a fetch brings: it moves the consumer's position."""
        taken = self.log[self.position : self.position + count]
        self.position += len(taken)
        return taken


class Consumer(BatchConsumer):
    """The real one, on a fake thread."""

    def __init__(self, partition: Partition, lanes: Lanes) -> None:
        self.partition = partition
        self.calls: list[str] = []
        self.app = SimpleNamespace(  # type: ignore[assignment]
            lanes=lanes,
            commands_topic=TOPIC,
            settings=SimpleNamespace(batch_size=4),
            crash_points=CrashPoints(""),
            consumer_generation_id=1,
            flow_control=SimpleNamespace(
                suspend=lambda: self.calls.append("suspend"), clear=lambda: self.calls.append("clear")
            ),
        )
        self._applied = {}
        self.during_fetch: Callable[[], Any] | None = None

    def highwater(self, tp: Any) -> int:
        return len(self.partition.log)

    async def seek_to(self, partition: int, offset: int) -> None:
        await self.partition.seek_to(partition, offset)

    async def _getmany(self, active_partitions: Any, timeout: float) -> dict[Any, Any]:
        records = self.partition.take(8)
        if self.during_fetch is not None:
            happening, self.during_fetch = self.during_fetch, None
            await happening()
        return {TP(TOPIC, 0): records} if records else {}

    async def callback(self, message: Any) -> None:
        self.app.lanes.put(message.partition, message.value)

    async def fetch(self) -> None:
        """One round of `_drain_messages`."""
        if wanting := self.app.lanes.wanting:
            await self._fetch(wanting)

    async def fetch_all(self) -> None:
        """Fetch until everything is applied."""

        async def probe() -> bool:
            await self.fetch()
            return len(self.partition.applied) >= len(self.partition.log)

        await eventually(probe, "everything applied")


@asynccontextmanager
async def flowing(partition: Partition, consumer: type[Consumer] = Consumer) -> AsyncIterator[tuple[Consumer, Lane]]:
    """A lane that has claimed its partition, and its consumer."""
    bugs: list[BaseException] = []

    async def on_bug(error: BaseException) -> None:
        bugs.append(error)

    lanes = Lanes(lambda: partition, on_bug, batch_size=4)
    lanes.open([0], 1, partition)
    await until(lambda: lanes.current[0].flowing)
    yield consumer(partition, lanes), lanes.current[0]
    partition.hold.set()
    await lanes.close()
    assert bugs == []


async def until(condition: Callable[[], Any]) -> None:
    async def probe() -> bool:
        return bool(condition())

    await eventually(probe, "the condition")


async def test_all_records_are_applied_once_and_in_order() -> None:
    partition = Partition()
    async with flowing(partition) as (consumer, _):
        await consumer.fetch_all()

    assert partition.applied == list(range(20))


@pytest.mark.parametrize(
    ("pieces", "batches"), [((1, 1, 1, 2), [[0], [1, 2, 3, 4]]), ((1, 3, 2), [[0], [1, 2, 3], [4, 5]])]
)
async def test_what_comes_while_a_batch_is_under_way_becomes_the_next_one(
    pieces: tuple[int, ...], batches: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As much of it as fits into a batch, which has four records at most here."""
    partition, applied = Partition(), []
    original = partition.apply

    async def apply(records: Sequence[Record]) -> None:
        applied.append([record.offset for record in records])
        await original(records)

    monkeypatch.setattr(partition, "apply", apply)
    async with flowing(partition) as (_, lane):
        partition.hold.clear()
        for start, end in itertools.pairwise(itertools.accumulate(pieces, initial=0)):
            lane.put(RecordBatch(lane.flow, start, partition.log[start:end]))
            await until(lambda: applied)
        partition.hold.set()
        await until(lambda: len(applied) == len(batches))

    assert applied == batches


async def test_what_was_skipped_between_two_pieces_is_fetched_again() -> None:
    partition = Partition()
    async with flowing(partition) as (consumer, lane):
        partition.hold.clear()
        flow = lane.flow
        lane.put(RecordBatch(flow, 0, partition.log[:1]))
        lane.put(RecordBatch(flow, 1, partition.log[1:2]))
        lane.put(RecordBatch(flow, 3, partition.log[3:4]))
        partition.hold.set()
        await until(lambda: lane.flow != flow and lane.flowing)
        await consumer.fetch_all()

    assert partition.applied == list(range(20))


class Dropping(Consumer):
    """R1 broken: what came for another flow is let fall."""

    async def _fetch(self, wanting: dict[int, Lane]) -> None:
        flows = {partition: lane.flow for partition, lane in wanting.items()}
        for tp, records in (await self._getmany(active_partitions=set(), timeout=0)).items():
            lane = self.app.lanes.current[tp.partition]
            if lane.flow == flows[tp.partition]:
                await self._hand_over(lane, tp, records)


@pytest.mark.parametrize(("consumer_class", "complete"), [(Consumer, True), (Dropping, False)], ids=["kept", "broken"])
async def test_r1_what_a_fetch_brings_for_an_ended_flow_is_fetched_again(
    consumer_class: type[Consumer], complete: bool
) -> None:
    """While the consumer fetches, the lane fails and begins another flow; the records belong to neither."""
    partition = Partition(size=20)
    async with flowing(partition, consumer_class) as (consumer, lane):
        await consumer.fetch()
        await until(lambda: len(partition.applied) == 8)
        flow = lane.flow

        async def a_batch_fails() -> None:
            # The batch was fetched before; its failure makes the lane claim and seek while the next fetch is under way.
            partition.trouble.append(UnavailableError("Postgres is away"))
            lane.put(RecordBatch(lane.flow, 8, partition.log[8:9]))
            await until(lambda: lane.flow != flow and lane.flowing)
            partition.position = 16  # the fetch under way moves the position after the seek

        consumer.during_fetch = a_batch_fails
        await consumer.fetch()
        for _ in range(5):
            await consumer.fetch()
            await asyncio.sleep(0)
        await until(lambda: lane.wants_records)
        await until(lambda: partition.position == 20 and lane._waiting == deque())
        await consumer.fetch()

    assert (partition.applied == list(range(20))) is complete


async def test_r3_the_flow_is_stopped_before_lanes_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition()
    async with flowing(partition) as (consumer, _):
        calls = consumer.calls
        original = consumer.app.lanes.close

        async def close() -> None:
            calls.append("lanes closed")
            await original()

        async def commit(*_: Any) -> bool:
            calls.append("committed")
            return True

        async def revoked(self: Any, _: Any) -> None:
            calls.append("handed back")

        monkeypatch.setattr(consumer.app.lanes, "close", close)
        monkeypatch.setattr(consumer, "stop_flow", lambda: calls.append("flow stopped"))
        monkeypatch.setattr(consumer, "commit", commit)
        monkeypatch.setattr(BatchConsumer.__mro__[1], "on_partitions_revoked", revoked)

        await consumer.on_partitions_revoked({TP(TOPIC, 0)})
        told = list(calls)

    assert told == ["flow stopped", "suspend", "clear", "lanes closed", "committed", "handed back"]


async def test_r3_a_late_batch_of_an_ended_lane_starts_nothing() -> None:
    partition = Partition()
    async with flowing(partition) as (consumer, lane):
        late = RecordBatch(lane.flow, 0, partition.log[:4])
        await consumer.app.lanes.close()
        consumer.app.lanes.put(0, late)
        assert consumer.app.lanes.current == {}

        consumer.app.lanes.open([0], 2, partition)
        await until(lambda: consumer.app.lanes.current[0].flowing)
        consumer.app.lanes.put(0, late)
        assert consumer.app.lanes.current[0]._waiting == deque()

    assert partition.applied == []


async def test_r3_an_ended_lane_finishes_the_batch_under_way_and_begins_no_other() -> None:
    partition = Partition()
    async with flowing(partition) as (consumer, lane):
        partition.hold.clear()
        await consumer.fetch()
        await until(lambda: len(lane._waiting) == 1)
        closing = asyncio.create_task(consumer.app.lanes.close())
        await until(lambda: not lane.flowing)
        partition.hold.set()
        await closing

    assert partition.applied == [0, 1, 2, 3]


async def test_r4_a_batch_that_begins_beyond_the_applied_position_is_never_applied() -> None:
    partition = Partition()
    async with flowing(partition) as (consumer, lane):
        flow = lane.flow
        lane.put(RecordBatch(flow, 4, partition.log[4:8]))
        await until(lambda: lane.flow != flow and lane.flowing)
        assert partition.applied == []
        assert partition.seeks[-1] == 0

        await consumer.fetch_all()

    assert partition.applied == list(range(20))


async def test_a_lane_whose_service_is_away_claims_and_seeks_again() -> None:
    partition = Partition()
    partition.trouble = [UnavailableError("Postgres is away"), UnavailableError("Kafka is away")]
    async with flowing(partition) as (consumer, _):
        await consumer.fetch_all()

    assert partition.applied == list(range(20))
    assert partition.claims == 3


async def test_a_fenced_lane_ends_and_asks_for_a_new_generation() -> None:
    partition = Partition()
    partition.trouble = [FencedError("taken")]
    async with flowing(partition) as (consumer, lane):
        await consumer.fetch()
        await until(lambda: partition.rejoins == 1)
        await until(lambda: not lane.flowing)

    assert partition.applied == []
    assert partition.claims == 1


async def test_a_lane_claims_nothing_while_the_coordinator_does_not_count_it_in() -> None:
    """A worker that was frozen past its session must not take back what belongs to another by now."""
    partition = Partition()
    async with flowing(partition) as (consumer, lane):
        partition.member = False
        partition.trouble = [UnavailableError("Kafka has ended the transaction")]
        await consumer.fetch()
        await until(lambda: not lane.flowing)
        with pytest.raises(AssertionError):
            await eventually(lambda: _claimed_again(partition), "a claim", deadline=0.5)

    assert partition.claims == 1


async def _claimed_again(partition: Partition) -> bool:
    return partition.claims > 1


async def test_a_fetch_that_fails_is_tried_again_and_nothing_of_it_is_lost() -> None:
    """Stock Faust ends its fetcher for good on such an error, in a worker that seems to be well."""
    partition = Partition()
    async with flowing(partition) as (consumer, _):

        async def broken() -> None:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a header's name")

        consumer.during_fetch = broken
        await consumer._fetch_whatever_happens(consumer.app.lanes.wanting)
        await consumer.fetch_all()

    assert partition.applied == list(range(20))


@pytest.mark.parametrize(
    ("applied", "first", "size"), [(30, 0, 20), (5, 10, 20)], ids=["made anew", "oldest commands deleted"]
)
async def test_a_topic_that_lacks_what_comes_next_is_not_passed_over(applied: int, first: int, size: int) -> None:
    """To fetch from an offset that the topic does not have would begin somewhere else without a word."""
    partition = Partition(size=size)
    partition.applied, partition.first = list(range(applied)), first
    lanes = Lanes(lambda: partition, _no_bug, batch_size=4)

    lanes.open([0], 1, partition)
    await until(lambda: partition.claims >= 2)

    assert partition.seeks == []
    assert not lanes.ready
    partition.first, partition.log = 0, Partition(size=40).log
    await until(lambda: lanes.ready)
    await lanes.close()


async def _no_bug(error: BaseException) -> None:
    raise error
