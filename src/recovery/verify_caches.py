"""Caches against Postgres: all that Redis has, and all that the tables below this data directory have.

A worker may have its table open: it is looked at as it was at one moment. What is different is looked at once more
after a moment, before it is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from ..models.comparison import Difference, Field, Store, ids_of
from ..settings import Settings
from ..store.cache import SharedCache
from ..store.encryption import KeyRing
from ..store.moment import judge_all
from ..store.postgres import Pool
from ..store.recovery import RecoveryStore
from ..store.table_view import TableView, UnreadableTableError
from ..store.truth import Copy, Judgement, Verdict
from .findings import Findings
from .progress import Progress
from .verify_log import LogCheck

_ENTRIES = 500

# A worker needs some milliseconds from Postgres to its caches; one that is frozen between the two loses its partition.
_AGAIN_SECONDS = 1.0


class Cache(Protocol):
    """Where copies are read again."""

    async def read(self, assessment_ids: Collection[str]) -> list[Copy]:
        """Those that it has of several assessments, as it is now."""


class RedisCache:
    """Redis, with what it says of itself."""

    def __init__(self, cache: SharedCache, partitions: Collection[int]) -> None:
        self._cache = cache
        self._partitions = partitions

    async def read(self, assessment_ids: Collection[str]) -> list[Copy]:
        """Positions first: an entry is at least as fresh as they were."""
        positions = await self._cache.positions(self._partitions)
        entries = await self._cache.entries(list(dict.fromkeys(assessment_ids)))
        return [Copy(key, entry.value, positions, entry.version) for key, entry in entries.items()]


class TableCache:
    """One table of one worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partition = int(path.name.removeprefix("partition-"))

    async def read(self, assessment_ids: Collection[str]) -> list[Copy]:
        """From a new look at it."""
        with closing(TableView(self.path)) as table:
            positions = {self.partition: table.position}
            return [Copy(key, value, positions) for key, value in table.values(assessment_ids).items()]


class CacheCheck:
    """One comparison of caches with Postgres."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        cache: SharedCache,
        findings: Findings,
        keys: KeyRing,
        log: LogCheck,
        progress: Progress,
    ) -> None:
        self._pool = pool
        self._cache = cache
        self._store = RecoveryStore(pool, settings.commands_topic)
        self._findings = findings
        self._keys = keys
        self._log = log
        self._progress = progress
        self.tables = sorted(settings.data_dir.glob("worker-*/partition-*"))
        self.wrong_tables: set[Path] = set()
        """Those that have something to forget."""

    async def run(self) -> None:
        """Look at Redis, then at each table.

        Raises:
            UnavailableError: Postgres or Redis is away.
        """
        await self.check_redis()
        for path in self.tables:
            await self.check_table(path)

    async def check_redis(self) -> None:
        """All entries, and the positions.

        Raises:
            UnavailableError: Postgres or Redis is away.
        """
        partitions = list(self._findings.partitions)
        redis, odd = RedisCache(self._cache, partitions), set[str]()
        positions = await self._cache.positions(partitions)
        applied = await self._store.positions()
        for number, position in positions.items():
            if position > applied.get(number, 0):
                fields = [Field("/position", applied.get(number, 0), position)]
                self._findings.add(Store.REDIS, number, None, fields)
        async for names in self._cache.scan("assessment"):
            odd |= await self._judge(Store.REDIS, await redis.read(names))
        await self._again(Store.REDIS, redis, odd)

    async def check_table(self, path: Path) -> None:
        """All entries of one table.

        Raises:
            UnavailableError: Postgres is away.
        """
        table, odd, left_over = TableCache(path), set[str](), len(self._findings.left_over[Store.ROCKSDB])
        try:
            with closing(TableView(path)) as entries:
                positions = {table.partition: entries.position}
                for piece in entries.pieces(_ENTRIES):
                    copies = [Copy(key, value, positions) for key, value in piece.items()]
                    odd |= await self._judge(Store.ROCKSDB, copies)
            await self._again(Store.ROCKSDB, table, odd)
            if odd or len(self._findings.left_over[Store.ROCKSDB]) > left_over:
                self.wrong_tables.add(path)
        except UnreadableTableError as error:
            fields = [Field(f"/{path.parent.name}/{path.name}", "a table that can be read", str(error))]
            self._findings.add(Store.ROCKSDB, table.partition, None, fields)

    async def still_wrong(self, differences: Sequence[Difference]) -> list[Difference]:
        """Those of the differences in caches that are there, once more looked at.

        Raises:
            UnavailableError: Postgres or Redis is away.
        """
        remaining = set[tuple[Store, str]]()
        redis: Cache = RedisCache(self._cache, list(self._findings.partitions))
        tables: list[Cache] = [TableCache(path) for path in sorted(self.wrong_tables)]
        for store, caches in ((Store.REDIS, [redis]), (Store.ROCKSDB, tables)):
            ids = ids_of(each for each in differences if each.store is store)
            for cache in caches if ids else ():
                judged = await judge_all(self._pool, await cache.read(ids), self._keys)
                remaining |= {(store, key) for key, each in judged.items() if each.verdict is Verdict.DIFFERENT}
        return [
            each
            for each in differences
            if (each.store, each.assessment_id) in remaining
            # A table that cannot be read: whoever owns it has to throw it away.
            or (each.store is Store.ROCKSDB and each.assessment_id is None)
        ]

    async def _judge(self, store: Store, copies: Sequence[Copy]) -> set[str]:
        """Judge copies but for those of doubtful assessments, and return those that are different."""
        copies = [copy for copy in copies if copy.assessment_id not in self._log.doubtful]
        self._progress.expect(len(copies))
        judged = await judge_all(self._pool, copies, self._keys)
        for key, judgement in judged.items():
            self._take(store, key, judgement)
        self._progress.passed(len(copies))
        return {key for key, judgement in judged.items() if judgement.verdict is Verdict.DIFFERENT}

    def _take(self, store: Store, key: str, judgement: Judgement) -> None:
        if judgement.verdict is Verdict.LEFT_OVER:
            self._findings.left_over[store].add(key)
        elif judgement.verdict is not Verdict.DIFFERENT:
            partition = self._findings.partitions[self._log.partition_of(key)]
            partition.add(store, judgement.expected, judgement.found)

    async def _again(self, store: Store, cache: Cache, odd: Collection[str]) -> None:
        """Look again at what was different, and tell what still is."""
        if not odd:
            return
        await asyncio.sleep(_AGAIN_SECONDS)
        judged = await judge_all(self._pool, await cache.read(odd), self._keys)
        for key, judgement in judged.items():
            self._take(store, key, judgement)
            if judgement.verdict is Verdict.DIFFERENT:
                number = self._log.partition_of(key)
                self._findings.partitions[number].add(store, judgement.expected, judgement.found)
                self._findings.add(store, number, key, judgement.fields)
