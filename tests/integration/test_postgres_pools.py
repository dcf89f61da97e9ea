"""What one user of a connection may leave to the next: nothing."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from assessmentstore.store.postgres import Pool, Pools


async def transaction_begins_anew(pool: Pool) -> None:
    """Postgres takes an isolation level as long as nothing was asked in the transaction."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        age = await connection.fetchval("SELECT statement_timestamp() - now()")
    assert age < timedelta(seconds=1)


async def test_what_cannot_be_sent_leaves_no_transaction_behind(pools: Pools) -> None:
    for pool in pools:
        with pytest.raises(asyncpg.DataError):
            # Postgres has taken the statement apart by then, and waits for its parameters.
            await pool.fetch(f"SELECT $1::int AS {unheard_of()}", "no number")

        await transaction_begins_anew(pool)


async def test_who_is_cancelled_at_any_moment_leaves_no_transaction_behind(pools: Pools) -> None:
    for turns in itertools.count():
        asking = asyncio.create_task(pools.read.fetch(f"SELECT $1::int AS {unheard_of()}", 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        if asking.done():
            break
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

        await transaction_begins_anew(pools.read)


def unheard_of() -> str:
    """A name that makes a statement one that Postgres has not prepared yet."""
    return f"a{uuid4().hex}"
