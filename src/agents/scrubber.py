"""A slow look at everything, again and again: each assessment of this worker's partitions in all of its copies.

Every second some assessments, in the order of their creation: Postgres against the fold of its own audit trail, the
table and Redis against Postgres. What differs is looked at in the next second once more, and told when it still does;
from then on it is looked at each second until it is mended. Nothing is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import structlog

from ..models.comparison import Field, Store
from ..models.errors import UnavailableError
from ..store.background import background
from ..store.cache import SharedCache
from ..store.encryption import KeyRing
from ..store.moment import one_moment
from ..store.postgres import Pool
from ..store.table import StateTable
from ..store.truth import Copy, Truth, Verdict, compare, judge, unreadable
from ..telemetry import CORRUPTIONS, SCRUBBED

log = structlog.get_logger(__name__)

_STEP_SECONDS = 1.0

# Creations are looked for among so many commands at once, be there any or not.
_WINDOW = 5000

# Where everything is wrong, it is enough to know some of it.
_MOST_REMEMBERED = 200

# To fold a trail of many thousand events would hold up the commands: what has more is left to `verify`.
_MOST_VERSIONS = 200

OwnTables = Callable[[], Mapping[int, StateTable]]
"""The tables of the partitions that this worker has now."""


class Corruption(NamedTuple):
    """An assessment that a store does not have as it should."""

    store: Store
    partition: int
    assessment_id: str


class Scrubber:
    """Goes round, some assessments each second."""

    def __init__(self, pool: Pool, cache: SharedCache, own: OwnTables, keys: KeyRing, *, rate: int) -> None:
        """Begin at the beginning.

        Args:
            pool: for reads.
            cache: Redis.
            own: what this worker has.
            keys: that payloads are opened with.
            rate: assessments a second.
        """
        self._pool = pool
        self._cache = cache
        self._own = own
        self._keys = keys
        self._rate = rate
        self._place = (0, 0)
        """The partition and the offset that come next."""
        self._found: dict[Corruption, Sequence[Field]] = {}
        """What the last step found."""
        self._told: set[Corruption] = set()
        for store in Store:
            CORRUPTIONS.labels(store).set(0)

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            try:
                await self.step()
            except UnavailableError as error:
                log.debug("nothing is scrubbed for now", why=str(error))
            await asyncio.sleep(_STEP_SECONDS)

    async def step(self) -> None:
        """Look at the next assessments, and again at those that were found to be wrong.

        Raises:
            UnavailableError: Postgres or Redis is away.
        """
        tables = self._own()
        places = {each.assessment_id: each.partition for each in self._found if each.partition in tables}
        fresh = await self._next(sorted(tables)) if tables else {}
        places |= fresh
        found = await self._look(places, tables) if places else {}
        SCRUBBED.inc(len(fresh))
        self._tell({each: fields for each, fields in found.items() if each in self._found})
        self._found = dict(list(found.items())[:_MOST_REMEMBERED])

    async def _next(self, partitions: Sequence[int]) -> dict[str, int]:
        """Some assessments, with their partition."""
        number, offset = self._place
        if number not in partitions:
            number, offset = min((each for each in partitions if each > number), default=partitions[0]), 0
        async with one_moment(self._pool) as moment:
            created = await moment.created(number, offset, offset + _WINDOW, self._rate)
            last = await moment.trail_end(number)
        following = created[-1][1] + 1 if len(created) == self._rate else offset + _WINDOW
        self._place = (number, following) if following <= last else (number + 1, 0)
        return {assessment_id: number for assessment_id, _ in created}

    async def _look(
        self, places: Mapping[str, int], tables: Mapping[int, StateTable]
    ) -> dict[Corruption, Sequence[Field]]:
        """Caches first: Postgres is at least as fresh as they were."""
        copies = {store: await self._copies(store, places, tables) for store in (Store.REDIS, Store.ROCKSDB)}
        async with one_moment(self._pool) as moment:
            states = await moment.states(places)
            truths = {
                key: each for key, each in states.items() if not each.state or each.state.version <= _MOST_VERSIONS
            }
            await moment.add_trails(truths)
        found: dict[Corruption, Sequence[Field]] = {}
        for key, truth in truths.items():
            if fields := _against_trail(truth, self._keys):
                found[Corruption(Store.POSTGRES, places[key], key)] = fields
                continue  # who is right is for people to say: caches may have it as it was
            for store, by_id in copies.items():
                if (copy := by_id.get(key)) is not None:
                    judged = judge(copy, truth, self._keys)
                    if judged.verdict is Verdict.DIFFERENT:
                        found[Corruption(store, places[key], key)] = judged.fields
        return found

    async def _copies(
        self, store: Store, places: Mapping[str, int], tables: Mapping[int, StateTable]
    ) -> dict[str, Copy]:
        if store is Store.REDIS:
            try:
                positions = await self._cache.positions(list(tables))
                entries = await self._cache.entries(list(places))
            except UnavailableError:
                return {}
            return {key: Copy(key, entry.value, positions, entry.version) for key, entry in entries.items()}
        copies: dict[str, Copy] = {}
        for number, table in tables.items():
            ids = [key for key, partition in places.items() if partition == number]
            positions = {number: table.position or 0}
            copies |= {key: Copy(key, value, positions) for key, value in table.values(ids).items()}
        return copies

    def _tell(self, confirmed: Mapping[Corruption, Sequence[Field]]) -> None:
        """Say what was found twice, once; and count it for as long as it is there."""
        for each in confirmed.keys() - self._told:
            log.error(
                "a copy is not what it should be: run assessmentstore verify",
                **each._asdict(),
                fields=[field.pointer or "all of it" for field in confirmed[each]],
            )
        for each in self._told - confirmed.keys():
            log.info("a copy is what it should be again, or elsewhere", **each._asdict())
        self._told = set(confirmed)
        for store in Store:
            CORRUPTIONS.labels(store).set(sum(each.store is store for each in confirmed))


def scrubbing(scrubber: Scrubber) -> AbstractAsyncContextManager[None]:
    """Scrub meanwhile."""
    return background(scrubber.run)


def _against_trail(truth: Truth, keys: KeyRing) -> list[Field]:
    """Where a state is not what its trail comes to."""
    if truth.error:
        return [Field("", "a row that can be read", truth.error)]
    last = truth.rows[-1]["new_version"] if truth.rows else 0
    if truth.state is None:
        return [Field("", f"version {last}", None)] if last else []
    if not truth.rows or truth.rows[0]["new_version"] != 1:
        return []  # it was there before there were trails
    was = truth.at(last)
    if was is None:
        return [Field("/auditTrail", "events that follow on each other", "others")]
    return [*compare(was, truth.state).fields, *unreadable(truth.state, keys)]
