"""Checkpoints of one partition's audit trail: made when its commands are answered and published, never before."""

from __future__ import annotations

import time

import structlog

from ..store.batch import PartitionClaim
from ..store.checkpoints import MOST_ROWS, CheckpointStore
from ..store.signing import SigningKey
from ..telemetry import ERRORS
from .crash_points import CrashPoint, CrashPoints
from .publisher import Publisher

log = structlog.get_logger(__name__)


class Checkpoints:
    """Makes a checkpoint of what was committed, and publishes it once, whatever crashed between the two."""

    def __init__(
        self,
        store: CheckpointStore,
        partition: int,
        *,
        key: SigningKey | None,
        interval: float,
        crash_points: CrashPoints,
    ) -> None:
        """Take what it needs.

        Args:
            store: where checkpoints are kept.
            partition: of the commands topic.
            key: that signs; without one none is made.
            interval: seconds between two checkpoints.
            crash_points: where a fault test makes it die.
        """
        self._store = store
        self._partition = partition
        self._key = key
        self._interval = interval
        self._crash_points = crash_points
        self._reached = 0
        """No row below is new."""
        self._due_at = 0.0

    async def resume(self, publisher: Publisher, published: int | None) -> None:
        """Publish what the worker before made and did not publish.

        Args:
            publisher: of the partition, whose producer before is fenced.
            published: the watermark of checkpoints.

        Raises:
            UnavailableError: Postgres or Kafka is away.
        """
        if self._key is None:
            return
        last = (await self._store.last(self._partition)).checkpoint
        kept = 0 if last is None else last.sequence
        if published is not None and published > kept + 1:
            ERRORS.labels("checkpoints_lost").inc()
            log.error(
                "Postgres has lost signed checkpoints: compare an export with the topic before anything else",
                partition=self._partition,
                kept=kept,
                published=published - 1,
            )
        if last is not None:
            self._reached = last.end_offset
            # Where Kafka has let the watermark expire, the last is published again: in its topic it replaces itself.
            first = last.sequence if published is None else published
            if missing := await self._store.since(self._partition, first):
                await publisher.publish_checkpoints(self._partition, missing)
        self._due_at = time.monotonic() + self._interval

    async def make_due(self, claim: PartitionClaim, publisher: Publisher) -> None:
        """Make and publish a checkpoint, where it is time.

        Raises:
            FencedError: somebody else owns the partition.
            UnavailableError: Postgres or Kafka is away; claim again, which publishes what was made.
        """
        new = claim.next_offset - self._reached
        if self._key is None or not new or (new < MOST_ROWS and time.monotonic() < self._due_at):
            return
        made = await self._store.make(claim, self._key)
        self._crash_points.reach(CrashPoint.CHECKPOINTED)
        if made is not None:
            await publisher.publish_checkpoints(self._partition, [made])
        self._reached = claim.next_offset if made is None else made.end_offset
        self._due_at = time.monotonic() + self._interval
