"""The caches from Postgres: Redis as a whole, and the RocksDB tables of workers that are stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..models.assessment import AssessmentRecord
from ..settings import Settings
from ..store.cache import SharedCache
from ..store.postgres import open_pools
from ..store.recovery import RecoveryStore
from ..store.redis import open_redis
from ..store.table import StateTable
from .errors import RecoveryError
from .progress import Progress

Tables = Mapping[int, Sequence[StateTable]]
"""Of each partition, the tables of all workers that had it."""


async def forget_redis(settings: Settings) -> None:
    """Forget every state and position in Redis: what it has may be of a database that is lost.

    Raises:
        UnavailableError: Redis is away.
    """
    async with open_redis(settings) as redis:
        await SharedCache(redis, settings.topic_prefix).forget_all()


async def rebuild_caches(settings: Settings, progress: Progress) -> dict[str, int]:
    """Fill Redis, and the tables of the workers of this data directory, with what Postgres has; count the entries.

    Redis may be filled beside workers: no older version replaces a newer one. A table is its worker's alone.

    Raises:
        RecoveryError: a worker has its tables open.
        UnavailableError: Postgres or Redis is away.
    """
    counts = {"redisEntries": 0, "tables": 0, "tableEntries": 0}
    async with open_pools(settings, application="assessmentstore replay") as pools, open_redis(settings) as redis:
        store, cache = RecoveryStore(pools.write, settings.commands_topic), SharedCache(redis, settings.topic_prefix)
        with _open_tables(settings.data_dir) as tables:
            counts["tables"] = sum(map(len, tables.values()))
            # Positions first: what is applied after this was looked at is newer than what is told.
            positions = await store.positions()
            await cache.forget_all()
            generation = await cache.generation()
            progress.expect(await store.count())
            async for states in store.states():
                await cache.bulk_set(states, generation)
                counts["redisEntries"] += len(states)
                if tables:
                    counts["tableEntries"] += _fill(tables, states, await store.partitions_of(states), positions)
                progress.passed(len(states))
                # A cleanup begins another one: what is read next is read under that.
                generation = await cache.generation()
        for partition, position in positions.items():
            await cache.reflect(partition, start=position, end=position, states={}, may_begin=True)
    return counts


@contextmanager
def _open_tables(folder: Path) -> Iterator[Tables]:
    """Every table below a data directory, empty.

    Raises:
        RecoveryError: a worker has it open.
    """
    found: defaultdict[int, list[StateTable]] = defaultdict(list)
    with ExitStack() as stack:
        for path in sorted(folder.glob("worker-*/partition-*")):
            try:
                table = StateTable(path)
            except Exception as error:  # RocksDB's binding has no class of its own
                raise RecoveryError(
                    f"the table {path} cannot be opened ({error}): stop the worker that has it, and run this again"
                ) from error
            stack.callback(table.close)
            table.clear()
            found[int(path.name.removeprefix("partition-"))].append(table)
        yield found


def _fill(
    tables: Tables, states: Sequence[AssessmentRecord], places: Mapping[str, int], positions: Mapping[int, int]
) -> int:
    """Write states into the tables of their partitions, and count the entries."""
    by_partition: defaultdict[int, dict[str, bytes]] = defaultdict(dict)
    for state in states:
        if (partition := places.get(state.assessment_id)) is not None:
            by_partition[partition][state.assessment_id] = state.to_json()
    written = 0
    for partition, values in by_partition.items():
        for table in tables.get(partition, ()):
            table.apply(values, position=positions[partition])
            written += len(values)
    return written
