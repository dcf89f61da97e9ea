"""How far the old system's listeners are told of each partition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES


class HeldPartition:
    """The open transaction of who tells of a partition."""

    def __init__(self, connection: Connection, partition: int, next_offset: int) -> None:
        self._connection = connection
        self._partition = partition
        self.next_offset = next_offset
        """Everything below is told."""

    async def move(self, next_offset: int) -> None:
        """Keep that more is told."""
        await self._connection.execute(QUERIES["move_told"], self._partition, next_offset)


class ToldStore:
    """The positions in Postgres."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def held(self, partition: int) -> AsyncIterator[HeldPartition | None]:
        """A partition, of which nobody else tells meanwhile; nothing where somebody does.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["begin_telling"], partition)
            async with self._pool.acquire() as connection, connection.transaction():
                position = await connection.fetchval(QUERIES["hold_told"], partition)
                yield None if position is None else HeldPartition(connection, partition, position)
