"""Postgres: pools, the translation of its errors, and rows as records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import asyncpg
import orjson
from asyncpg.protocol import protocol

from ..models.assessment import AssessmentRecord
from ..models.errors import AssessmentStoreError
from ..refused import unavailable
from ..settings import Settings, SettingsError

# No statement of ours takes this long while Postgres is well.
_STATEMENT_SECONDS = 30

_CONNECT_SECONDS = 5

# Errors that say nothing about the statement: Postgres is starting, stopping, failing over, overloaded, read-only or
# closed to us for a while, or picked this transaction to end a deadlock. The same work may succeed later.
_PASSING = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # What asyncpg makes of a connection that was ended just when it wanted to say something.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.UndefinedTableError,
    asyncpg.LockNotAvailableError,
    asyncpg.InsufficientPrivilegeError,
)

# An index serves every statement of ours: to read a table from end to end is quick only on the day it is tried.
_BY_INDEX = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}

# Postgres keeps the plan of a prepared statement, and one made while the tables were empty would read them from end to
# end, for seconds a batch, until autovacuum comes by. A frozen worker must not hold the fence longer than Kafka lets it
# keep the partition (10 s): whoever takes over waits for this row.
_WRITING = {"plan_cache_mode": "force_generic_plan", "idle_in_transaction_session_timeout": "5s", **_BY_INDEX}

# A list is planned for the filters that are given: those that are not vanish from the query. Nobody waits for a reader,
# who may have much to compare at one moment.
_READING = {"plan_cache_mode": "force_custom_plan", "idle_in_transaction_session_timeout": "60s", **_BY_INDEX}

# asyncpg asks of each element of an array whether it is an array in turn, and asks an abstract class: half of the time
# that it takes to encode the rows of a batch. Whatever stands for an array here is one of these.
protocol.IterableABC = (list, tuple, set, frozenset)  # type: ignore[attr-defined]

Connection = asyncpg.pool.PoolConnectionProxy
Pool = asyncpg.Pool


class _PooledConnection(asyncpg.Connection):
    """A connection that knows whether its last statement came to its end.

    asyncpg prepares a statement without a Sync, which follows with its parameters. Who is cancelled in between, or has
    parameters that cannot be sent, leaves Postgres in a transaction that asyncpg does not know of: the next one to have
    the connection would be in it, at the time when it began (PostgreSQL documentation, 55.2.3).
    """

    __slots__ = ("has_ended",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.has_ended = True

    async def _do_execute(self, *args: Any, **kwargs: Any) -> Any:
        self.has_ended = False
        result = await super()._do_execute(*args, **kwargs)  # type: ignore[misc]
        self.has_ended = True
        return result


class StaleViewError(AssessmentStoreError):
    """Somebody wrote to Postgres since the states were loaded: load them again and decide again."""


class UnstorableError(AssessmentStoreError):
    """Postgres refuses the data itself; the message is its reason."""


@contextmanager
def postgres_errors() -> Iterator[None]:
    """Translate driver errors.

    Raises:
        UnavailableError: Postgres is away for now.
        StaleViewError: a unique key was taken by somebody else.
        UnstorableError: the data breaks a rule of Postgres.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise StaleViewError(str(error)) from error
    except (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.IntegrityConstraintViolationError) as error:
        raise UnstorableError(str(error)) from error
    except _PASSING as error:
        raise unavailable("Postgres", error) from error


class Pools(NamedTuple):
    """A pool for writes and one for reads, so that neither starves the other."""

    write: Pool
    read: Pool


@asynccontextmanager
async def open_pools(settings: Settings, *, application: str) -> AsyncIterator[Pools]:
    """Open the pools; they connect when first used, so that a start does not depend on Postgres.

    Raises:
        SettingsError: DATABASE_URL cannot be understood.
    """
    async with (
        _pool(settings, settings.database_url, f"{application} write", _leave_writing, **_WRITING) as write,
        open_read_pool(settings, settings.database_url, f"{application} read") as read,
    ):
        yield Pools(write, read)


def open_read_pool(settings: Settings, url: str, application: str) -> AbstractAsyncContextManager[Pool]:
    """A pool for reads, of the primary or of a replica.

    Raises:
        SettingsError: the URL cannot be understood.
    """
    return _pool(settings, url, application, _leave_transaction, **_READING)


@asynccontextmanager
async def _pool(
    settings: Settings,
    url: str,
    application: str,
    reset: Callable[[_PooledConnection], Awaitable[None]],
    **planner: str,
) -> AsyncIterator[Pool]:
    """One lazily connecting pool."""
    try:
        pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=settings.database_pool_size,
            connection_class=_PooledConnection,
            timeout=_CONNECT_SECONDS,
            command_timeout=_STATEMENT_SECONDS,
            reset=reset,  # type: ignore[arg-type]  # the stubs know no class of one's own here
            server_settings={
                "application_name": application,
                "statement_timeout": f"{_STATEMENT_SECONDS}s",
                "timezone": "UTC",
                "jit": "off",
                **planner,
            },
        )
        await pool
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        setting = "DATABASE_URL" if url == settings.database_url else "ASSESSMENTSTORE_DATABASE_REPLICA_URLS"
        raise SettingsError(f"{setting}: {error}") from error
    try:
        yield pool
    finally:
        await _close(pool)


async def _leave_transaction(connection: _PooledConnection) -> None:
    """All that a released connection needs: no setting, lock or listener of ours outlives a transaction."""
    # A transaction that asyncpg knows of it has ended by now.
    if not connection.has_ended:
        await connection.execute("ROLLBACK")
        connection.has_ended = True


async def _leave_writing(connection: _PooledConnection) -> None:
    """The same for writers. One that may only read is ended: it stays so when the database is writable again."""
    await _leave_transaction(connection)
    # Postgres tells of it by itself from version 14 on.
    if getattr(connection.get_settings(), "default_transaction_read_only", "off") == "on":
        connection.terminate()


async def _close(pool: Pool) -> None:
    """Close in good order, or at once where a connection is stuck."""
    try:
        await asyncio.wait_for(pool.close(), timeout=_CONNECT_SECONDS)
    except TimeoutError:
        pool.terminate()


def record_from_row(row: asyncpg.Record) -> AssessmentRecord:
    """An `assessment_states` row as a record."""
    values: dict[str, Any] = dict(row)
    for column in ("request_data", "result_data", "metadata"):
        if values[column] is not None:
            values[column] = orjson.loads(values[column])
    return AssessmentRecord.model_validate(values)
