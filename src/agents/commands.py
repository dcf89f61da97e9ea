"""One partition's commands, exactly once: how a partition is taken over, and the seven steps of a batch.

Steps 4 and 6 are shared by whatever partitions of the worker are there at the time (docs/adr/0020).

    1. Decode     records become commands; what is none becomes a dead letter
    2. Load       the states that the batch touches: from the table, else from Postgres
    3. Fold       command after command through `decide` and `evolve`
    4. Commit     one Postgres transaction, behind the fence
    5. Refresh    the table and Redis; wake and answer those who wait
    6. Publish    events, rejections, dead letters and the emitted watermark in one Kafka transaction
    7. Acknowledge

Refresh comes before publish, so that whoever has seen an event reads its state (docs/adr/0003).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import structlog

from ..models.assessment import AssessmentRecord
from ..models.errors import UnavailableError
from ..settings import Settings
from ..store.batch import BatchStore, PartitionClaim
from ..store.cache import SharedCache, changes_message
from ..store.changes import Outbox
from ..store.checkpoints import CheckpointStore
from ..store.encryption import KeyRing
from ..store.postgres import UnstorableError
from ..store.replies import reply_message
from ..store.signing import SigningKey
from ..store.table import StateTable
from ..telemetry import BATCH_SIZE, BATCH_STEP_TIME, RESUMED
from .checkpoints import Checkpoints
from .committer import Committer, Share
from .crash_points import CrashPoint, CrashPoints
from .fold import Decoded, Folded, Record, dead_letter, decode
from .observe import observe_batch
from .publisher import Publisher, Publishers

log = structlog.get_logger(__name__)

# Offsets that are read back from the audit trail at once, when a view is caught up or events are published late.
_CATCH_UP_OFFSETS = 5000

_STEPS = {name: BATCH_STEP_TIME.labels(name) for name in ("decode", "commit", "refresh", "publish")}

# A table that is further behind is not worth catching up: it starts empty and fills from Postgres as needed.
_CATCH_UP_LIMIT = 100_000


class PartitionProcessors:
    """What applies the commands of a worker's partitions in one generation of the consumer group."""

    def __init__(  # noqa: PLR0913 - all that a batch touches, each by its name
        self,
        settings: Settings,
        *,
        owner: str,
        store: BatchStore,
        cache: SharedCache,
        open_table: Callable[[int], StateTable],
        checkpoints: CheckpointStore,
        signing_key: SigningKey | None,
        keys: KeyRing,
        crash_points: CrashPoints,
        tell: Callable[[Mapping[str, AssessmentRecord]], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.owner = owner
        self.store = store
        self.cache = cache
        self.crash_points = crash_points
        self.tell = tell
        # Without keys nothing is asked for each command.
        self.keys = keys or None
        self.committer = Committer(
            store, keys=keys, retries=settings.retry_policy, batch_size=settings.batch_size, crash_points=crash_points
        )
        self.publishers = Publishers(settings, crash_points)
        self._open_table = open_table
        self._checkpoints = checkpoints
        self._signing_key = signing_key

    def new(self, partition: int) -> PartitionProcessor:
        """What applies the commands of a partition."""
        checkpoints = Checkpoints(
            self._checkpoints,
            partition,
            key=self._signing_key,
            interval=self.settings.audit_checkpoint_interval,
            crash_points=self.crash_points,
        )
        return PartitionProcessor(self, partition, self._open_table(partition), checkpoints)

    async def close(self) -> None:
        """Let go of the producer, once the lanes have ended."""
        await self.committer.close()
        await self.publishers.close()


class PartitionProcessor:
    """Applies the commands of one partition, from the moment it is claimed."""

    def __init__(
        self, shared: PartitionProcessors, partition: int, table: StateTable, checkpoints: Checkpoints
    ) -> None:
        self._shared = shared
        self._partition = partition
        self._table = table
        self._checkpoints = checkpoints
        self._publisher: Publisher | None = None
        self._claim: PartitionClaim | None = None
        self._cache_position: int | None = None
        """Where Redis stands, as far as this worker knows."""
        self._committed_from = 0
        """Where the last committed batch began."""
        self._published = False
        """Whether everything committed is published."""
        self._is_cautious = False
        """Whether the next batch goes alone: what made it fail would make others fail."""

    @property
    def next_offset(self) -> int:
        """Everything below is applied, published and refreshed."""
        return self._claimed.next_offset

    async def claim(self) -> None:
        """Take the partition over: fence the one before, then finish what it left between commit and publish.

        Raises:
            FencedError: somebody else took the partition since this processor had it.
            UnavailableError: Postgres or Kafka is away.
        """
        self._published, self._is_cautious = False, self._claim is not None
        publisher = self._publisher = await self._shared.publishers.current()
        epoch = None if self._claim is None else self._claim.epoch
        self._claim = await self._shared.store.claim(
            self._shared.settings.commands_topic,
            self._partition,
            owner=self._shared.owner,
            epoch=epoch,
            producer=publisher.name,
        )
        self._shared.crash_points.reach(CrashPoint.CLAIMED)
        # The order is the argument: once the claim before cannot commit any more, and every producer that its owners
        # have named cannot publish any more, neither the applied position nor the watermark can move.
        await self._shared.publishers.fence(self._claim.former_producers)
        await self._catch_up_table()
        await self._catch_up_cache()
        await self._resume()
        await self._shared.store.forget_former_producers(self._claim, publisher.name)
        self._shared.crash_points.reach(CrashPoint.RESUMED)

    async def apply(self, records: Sequence[Record]) -> None:
        """Apply a batch of records; those that are applied already are passed over.

        Raises:
            FencedError: somebody else owns the partition; nothing was written.
            UnavailableError: a service is away; claim again, and go on at `next_offset`.
        """
        with _STEPS["decode"].time():
            position = self.next_offset
            batch = [decode(record, self._shared.keys) for record in records if record.offset >= position]
        self._shared.crash_points.reach(CrashPoint.DECODED)
        if batch:
            await self._apply(batch, records)
            self._is_cautious = False
            await self._checkpoints.make_due(self._claimed, self._publishing)

    async def maintain(self) -> None:
        """In a quiet moment let Redis catch up, keep the emitted watermark where it does not expire; make a checkpoint.

        Raises:
            UnavailableError: Postgres is away.
        """
        if self._cache_position != self._claimed.next_offset:
            await self._catch_up_cache()
        if self._claimed.emitted_offset < self._claimed.next_offset and self._published:
            self._claim = replace(self._claimed, emitted_offset=self._claimed.next_offset)
            await self._shared.store.record_emitted(self._claim)
        await self._checkpoints.make_due(self._claimed, self._publishing)

    async def _apply(self, batch: Sequence[Decoded], records: Sequence[Record]) -> None:
        """Steps 2 to 6; where Postgres refuses a value, each half on its own, down to the record that is at fault."""
        try:
            folded = await self._commit(batch)
        except UnstorableError as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._apply(batch[:half], records)
                await self._apply(batch[half:], records)
                return
            batch = [_unstorable(batch[0], records, error)]
            folded = await self._commit(batch)
        end = batch[-1].offset + 1
        await self._refresh(folded, end)
        with _STEPS["publish"].time():
            await self._publish(folded, end)
        self._shared.tell(folded.changes.after)
        observe_batch(batch, folded)

    async def _commit(self, batch: Sequence[Decoded]) -> Folded:
        """Steps 2 to 4.

        Raises:
            UnstorableError: Postgres refuses a value, or its own rows contradict each other.
        """
        share = Share(self._claimed, self._table, batch)
        with _STEPS["commit"].time():
            folded = await self._shared.committer.commit(share, alone=self._is_cautious)
        self._published = False
        self._committed_from = self._claimed.next_offset
        self._claim = replace(self._claimed, next_offset=share.end)
        self._shared.crash_points.reach(CrashPoint.COMMITTED)
        BATCH_SIZE.observe(len(batch))
        return folded

    async def _refresh(self, folded: Folded, end: int) -> None:
        """Step 5: bring the table and Redis up to the commit, wake waiters, and answer."""
        with _STEPS["refresh"].time():
            after = folded.changes.after
            values = {key: state.to_json() for key, state in after.items()}
            self._table.apply(values, position=end, records=after, heads=folded.heads)
            self._shared.crash_points.reach(CrashPoint.TABLE_WRITTEN)
            messages = [reply_message(header, outcome) for header, outcome in folded.replies]
            if after:
                messages.append(changes_message(after.values()))
            states = {key: (state.version, values[key]) for key, state in after.items()}
            created = [key for key, before in folded.changes.before.items() if before is None]
            try:
                self._cache_position = await self._shared.cache.reflect(
                    self._partition,
                    start=self._committed_from,
                    end=end,
                    states=states,
                    created=created,
                    messages=messages,
                )
            except UnavailableError:
                self._cache_position = None
        if self._cache_position not in (None, end):
            await self._catch_up_cache()
        self._shared.crash_points.reach(CrashPoint.REFRESHED)

    async def _publish(self, folded: Folded, end: int) -> None:
        """Step 6."""
        await self._publish_outbox(folded.changes.outbox(), end)
        self._published = True
        self._shared.crash_points.reach(CrashPoint.PUBLISHED)

    async def _publish_outbox(self, outbox: Outbox, end: int) -> None:
        await self._publishing.publish(self._partition, outbox, end, alone=self._is_cautious)

    async def _resume(self) -> None:
        """Publish what was committed but not published, before anything new."""
        claim, published = self._claimed, await self._publishing.watermarks(self._partition)
        watermark = published.emitted or 0
        if watermark > claim.next_offset:
            raise UnavailableError(
                f"Postgres has applied the commands of partition {self._partition} below {claim.next_offset}, and what"
                f" came of those below {watermark} is published: to apply them again would publish it twice; stop the"
                " workers and run assessmentstore replay, which restores Postgres from Kafka"
            )
        position = max(watermark, claim.emitted_offset)
        for end in _steps(position, claim.next_offset):
            await self._publish_outbox(await self._shared.store.outbox(self._partition, position, end), end)
            RESUMED.inc(end - position)
            position = end
        self._published = True
        await self._checkpoints.resume(self._publishing, published.checkpoints)

    async def _catch_up_table(self) -> None:
        """Bring the table to the claimed position, or start it empty."""
        position, end = self._table.position, self._claimed.next_offset
        if position is None or position > end or end - position > _CATCH_UP_LIMIT:
            self._table.clear()
            self._table.apply({}, position=end)
            return
        for step in _steps(position, end):
            changed = await self._shared.store.changed_since(self._partition, position, step)
            self._table.apply({key: state.to_json() for key, state in changed.items()}, position=step)
            position = step

    async def _catch_up_cache(self) -> None:
        """Bring Redis to the claimed position, from wherever it is; while it is away, nothing."""
        end = self._claimed.next_offset
        try:
            position = await self._shared.cache.reflect(self._partition, start=end, end=end, states={})
            if position > end:
                await self._shared.cache.forget_position(self._partition)
            for step in _steps(position, end):
                changed = await self._shared.store.changed_since(self._partition, position, step)
                states = {key: (state.version, state.to_json()) for key, state in changed.items()}
                await self._shared.cache.reflect(
                    self._partition,
                    start=position,
                    end=step,
                    states=states,
                    messages=[changes_message(changed.values())],
                )
                position = step
            self._cache_position = end
        except UnavailableError as error:
            self._cache_position = None
            log.debug("Redis is not caught up", partition=self._partition, why=str(error))

    @property
    def _claimed(self) -> PartitionClaim:
        if self._claim is None:
            raise RuntimeError(f"partition {self._partition} is used before it is claimed")
        return self._claim

    @property
    def _publishing(self) -> Publisher:
        if self._publisher is None:
            raise RuntimeError(f"partition {self._partition} is used before it is claimed")
        return self._publisher


def _steps(position: int, end: int) -> Iterator[int]:
    """The ends of the pieces from `position` to `end`."""
    while position < end:
        position = min(position + _CATCH_UP_OFFSETS, end)
        yield position


def _unstorable(decoded: Decoded, records: Sequence[Record], error: UnstorableError) -> Decoded:
    """A record that Postgres refuses for a reason that no rule of ours foresaw."""
    record = next(record for record in records if record.offset == decoded.offset)
    return decoded._replace(item=dead_letter(record, f"Postgres refuses it: {error}"))
