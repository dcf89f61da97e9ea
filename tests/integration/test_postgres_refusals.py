"""What an operator may do to a running Postgres: it is away for a while, and nobody's end or mistake."""

from __future__ import annotations

import pytest
from tests.harness.installation import Installation, database_name
from tests.harness.waiting import eventually

from assessmentstore.models.errors import UnavailableError
from assessmentstore.store.postgres import Pool, open_pools, postgres_errors

_WRITE = "INSERT INTO assessment_states (assessment_id, state, request_data) VALUES ('a1', 'pending', '{}')"


async def write(pool: Pool, *before: str) -> bool:
    with postgres_errors():
        async with pool.acquire() as connection, connection.transaction():
            for statement in (*before, _WRITE):
                await connection.execute(statement)
    return True


async def test_connections_that_were_made_read_only_are_not_kept(installation: Installation) -> None:
    """The setting of a database is that of a connection from its beginning to its end."""
    name = database_name(installation.settings)
    async with installation.database() as operator, open_pools(installation.settings, application="test") as pools:
        await operator.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        for _ in range(2):
            with pytest.raises(UnavailableError, match="takes no writes"):
                await write(pools.write)

        await operator.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')

        # The one that was made before the last failure is found out by its own.
        assert await eventually(lambda: write(pools.write), "a write", tolerate=(UnavailableError,))


async def test_a_lock_that_is_not_waited_for_may_be_free_later(installation: Installation) -> None:
    async with installation.database() as operator, open_pools(installation.settings, application="test") as pools:
        async with operator.transaction():
            await operator.execute("LOCK TABLE assessment_states")
            with pytest.raises(UnavailableError, match="Postgres lets us wait for a lock no longer"):
                await write(pools.write, "SET LOCAL lock_timeout = '10ms'")

        assert await write(pools.write)


async def test_a_right_that_is_missing_may_be_granted(installation: Installation) -> None:
    async with open_pools(installation.settings, application="test") as pools:
        with pytest.raises(UnavailableError, match="Postgres does not permit our user what is needed"):
            await write(pools.write, "SET LOCAL ROLE pg_monitor")

        assert await write(pools.write)
