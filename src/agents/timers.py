"""Timers: leases that ended, and retries that are due, become commands; and who waits for too long is told.

Nothing is kept but in Postgres: each look finds what is due there, by Postgres' clock. So a restart loses none, and any
worker may fire any timer, since what it sends is the same for all (`models/timers.py`). A worker looks after the
partitions that it has, which is an economy and not what makes it right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from ..kafka import idempotent_producer
from ..models.envelope import STRUCTURED
from ..models.errors import UnavailableError
from ..models.timers import Due, Timer, timer_command
from ..settings import Settings
from ..store.timers import PAGE, Place, TimerStore
from ..telemetry import TIMERS_FIRED
from .caught_up import CaughtUp, Position
from .publisher import kafka_errors

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0

# Pages of others' timers that are passed over in one look; the next one goes on from there.
_MOST_PAGES = 20

_PAUSE_SECONDS = 2.0

_PENDING_SECONDS = 10.0
"""How often those are looked for who wait too long, where a minute is soon."""

_HEADERS = [("content-type", STRUCTURED.encode())]


class Timers:
    """Fires the timers of the partitions that this worker has."""

    def __init__(self, settings: Settings, store: TimerStore, positions: Callable[[], Mapping[int, Position]]) -> None:
        """Take what it needs.

        Args:
            settings: of this installation.
            store: where timers are looked for.
            positions: where the lanes of this worker stand.
        """
        self._settings = settings
        self._store = store
        self._positions = positions
        self._caught_up = CaughtUp()
        self._after: dict[Timer, Place | None] = dict.fromkeys(Timer)
        self._told: set[str] = set()
        self._looked_for_pending = float("-inf")

    async def run(self) -> None:
        """Look again and again, until cancelled; while a service is away, later."""
        while True:
            try:
                async with idempotent_producer(self._settings) as producer:
                    while True:
                        await self._look(producer)
                        await asyncio.sleep(_LOOK_SECONDS)
            except UnavailableError as error:
                log.warning("timers are looked for later", why=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _look(self, producer: AIOKafkaProducer) -> None:
        ready = self._caught_up.among(self._positions())
        if not ready:
            return
        ends: dict[int, int] = {}
        for timer in Timer:
            due = await self._due(timer, ready)
            ends |= await self._fire(producer, due)
            TIMERS_FIRED.labels(timer).inc(len(due))
        positions = self._positions()
        for partition in ready & positions.keys():
            # What was fired is not fired again before it could be applied.
            self._caught_up.mark(partition, positions[partition], at_least=ends.get(partition, 0))
        await self._tell_pending(ready)

    async def _due(self, timer: Timer, partitions: Collection[int]) -> list[Due]:
        """A page of what is due in some partitions, or somewhat more."""
        found: list[Due] = []
        for _ in range(_MOST_PAGES):
            page, self._after[timer] = await self._store.due(timer, self._after[timer])
            found += [due for due in page if self._partition(due.assessment_id) in partitions]
            if self._after[timer] is None or len(found) >= PAGE:
                break
        return found

    async def _fire(self, producer: AIOKafkaProducer, due: Sequence[Due]) -> dict[int, int]:
        """Put commands on the topic; returns the offset after the last one of each partition.

        Raises:
            UnavailableError: Kafka is away; it may have any of them.
        """
        now = datetime.now(UTC)
        with kafka_errors():
            sending = [
                await producer.send(
                    self._settings.commands_topic,
                    timer_command(item, now=now),
                    item.assessment_id.encode(),
                    partition=self._partition(item.assessment_id),
                    headers=_HEADERS,
                )
                for item in due
            ]
            sent = await asyncio.gather(*sending)
        for item in due:
            log.info("a timer fired", timer=str(item.timer), assessment_id=item.assessment_id, version=item.version)
        return {found.partition: found.offset + 1 for found in sent}

    async def _tell_pending(self, partitions: Collection[int]) -> None:
        """Log each assessment that waits too long, once; metrics count them."""
        clock = asyncio.get_running_loop().time()
        if clock - self._looked_for_pending < _PENDING_SECONDS:
            return
        self._looked_for_pending = clock
        found = await self._store.pending_too_long(self._settings.pending_too_long)
        own = {key for key in found if self._partition(key) in partitions}
        for key in sorted(own - self._told):
            log.warning("nobody takes up an assessment", assessment_id=key, since=found[key].isoformat())
        self._told = (self._told & found.keys()) | own

    def _partition(self, assessment_id: str) -> int:
        """Where Kafka's default partitioner puts an assessment."""
        return int((murmur2(assessment_id.encode()) & 0x7FFFFFFF) % self._settings.topic_partitions)
