"""The consumer that hands over whole record batches, and only to lanes that want them.

Stock Faust delivers message by message at 80 µs of CPU each; a record batch costs 3 µs a message (docs/adr/0001).
Every private part of Faust and aiokafka that is used here is pinned in pyproject.toml and checked by
`tests/contract/test_faust_hooks.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from ..models.errors import UnavailableError
from ..telemetry import ERRORS, PARTITION_LAG
from .crash_points import CrashPoint
from .lanes import Lane, RecordBatch
from .publisher import kafka_errors
from .records import install as install_record_reader

if TYPE_CHECKING:
    from .app import CommandsApp

log = structlog.get_logger(__name__)

# How long a fetch waits for records: short while a lane is busy, since it cannot join a fetch that is under way.
_FETCH_SECONDS = 0.2
_FETCH_SECONDS_WHILE_BUSY = 0.05

# How long the broker keeps a fetch that finds nothing. A claim asks for the bounds of its partition, and is answered
# when the fetch before it is: four claims of quiet partitions took six seconds with Faust's own 1.5.
_BROKER_WAIT_MILLISECONDS = 100

# How long to look away while no lane wants records.
_NOTHING_WANTED_SECONDS = 0.01

_FETCH_PAUSE_SECONDS = 0.1

# A commit of the consumer group's offset serves lag monitors only: it must not hold up a rebalance.
_COMMIT_SECONDS = 2.0


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The aiokafka consumer in its thread; unlike stock Faust it survives a broker that is away."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        install_record_reader()
        consumer = super()._create_worker_consumer(transport)
        # Commands that a producer sent in a transaction and took back are none.
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = _BROKER_WAIT_MILLISECONDS
        return consumer

    async def confirm_membership(self, generation: int) -> bool:
        """Whether the coordinator still counts this member into the generation, asked now."""
        coordinator = self._ensure_consumer()._coordinator
        if coordinator.generation != generation:
            return False
        try:
            return bool(await coordinator._do_heartbeat()) and coordinator.generation == generation
        except KafkaError as error:
            log.warning("the group coordinator does not confirm the membership", why=repr(error))
            return False

    async def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """The first offset that the topic still has, and the one after the last."""
        consumer = self._ensure_consumer()
        with kafka_errors():
            first = await consumer.beginning_offsets([partition])
            end = await consumer.end_offsets([partition])
        return first[partition], end[partition]

    def partition_count(self, topic: str) -> int | None:
        """How many partitions the topic has, as far as the consumer knows."""
        known = self._ensure_consumer()._client.cluster.partitions_for_topic(topic)
        return len(known) if known else None

    async def rejoin(self) -> None:
        """Join the group again at the next poll."""
        self._ensure_consumer()._coordinator.request_rejoin()

    async def seek_to(self, partition: TopicPartition, offset: int) -> None:
        """Fetch from an offset on; where the partition is gone meanwhile its lane is about to end."""
        try:
            self._ensure_consumer().seek(partition, offset)
        except IllegalStateError as error:
            log.info("the partition is no longer assigned", partition=partition.partition, why=str(error))

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the group's offsets for lag monitors; stock Faust ends the process when that fails."""
        assigned = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
        try:
            await asyncio.wait_for(self._ensure_consumer().commit(assigned), _COMMIT_SECONDS)
        except (KafkaError, TimeoutError) as error:
            log.info("the consumer group's offsets are committed later", why=repr(error))
            return False
        return True


class BatchConsumer(driver.Consumer):
    """Fetches for the lanes, one message to the agent for each record batch."""

    app: CommandsApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._applied: dict[TP, int] = {}

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # What lanes ask for.

    async def confirm_membership(self, generation: int) -> bool:
        """Whether the coordinator still counts this worker into the generation."""
        thread = cast(ConsumerThread, self._thread)
        return bool(await thread.call_thread(thread.confirm_membership, generation))

    async def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that a partition still has, and the one after the last.

        Raises:
            UnavailableError: Kafka is away.
        """
        thread = cast(ConsumerThread, self._thread)
        first, end = await thread.call_thread(thread.bounds, TopicPartition(self.app.commands_topic, partition))
        return first, end

    def check_partitions(self) -> None:
        """See that the topic of the commands has as many partitions as the settings say.

        Raises:
            UnavailableError: somebody gave it more, and with that moved ids to other partitions.
        """
        topic, wanted = self.app.commands_topic, self.app.settings.topic_partitions
        count = cast(ConsumerThread, self._thread).partition_count(topic)
        if count not in (None, wanted):
            raise UnavailableError(
                f"Kafka has {count} partitions of {topic}, not {wanted}: ids have moved between partitions, and no"
                f" command is applied; stop workers and producers, and make the topics anew with {wanted}"
                " (docs/recovery.md)"
            )

    async def seek_to(self, partition: int, offset: int) -> None:
        """Fetch a partition from an offset on."""
        thread = cast(ConsumerThread, self._thread)
        await thread.call_thread(thread.seek_to, TopicPartition(self.app.commands_topic, partition), offset)

    async def rejoin(self) -> None:
        """Ask the coordinator for a new generation."""
        thread = cast(ConsumerThread, self._thread)
        await thread.call_thread(thread.rejoin)

    # Fetching.

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch for the lanes until the consumer stops."""
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                wanting = self.app.lanes.wanting if self.flow_active else {}
                if wanting:
                    await self._fetch_whatever_happens(wanting)
                else:
                    await asyncio.sleep(_NOTHING_WANTED_SECONDS)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    async def _fetch_whatever_happens(self, wanting: dict[int, Lane]) -> None:
        """Fetch; where that fails, partition by partition, so that one that cannot be read holds up no other."""
        if not await self._has_fetched(wanting):
            for partition, lane in wanting.items():
                await self._has_fetched({partition: lane})

    async def _has_fetched(self, wanting: dict[int, Lane]) -> bool:
        """Fetch, and say whether that went well; what a failed fetch had in hand is fetched again."""
        try:
            await self._fetch(wanting)
        except self.consumer_stopped_errors:
            raise
        except Exception:
            ERRORS.labels("fetch").inc()
            log.exception("fetching failed and is tried again", partitions=sorted(wanting))
            for partition, lane in wanting.items():
                if lane.flowing and self.app.lanes.current.get(partition) is lane:
                    await self.seek_to(partition, lane.fetch_position)
            await asyncio.sleep(_FETCH_PAUSE_SECONDS)
            return False
        return True

    async def _fetch(self, wanting: dict[int, Lane]) -> None:
        """One fetch, never cancelled; what it brings for a flow that has ended meanwhile is fetched again."""
        flows = {partition: lane.flow for partition, lane in wanting.items()}
        partitions = {TP(self.app.commands_topic, partition) for partition in wanting}
        busy = len(wanting) < len(self.app.lanes.current)
        timeout = _FETCH_SECONDS_WHILE_BUSY if busy else _FETCH_SECONDS
        fetched = await self._getmany(active_partitions=partitions, timeout=timeout)
        for tp, records in fetched.items():
            lane = self.app.lanes.current.get(tp.partition)
            if lane is not None and lane.flowing and lane.flow == flows[tp.partition]:
                await self._hand_over(lane, TP(tp.topic, tp.partition), records)
            elif lane is not None and lane.flowing:
                await self.seek_to(tp.partition, lane.fetch_position)
        if not fetched:
            await asyncio.sleep(0)

    async def _hand_over(self, lane: Lane, tp: TP, records: Sequence[Any]) -> None:
        flow, size = lane.flow, self.app.settings.batch_size
        for first in range(0, len(records), size):
            if lane.flow != flow or not lane.flowing:
                return
            piece = records[first : first + size]
            start, lane.fetch_position = lane.fetch_position, piece[-1].offset + 1
            batch = RecordBatch(flow, start, piece, partial(self._acknowledge, tp, lane.fetch_position))
            await self.callback(self._batch_message(tp, batch))

    def _acknowledge(self, tp: TP, position: int) -> None:
        """Step 7 of a batch: let the next commit of the group's offsets tell it."""
        self._applied[tp] = position
        self.app.crash_points.reach(CrashPoint.ACKNOWLEDGED)

    def _batch_message(self, tp: TP, batch: RecordBatch) -> ConsumerMessage:
        first = batch.records[0]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            first.offset,
            first.timestamp / 1000,
            0,
            None,
            None,
            cast(bytes, batch),
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    # Rebalancing.

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Begin a lane for each partition."""
        await super().on_partitions_assigned(assigned, generation_id)
        partitions = {tp.partition for tp in assigned if tp.topic == self.app.commands_topic}
        log.info("partitions assigned", partitions=sorted(partitions), generation=generation_id)
        await self.app.lanes.close()
        if self.app.should_stop:
            return
        self.app.lanes.open(partitions, generation_id, self)
        for partition in partitions:
            PARTITION_LAG.labels(partition).set_function(partial(self._lag, partition))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop the flow, then let the lanes finish, then hand the partitions back."""
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self.app.lanes.close()
        await self.commit()
        PARTITION_LAG.clear()
        self._applied.clear()
        await super().on_partitions_revoked(revoked)

    def _lag(self, partition: int) -> int:
        """Commands on the topic that are not applied yet, as far as the last fetch told."""
        lane = self.app.lanes.current.get(partition)
        end = self.highwater(TP(self.app.commands_topic, partition))
        return 0 if lane is None or end is None else max(0, end - lane.applied_position)

    async def perform_seek(self) -> None:
        """Nothing: each lane seeks to the position that Postgres has when it claims its partition."""

    # Offsets of the consumer group, for lag monitors.

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Any:  # noqa: ARG002
        return list(self._applied)

    def _new_offset(self, tp: TP) -> int | None:
        return self._applied.pop(tp, None)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: lanes report a stuck partition themselves."""


class BatchTransport(driver.Transport):
    """The aiokafka transport with this consumer."""

    Consumer = BatchConsumer
