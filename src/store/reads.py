"""The read side: point reads through the layers, and the outcome of a command."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ..models.assessment import AssessmentRecord
from ..models.errors import Rejection, UnavailableError
from ..models.events import event_from_json
from ..models.machine import evolve
from ..telemetry import CACHE_READS
from .cache import MemoryCache, SharedCache
from .postgres import Pool, postgres_errors, record_from_row
from .queries import QUERIES
from .rows import rejection_from_row


class StateSource(Protocol):
    """Where a state can be had."""

    async def get(self, assessment_id: str, *, min_version: int = 0) -> AssessmentRecord | None:
        """The state, at `min_version` or later where the source can tell.

        Raises:
            UnavailableError: nobody who knows it answers.
        """


class StateReader:
    """Memory, then Redis, then Postgres; what is found below fills what is above."""

    def __init__(self, pool: Pool, cache: SharedCache) -> None:
        self._pool = pool
        self._cache = cache
        self._memory = MemoryCache()

    async def get(self, assessment_id: str, *, min_version: int = 0) -> AssessmentRecord | None:
        """One assessment; where a cache has an older version than `min_version`, Postgres is asked.

        Raises:
            UnavailableError: no cache has it, and Postgres is away.
        """
        state = self._memory.get(assessment_id)
        if state is not None:
            CACHE_READS.labels("memory", "hit").inc()
            return state
        state = await self._from_redis(assessment_id)
        if state is None or state.version < min_version:
            state = await self._from_postgres(assessment_id)
        if state is not None:
            self._memory.set(state)
        return state

    def forget(self, assessment_ids: Collection[str]) -> None:
        """Take note that assessments were deleted."""
        for assessment_id in assessment_ids:
            self._memory.invalidate(assessment_id)

    def forget_all(self) -> None:
        """Take note that any assessment may have been deleted."""
        self._memory.clear()

    async def final_states(self, assessment_ids: Collection[str]) -> list[AssessmentRecord]:
        """Those of several assessments that have ended, from Postgres.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["final_states"], list(assessment_ids))
        return [record_from_row(row) for row in rows]

    async def _from_redis(self, assessment_id: str) -> AssessmentRecord | None:
        try:
            state = await self._cache.get(assessment_id)
        except UnavailableError:
            CACHE_READS.labels("redis", "unavailable").inc()
            return None
        CACHE_READS.labels("redis", "miss" if state is None else "hit").inc()
        return state

    async def _from_postgres(self, assessment_id: str) -> AssessmentRecord | None:
        with postgres_errors():
            row = await self._pool.fetchrow(QUERIES["get_state"], assessment_id)
        if row is None:
            return None
        state = record_from_row(row)
        try:
            await self._cache.bulk_set([state])
        except UnavailableError:
            CACHE_READS.labels("redis", "unavailable").inc()
        return state


class OutcomeReader:
    """What became of a command, by its id: the same answer however late it is asked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

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
                if refused["command_fingerprint"] not in (None, fingerprint):
                    return Rejection.idempotency_mismatch(command_id)
                if accepted is None:
                    return rejection_from_row(refused)
                events = await connection.fetch(
                    QUERIES["events_until"], accepted["assessment_id"], accepted["new_version"]
                )
        state: AssessmentRecord | None = None
        for row in events:
            state = evolve(state, event_from_json(row["value"]))
        return state
