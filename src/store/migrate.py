"""The Postgres schema: numbered SQL files, applied once each, forward only."""

from __future__ import annotations

from importlib.resources import files

import asyncpg

from .postgres import postgres_errors
from .queries import QUERIES

# Whoever migrates holds this advisory lock, so that several machines may start at once.
_MIGRATION_LOCK = 0x415353455353


async def migrate(database_url: str) -> list[str]:
    """Apply the migrations that are missing, and name them.

    Raises:
        UnavailableError: Postgres is away.
    """
    with postgres_errors():
        connection = await asyncpg.connect(database_url, timeout=5)
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK)
            return await _apply_missing(connection)
        finally:
            await connection.close()


async def _apply_missing(connection: asyncpg.Connection) -> list[str]:
    await connection.execute(QUERIES["create_migrations"])
    applied = {row["name"] for row in await connection.fetch(QUERIES["applied_migrations"])}
    folder = files(__package__) / "sql" / "migrations"
    missing = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql") and file.name not in applied)
    for name in missing:
        async with connection.transaction():
            await connection.execute((folder / name).read_text())
            await connection.execute(QUERIES["record_migration"], name)
    return missing
