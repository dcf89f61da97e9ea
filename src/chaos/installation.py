"""One installation on services that it may share with others: a topic prefix and a database of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from pydantic import SecretStr
from redis.asyncio import Redis

from ..settings import ENV_PREFIX, Settings

# Settings that are read without the prefix too: the developer's own must not reach a process under test.
_UNPREFIXED = ("DATABASE_URL", "REDIS_URL", "JWT_SECRET")

_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Installation:
    """Where some workers and webs run."""

    settings: Settings

    def environment(self) -> dict[str, str]:
        """The environment of this installation's processes."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(ENV_PREFIX) and name not in _UNPREFIXED
        }
        return inherited | {
            f"{ENV_PREFIX}{name.upper()}": _text(value)
            for name, value in self.settings
            if value is not None and name in self.settings.model_fields_set
        }

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection to the database."""
        connection = await asyncpg.connect(self.settings.database_url, timeout=_PATIENCE_SECONDS)
        try:
            yield connection
        finally:
            await connection.close(timeout=_PATIENCE_SECONDS)

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        """A client of Redis."""
        client = Redis.from_url(self.settings.redis_url, socket_timeout=_PATIENCE_SECONDS)
        try:
            yield client
        finally:
            await client.aclose()


def _text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
