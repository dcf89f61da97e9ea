"""Some assessments in Postgres written anew from the log: what an operator does who has looked at what `verify` told.

    1. Read    all events of these assessments, while no worker runs
    2. Refuse  where the log does not have all, or where Postgres has something that is not on the log yet
    3. Write   in one transaction behind the partition's fence: their rows go, and come back as a worker wrote them
    4. Forget  what caches have of them

Counters stay: they were moved by what happened, and not by whoever changed a row.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Sequence
from typing import Any

from ..models.errors import UnavailableError
from ..settings import Settings
from ..store.batch import BatchStore
from ..store.cache import SharedCache
from ..store.moment import one_moment
from ..store.postgres import Pools, open_pools
from ..store.recovery import RecoveryStore
from ..store.redis import open_redis
from .errors import RecoveryError
from .fold import Deleted, fold_items
from .log import (
    bounds,
    end_transactions,
    first_command,
    home_of,
    open_consumer,
    read_deletions,
    read_events,
    refuse_beside_workers,
    watermarks,
)
from .partitions import for_each
from .progress import Progress
from .rebuild import announce
from .records import LoggedEvent


async def mend(settings: Settings, assessment_ids: Sequence[str], progress: Progress) -> dict[str, Any]:
    """Write assessments anew, and say of each which version it has; nothing of one that the log does not know.

    Raises:
        RecoveryError: it cannot be; the message says what to do.
        UnavailableError: a service is away.
    """
    await refuse_beside_workers(settings)
    await end_transactions(settings)
    await announce(settings, progress, events_only=True)
    versions = dict[str, int | None]()
    async with open_pools(settings, application="assessmentstore replay") as pools:
        mending = _Mending(settings, pools, progress)
        await mending.refuse_unpublished()
        for partition in range(settings.topic_partitions):
            events = await mending.read(partition, set(assessment_ids))
            versions |= await mending.write(partition, events)
        unknown = sorted(set(assessment_ids) - versions.keys())
        await mending.erase(unknown)
        versions |= dict.fromkeys(unknown)
    return {"versions": dict(sorted(versions.items()))} | await _forget(settings, assessment_ids)


class _Mending:
    """Postgres and Kafka, while nobody else writes."""

    def __init__(self, settings: Settings, pools: Pools, progress: Progress) -> None:
        self._settings = settings
        self._pool = pools.write
        self._store = RecoveryStore(pools.write, settings.commands_topic)
        self._batches = BatchStore(pools.write)
        self._progress = progress
        self._owner = f"replay:{socket.gethostname()}:{os.getpid()}"

    async def refuse_unpublished(self) -> None:
        """Step 2: what is not on the log yet would be lost.

        Raises:
            RecoveryError: Postgres is ahead of the log, or behind it.
        """
        applied, noted = await self._store.positions(), await self._store.published()
        emitted = await watermarks(self._settings)
        for partition, position in applied.items():
            published = max(emitted.get(partition, 0), noted.get(partition, 0))
            if published != position:
                raise RecoveryError(
                    f"Postgres has applied the commands of partition {partition} below {position}, and what came of"
                    f" those below {published} is published: start a worker, which publishes the rest or says what is"
                    " wrong, stop it, and run this again"
                )

    async def read(self, partition: int, assessment_ids: Collection[str]) -> list[LoggedEvent]:
        """Step 1: the events of some assessments on a partition, from their creation on.

        Raises:
            RecoveryError: they are not all there.
        """
        async with open_consumer(self._settings) as consumer:
            deletions = read_deletions(consumer, self._settings, partition)
            told = [each async for each in deletions if each.assessment_id in assessment_ids]
            async for some in self._store.deletions(partition):
                told += [each for each in some if each.assessment_id in assessment_ids]
            deleted, events = Deleted(told), list[LoggedEvent]()
            async for event in read_events(consumer, self._settings, partition, passed=self._progress.passed):
                if event.event.assessment_id in assessment_ids and not deleted.has(event):
                    events.append(event)
        seen = set[str]()
        for event in events:
            key = event.event.assessment_id
            if event.event.version != 1 and key not in seen:
                raise RecoveryError(f"{key} cannot be written anew: the log does not have its beginning")
            seen.add(key)
        return events

    async def write(self, partition: int, events: Sequence[LoggedEvent]) -> dict[str, int]:
        """Step 3."""
        if not events:
            return {}
        changes = fold_items(events, {})
        claim = await self._batches.claim(self._settings.commands_topic, partition, owner=self._owner, epoch=None)
        async with self._batches.transaction({claim: claim.next_offset}) as transaction:
            await transaction.rewrite(partition, changes)
        return {key: state.version for key, state in changes.after.items()}

    async def erase(self, assessment_ids: Sequence[str]) -> None:
        """What Postgres has of assessments that the log does not know goes.

        Raises:
            RecoveryError: the log may have known them.
        """
        if not assessment_ids:
            return
        partitions = range(self._settings.topic_partitions)
        async with open_consumer(self._settings) as consumer:
            found = await bounds(consumer, self._settings.events_topic, len(partitions))
        firsts = await for_each(partitions, lambda partition: first_command(self._settings, partition))
        applied = await self._store.positions()
        begins = {each: applied.get(each, 0) if first is None else first for each, first in firsts.items()}
        async with one_moment(self._pool) as moment:
            older = await moment.older_than(begins, assessment_ids)
        if older or any(first for first, _ in found):
            names = ", ".join(sorted(older or assessment_ids))
            raise RecoveryError(f"{names} may have been there before the log begins: the log cannot say what it was")
        for key in assessment_ids:
            partition = home_of(key, len(partitions))
            claim = await self._batches.claim(self._settings.commands_topic, partition, owner=self._owner, epoch=None)
            async with self._batches.transaction({claim: claim.next_offset}) as transaction:
                await transaction.erase([key])


async def _forget(settings: Settings, assessment_ids: Sequence[str]) -> dict[str, str]:
    """Step 4."""
    try:
        async with open_redis(settings) as redis:
            await SharedCache(redis, settings.topic_prefix).evict(assessment_ids)
    except UnavailableError as error:
        return {"redis": f"it remembers what was there ({error}): run assessmentstore verify --repair"}
    return {}
