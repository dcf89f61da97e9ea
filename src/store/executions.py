"""What the executor has taken on, in Postgres: whatever becomes of a worker, it is known what has to be ended.

A row of `executions` is an attempt at an assessment. It is written before the assessment is started, and removed when
nothing is left to do: its end is on its way, or the compliance server knows that nobody waits for it any more. The row
does not say that the start was accepted; the audit trail does, by the id of the command.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

import asyncpg
import orjson

from ..models.assessment import AssessmentState
from ..models.base import JsonObject
from .postgres import Pool, postgres_errors
from .queries import QUERIES

# Rows with their requests in one answer.
_CHUNK = 200


class Stage(Enum):
    """What is to be done about an attempt."""

    TO_START = auto()
    """It is pending: start it."""
    RUNNING = auto()
    """The executor's start was accepted: carry it out."""
    ABANDONED = auto()
    """It ended without the server's word, or was deleted: tell the server."""
    OVER = auto()
    """It was completed, or retried since, or somebody else started it: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Execution:
    """An attempt that was taken on."""

    id: str
    """The beginning of the ids of its commands."""
    assessment_id: str
    attempt: int
    partition: int
    server: str
    traceparent: str
    """Of the command that made it pending, so that all that comes of it is in one trace."""

    @property
    def start_id(self) -> str:
        """The id of the command that starts it; `open_executions` looks for it."""
        return f"{self.id}:start"

    @property
    def end_id(self) -> str:
        """The id of the command that ends it, whichever that is: so it can only be ended once."""
        return f"{self.id}:end"

    def progress_id(self, version: int) -> str:
        """The id of the command that makes it this version."""
        return f"{self.id}:progress:{version}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How the assessment of an execution stands, as Postgres has it."""

    execution: Execution
    started: bool
    """Whether the executor's start was accepted."""
    state: AssessmentState | None
    """Nothing where it was deleted."""
    retry_count: int
    version: int
    progress: int
    message: str | None
    changed_at: datetime | None
    request: JsonObject
    """As it is stored, encrypted perhaps."""

    @property
    def stage(self) -> Stage:
        """What is to be done."""
        if self.state is None:
            return Stage.ABANDONED
        if self.retry_count != self.execution.attempt:
            # A server that has the next attempt already must not be told to forget the assessment.
            return Stage.OVER
        if self.state is AssessmentState.PENDING:
            return Stage.TO_START
        if not self.started or self.state is AssessmentState.COMPLETED:
            return Stage.OVER
        return Stage.RUNNING if self.state is AssessmentState.PROCESSING else Stage.ABANDONED


class ExecutionStore:
    """The table of what was taken on."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, partitions: Collection[int], servers: Sequence[str]) -> int:
        """Take on pending assessments by priority and age, at the most one for each of these servers.

        Args:
            partitions: of the commands topic; no others are looked at.
            servers: each as often as it has room.

        Returns:
            How many were taken on.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            done = await self._pool.execute(QUERIES["begin_executions"], [*partitions], [*servers], len(servers))
        return int(done.split()[-1])

    async def open(self, partitions: Collection[int], but: Collection[str]) -> list[Standing]:
        """What is taken on in some partitions, the oldest first, without those of these ids; not all at once.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["open_executions"], [*partitions], [*but], _CHUNK, None)
        return [_standing(row) for row in rows]

    async def standing(self, execution_id: str) -> Standing | None:
        """How one of them stands; nothing where somebody else has ended it.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            row = await self._pool.fetchrow(QUERIES["open_executions"], [], [], 1, execution_id)
        return None if row is None else _standing(row)

    async def end(self, execution_id: str) -> None:
        """Forget one of them.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["end_execution"], execution_id)

    async def count_pending(self) -> int:
        """The assessments that wait to be taken on, in all partitions.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            return int(await self._pool.fetchval(QUERIES["count_pending"]))


def _standing(row: asyncpg.Record) -> Standing:
    execution = Execution(
        row["id"], row["assessment_id"], row["attempt"], row["command_partition"], row["server"], row["traceparent"]
    )
    there = row["state"] is not None
    return Standing(
        execution,
        started=row["started"],
        state=AssessmentState(row["state"]) if there else None,
        retry_count=row["retry_count"] or 0,
        version=row["version"] or 0,
        progress=row["progress"] or 0,
        message=row["message"],
        changed_at=row["updated_at"],
        request=orjson.loads(row["request"]) if there else {},
    )
