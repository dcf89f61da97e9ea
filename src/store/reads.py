"""The read side: point reads through the layers, and the outcome of a command.

How fresh a layer is, it has to tell itself. Memory keeps what never changes again. Redis is asked for its position
together with the state; Postgres on the very connection that reads. A layer that cannot tell is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Protocol

from ..models.assessment import UNCHANGING_STATES, AssessmentRecord
from ..models.errors import Rejection, UnavailableError
from ..models.events import event_from_json
from ..models.positions import Positions
from ..models.sealed import is_same_content
from ..telemetry import CACHE_READS, READS
from .cache import MemoryCache, SharedCache
from .encryption import NO_KEYS, KeyRing
from .past import fold
from .postgres import Connection, Pool, postgres_errors, record_from_row
from .queries import QUERIES
from .routing import ReadRouter
from .rows import rejection_from_row

# A cache that answers fewer than one in five is passed over; one in sixteen questions tells whether it still does.
_WORTH_ASKING = 0.2
_ASKED_ALL_THE_SAME = 16
_WEIGHT = 0.05


class StateSource(Protocol):
    """Where a state can be had."""

    async def get(
        self, assessment_id: str, *, min_version: int = 0, positions: Positions | None = None
    ) -> AssessmentRecord | None:
        """The state, at `min_version` or later where the source can tell, and never older than `positions`.

        Raises:
            StaleError: nobody has applied that much yet.
            UnavailableError: nobody who knows it answers.
        """


class HitRate:
    """The share of the last questions that a cache could answer, and whether it is worth asking."""

    def __init__(self) -> None:
        self._share = 1.0
        self._passed_over = 0

    def note(self, *, hit: bool) -> None:
        """Take note of an answer."""
        self._share += (hit - self._share) * _WEIGHT

    def is_worth_asking(self) -> bool:
        """Whether it answers often enough; now and then it is asked all the same, as that changes."""
        if self._share >= _WORTH_ASKING:
            return True
        self._passed_over = (self._passed_over + 1) % _ASKED_ALL_THE_SAME
        return self._passed_over == 0


class StateReader:
    """Memory, Redis, a replica, the primary; what is found below fills what is above.

    While Redis seldom has what is asked for, the primary is asked at once, and Redis only where that does not answer:
    on a busy machine the way to Redis and back takes as long as the way to Postgres. A replica is not asked in its
    place: what was changed a moment ago is in Redis, and may not be there.
    """

    def __init__(self, router: ReadRouter, cache: SharedCache, keys: KeyRing = NO_KEYS) -> None:
        self._router = router
        self._cache = cache
        self._keys = keys
        self._memory = MemoryCache()
        self._hits = HitRate()
        self._generation: bytes | None = None
        self._fillings: set[asyncio.Task[None]] = set()

    async def get(
        self, assessment_id: str, *, min_version: int = 0, positions: Positions | None = None
    ) -> AssessmentRecord | None:
        """One assessment; where a layer has an older version than asked for, the next one is asked.

        Raises:
            StaleError: nobody has applied that much, not even after a moment.
            UnavailableError: no cache has it, and Postgres is away.
        """
        state = self._memory.get(assessment_id)
        if state is not None:
            CACHE_READS.labels("memory", "hit").inc()
            READS.labels("memory").inc()
            return self._keys.open_record(state)
        asked = assessment_id, min_version, positions
        if self._router.has_replicas or self._hits.is_worth_asking():
            state = await self._from_redis(*asked) or await self._from_postgres(*asked)
        else:
            self._generation = None  # what Redis is not asked for, it is not filled with
            try:
                state = await self._from_postgres(*asked)
            except UnavailableError:
                state = await self._from_redis(*asked)
                if state is None:
                    raise
        if state is None:
            return None
        # Memory keeps it as it came: encrypted.
        self._memory.set(state)
        return self._keys.open_record(state)

    async def bulk_get(self, assessment_ids: Collection[str]) -> Mapping[str, AssessmentRecord]:
        """Those of several assessments that Redis has, perhaps not the newest.

        Raises:
            UnavailableError: Redis is away.
        """
        found = await self._cache.bulk_get(assessment_ids)
        return {key: self._keys.open_record(state) for key, state in found.items() if self._keys.has_keys_of(state)}

    def forget(self, assessment_ids: Collection[str]) -> None:
        """Take note that assessments were deleted."""
        for assessment_id in assessment_ids:
            self._memory.invalidate(assessment_id)

    def forget_all(self) -> None:
        """Take note that any assessment may have been deleted."""
        self._memory.clear()

    async def final_states(self, assessment_ids: Collection[str]) -> list[AssessmentRecord]:
        """Those of several assessments that have ended, from the primary: a replica would make waits last longer.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._router.primary.fetch(QUERIES["final_states"], list(assessment_ids))
        return [self._keys.open_record(record_from_row(row)) for row in rows]

    async def settle(self) -> None:
        """Wait until what was found below is filled in above."""
        if self._fillings:
            await asyncio.wait(self._fillings)

    async def _from_redis(
        self, assessment_id: str, min_version: int, positions: Positions | None
    ) -> AssessmentRecord | None:
        """The state, where it is there; nothing while Redis is away."""
        try:
            state, self._generation = await self._cache.get(assessment_id, positions)
        except UnavailableError:
            CACHE_READS.labels("redis", "unavailable").inc()
            self._generation = None
            return None
        if state is not None and not self._keys.has_keys_of(state):
            state = None  # it may be older than a rotation that Postgres has seen
        CACHE_READS.labels("redis", "miss" if state is None else "hit").inc()
        self._hits.note(hit=state is not None)
        if state is None or state.version < min_version:
            return None
        READS.labels("redis").inc()
        return state

    async def _from_postgres(
        self, assessment_id: str, min_version: int, positions: Positions | None
    ) -> AssessmentRecord | None:
        """The state, which is filled into the generation of Redis that was known before."""
        generation = self._generation
        state, from_primary = await self._router.read(
            partial(_get_state, assessment_id),
            positions,
            enough=lambda found: found is not None and found.version >= min_version,
        )
        if state is None or not (from_primary or state.state in UNCHANGING_STATES):
            # What a replica has may be old: a Redis that has just lost the newer version would keep it for minutes.
            return state
        if generation is not None:
            filling = asyncio.create_task(self._fill(state, generation))
            self._fillings.add(filling)
            filling.add_done_callback(self._fillings.discard)
        return state

    async def _fill(self, state: AssessmentRecord, generation: bytes) -> None:
        """Fill Redis for the next reader: this one does not wait for it."""
        with suppress(UnavailableError):
            await self._cache.bulk_set([state], generation)


async def _get_state(assessment_id: str, connection: Connection) -> AssessmentRecord | None:
    row = await connection.fetchrow(QUERIES["get_state"], assessment_id)
    return None if row is None else record_from_row(row)


class OutcomeReader:
    """What became of a command, by its id: the same answer however late it is asked."""

    def __init__(self, pool: Pool, keys: KeyRing = NO_KEYS) -> None:
        self._pool = pool
        self._keys = keys

    async def get(self, command_id: str, fingerprint: bytes) -> AssessmentRecord | Rejection | None:
        """The state right after the command, or why it was refused, or nothing where it is not applied yet.

        Args:
            command_id: the idempotency key.
            fingerprint: the content asked about; another content under the same id is a mismatch.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            async with self._pool.acquire() as connection:
                accepted = await connection.fetchrow(QUERIES["accepted_command"], command_id)
                refused = accepted or await connection.fetchrow(QUERIES["refused_command"], command_id)
                if refused is None:
                    return None
                if not is_same_content(refused["command_fingerprint"], fingerprint):
                    return Rejection.idempotency_mismatch(command_id)
                if accepted is None:
                    return rejection_from_row(refused)
                until = accepted["assessment_id"], accepted["new_version"]
                events = await connection.fetch(QUERIES["events_of_past"], *until, None)
        states = fold(event_from_json(row["value"]) for row in events)
        return self._keys.open_record(states[-1]) if states else None
