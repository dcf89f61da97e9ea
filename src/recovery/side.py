"""A schema beside the live one, for looking at how things were."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from ..settings import Settings
from ..store.postgres import postgres_errors
from .errors import RecoveryError
from .fold import Until

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

# Operators of pg_trgm are there, where it is; tables are found in the side schema first, and all of them are in it.
_BEHIND = "public"

_OURS = "assessmentstore replay"


def beside(settings: Settings, schema: str) -> Settings:
    """The settings of an installation whose tables are in a side schema of the same database.

    Raises:
        RecoveryError: the name is none for that.
    """
    if not _NAME.fullmatch(schema) or schema == _BEHIND or schema.startswith("pg_"):
        raise RecoveryError(
            f"{schema!r} is no name for a side schema: take letters in lower case, digits and _, like replay_may"
        )
    parts = urlsplit(settings.database_url)
    query = [*parse_qsl(parts.query), ("search_path", f"{quoted(schema)},{_BEHIND}")]
    return settings.model_copy(update={"database_url": urlunsplit(parts._replace(query=urlencode(query)))})


def quoted(schema: str) -> str:
    """The name of a side schema in SQL: it may be a word that means something there, like `user`."""
    return f'"{schema}"'


async def create_schema(settings: Settings, schema: str, until: Until) -> None:
    """Create a side schema, or see that the one that is there was begun for the same.

    Raises:
        RecoveryError: it is somebody's, or was begun for another moment.
        UnavailableError: Postgres is away.
    """
    name = quoted(schema)
    purpose = f"{_OURS} until {until.instant or 'the end'} {dict(sorted(until.offsets.items())) or ''}".strip()
    with postgres_errors():
        connection = await asyncpg.connect(settings.database_url)
        try:
            found = await connection.fetchrow(
                "SELECT obj_description(oid, 'pg_namespace') AS purpose FROM pg_namespace WHERE nspname = $1", schema
            )
            if found is None:
                # Neither statement takes parameters; the name is checked, and the purpose has no quotes.
                await connection.execute(f"CREATE SCHEMA {name}; COMMENT ON SCHEMA {name} IS '{purpose}'")
            elif not (found["purpose"] or "").startswith(_OURS):
                raise RecoveryError(f"the schema {schema} is there already, and is not of a replay: take another name")
            elif found["purpose"] != purpose:
                raise RecoveryError(
                    f"the schema {schema} is there already, for {found['purpose']}: take another name, or drop it"
                    f" (DROP SCHEMA {name} CASCADE)"
                )
        finally:
            await connection.close()
