"""The Postgres schema: numbered SQL files, applied once each, forward only."""

from __future__ import annotations

from importlib.resources import files

import asyncpg

from .postgres import postgres_errors
from .queries import QUERIES

# Whoever migrates holds this advisory lock, so that several machines may start at once.
_MIGRATION_LOCK = 0x415353455353

_CONNECT_SECONDS = 5

_FOLDER = files(__package__) / "sql" / "migrations"


async def migrate(database_url: str) -> list[str]:
    """Apply the migrations that are missing, and name them.

    Raises:
        UnavailableError: Postgres is away.
    """
    with postgres_errors():
        connection = await asyncpg.connect(database_url, timeout=_CONNECT_SECONDS)
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
            return await _apply_missing(connection)
        finally:
            await connection.close()


async def is_migrated(database_url: str) -> bool:
    """Whether every migration is applied.

    Raises:
        UnavailableError: Postgres is away.
    """
    with postgres_errors():
        connection = await asyncpg.connect(database_url, timeout=_CONNECT_SECONDS)
        try:
            return not await _missing(connection)
        finally:
            await connection.close()


async def _missing(connection: asyncpg.Connection) -> list[str]:
    """The names of the migrations that are not applied, in their order."""
    names = sorted(file.name for file in _FOLDER.iterdir() if file.name.endswith(".sql"))
    if not await connection.fetchval(QUERIES["has_migrations"]):
        return names
    applied = {row["name"] for row in await connection.fetch(QUERIES["applied_migrations"])}
    return [name for name in names if name not in applied]


async def _apply_missing(connection: asyncpg.Connection) -> list[str]:
    await connection.execute(QUERIES["create_migrations"])
    missing = await _missing(connection)
    for name in missing:
        async with connection.transaction():
            await connection.execute((_FOLDER / name).read_text())
            await connection.execute(QUERIES["record_migration"], name)
    return missing
