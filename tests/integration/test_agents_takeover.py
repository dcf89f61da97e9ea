"""A partition can be claimed whatever the worker before was doing in Postgres when it froze."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from tests.harness.installation import Installation
from tests.harness.waiting import eventually

from assessmentstore.models.errors import UnavailableError
from assessmentstore.store.batch import BatchStore, PartitionClaim
from assessmentstore.store.postgres import Pools

TOPIC = "assessment.commands"
_ADVANCE = "UPDATE command_offsets SET next_offset = next_offset + 1 WHERE topic = $1"


@pytest.fixture
def store(pools: Pools) -> BatchStore:
    return BatchStore(pools.write)


async def _take_over(store: BatchStore) -> PartitionClaim:
    """Claim as a lane does."""

    async def probe() -> PartitionClaim:
        return await store.claim(TOPIC, 0, owner="heir", epoch=None)

    return await eventually(probe, "the claim", tolerate=(UnavailableError,))


async def test_a_worker_frozen_between_two_messages_of_a_statement_does_not_keep_its_partition(
    installation: Installation, store: BatchStore
) -> None:
    """asyncpg prepares with a Flush, after which no time-out of Postgres counts until the statement is executed."""
    await store.claim(TOPIC, 0, owner="zombie", epoch=None)
    async with installation.database() as zombie:
        await zombie.execute("SET idle_in_transaction_session_timeout = '1s'")
        transaction = zombie.transaction()
        await transaction.start()
        await zombie.execute(_ADVANCE, TOPIC)
        await zombie.prepare("SELECT $1::text")

        claim = await _take_over(store)

        assert (claim.epoch, claim.next_offset) == (2, 0)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await transaction.commit()


async def test_a_claim_waits_for_a_batch_that_is_about_to_end(installation: Installation, store: BatchStore) -> None:
    await store.claim(TOPIC, 0, owner="before", epoch=None)
    async with installation.database() as before, installation.database() as watcher:
        async with before.transaction():
            await before.execute(_ADVANCE, TOPIC)
            taking_over = asyncio.create_task(_take_over(store))
            await eventually(lambda: _somebody_waits(watcher), "the claim waiting for the row")

        claim = await taking_over

    assert (claim.epoch, claim.next_offset) == (2, 1)


async def _somebody_waits(watcher: asyncpg.Connection) -> bool:
    return bool(await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
