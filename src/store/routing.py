"""Reads of Postgres: on a replica that is well and fresh enough, else on the primary.

How fresh is for the reader to say: whoever names positions on the commands topic gets an answer that reflects them, or
is told how far away it is. Whoever names none may miss what a replica lags behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Generic, NamedTuple, TypeVar

import asyncpg

from ..models.errors import StaleError, UnavailableError
from ..models.positions import Positions
from ..telemetry import READ_FALLBACKS, READS
from .patience import within
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES
from .replicas import Replica, Replicas

T = TypeVar("T")

Work = Callable[[Connection], Awaitable[T]]
"""What is to be read, on a connection that is fresh enough."""

# A replica answers within milliseconds; one that takes longer is left for the next source.
_REPLICA_SECONDS = 1.0

# A command that Kafka has is usually applied within a tenth of this.
_WAIT_SECONDS = 2.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25

_FAILED = (UnavailableError, asyncpg.PostgresError)
"""What a replica may do to a read, which then goes on elsewhere; an error of the read itself comes there again."""


class Answer(NamedTuple, Generic[T]):
    """What was read, and where."""

    value: T
    from_primary: bool


class ReadRouter:
    """One way to read Postgres for everybody, however many replicas there are."""

    def __init__(self, primary: Pool, topic: str, replicas: Replicas | None = None) -> None:
        """Route reads.

        Args:
            primary: where the truth is.
            topic: of the commands; positions are on it.
            replicas: of the primary, if there are any.
        """
        self.primary = primary
        self._topic = topic
        self._replicas = replicas or Replicas(primary)
        self.has_replicas = self._replicas.are_any

    async def read(
        self,
        work: Work[T],
        positions: Positions | None = None,
        *,
        enough: Callable[[T], bool] = lambda _: True,
        patience: float = _REPLICA_SECONDS,
    ) -> Answer[T]:
        """Read where it is fresh enough; whatever a replica does, the primary is left.

        Args:
            work: what is read; it may be begun on several replicas, and on the primary, until one answers.
            positions: what the reader wants to see.
            enough: whether an answer of a replica will do: one that may be too old is asked of the primary again.
            patience: seconds until a replica is given up.

        Raises:
            StaleError: nobody has applied that much, not even after a moment.
            UnavailableError: nobody answers.
        """
        for replica in self._replicas.usable():
            try:
                value = await within(patience, self._on(replica.pool, work, positions))
            except StaleError:
                READ_FALLBACKS.labels("behind").inc()
            except (*_FAILED, TimeoutError) as error:
                self._replicas.failed(replica, error)
            else:
                if enough(value):
                    READS.labels("replica").inc()
                    return Answer(value, from_primary=False)
                READ_FALLBACKS.labels("miss").inc()
                break
        value = await _patiently(lambda: self._on(self.primary, work, positions))
        READS.labels("primary").inc()
        return Answer(value, from_primary=True)

    @asynccontextmanager
    async def connection(self, positions: Positions | None = None) -> AsyncIterator[Connection]:
        """A connection that is fresh enough, for what cannot be begun again elsewhere as `read` does.

        Raises:
            StaleError: nobody has applied that much, not even after a moment.
            UnavailableError: nobody answers, or whoever did fails in the middle.
        """
        async with AsyncExitStack() as stack:
            replica, connection = await self._source(stack, positions)
            try:
                with postgres_errors():
                    yield connection
            except _FAILED as error:
                if replica is None:
                    raise
                self._replicas.failed(replica, error)
                raise UnavailableError(f"Postgres failed in the middle of a read: {error!r}") from error

    async def _on(self, pool: Pool, work: Work[T], positions: Positions | None) -> T:
        with postgres_errors():
            async with pool.acquire() as connection:
                await self._check(connection, positions)
                return await work(connection)

    async def _check(self, connection: Connection, positions: Positions | None) -> None:
        """See that this connection's server has applied enough: it never has less later.

        Raises:
            StaleError: it has not.
        """
        if positions is None or not positions.needed:
            return
        rows = await connection.fetch(QUERIES["applied_positions"], self._topic, list(positions.needed))
        lag = positions.missing({row["partition"]: row["next_offset"] for row in rows})
        if lag:
            raise StaleError(lag)

    async def _source(self, stack: AsyncExitStack, positions: Positions | None) -> tuple[Replica | None, Connection]:
        for replica in self._replicas.usable():
            try:
                async with asyncio.timeout(_REPLICA_SECONDS):
                    return replica, await self._acquire(stack, replica.pool, positions)
            except StaleError:
                READ_FALLBACKS.labels("behind").inc()
            except (*_FAILED, TimeoutError) as error:
                self._replicas.failed(replica, error)
        return None, await _patiently(lambda: self._acquire(stack, self.primary, positions))

    async def _acquire(self, stack: AsyncExitStack, pool: Pool, positions: Positions | None) -> Connection:
        async with AsyncExitStack() as attempt:
            with postgres_errors():
                connection = await attempt.enter_async_context(pool.acquire())
                await self._check(connection, positions)
            stack.push_async_exit(attempt.pop_all())
        READS.labels("primary" if pool is self.primary else "replica").inc()
        return connection


async def _patiently(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again, for a moment, what is not fresh enough yet."""
    deadline = time.monotonic() + _WAIT_SECONDS
    pause = _FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except StaleError:
            if time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
