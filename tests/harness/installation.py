"""One installation on services that it shares with others: a topic prefix and a database of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from pydantic import SecretStr
from redis.asyncio import Redis

from assessmentstore.agents.topics import create_topics
from assessmentstore.settings import ENV_PREFIX, Settings
from assessmentstore.store.migrate import migrate

# Settings that are read without the prefix too: the developer's own must not reach a worker under test.
_UNPREFIXED = ("DATABASE_URL", "REDIS_URL", "JWT_SECRET")


@dataclass(frozen=True)
class Installation:
    """Where one test's workers run."""

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
        connection = await asyncpg.connect(self.settings.database_url, timeout=10)
        try:
            yield connection
        finally:
            await connection.close(timeout=10)

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        """A client of Redis."""
        client = Redis.from_url(self.settings.redis_url, socket_timeout=10)
        try:
            yield client
        finally:
            await client.aclose()


def _text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


async def create_template(services: Settings) -> str:
    """A database with the schema, to be copied: quicker than to migrate each."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    await _on_server(services, f'CREATE DATABASE "{name}"')
    await migrate(_with_database(services.database_url, name))
    return name


async def create_installation(services: Settings, template: str, folder: Path, **settings: Any) -> Installation:
    """Make a database and topics.

    Args:
        services: where Kafka, Postgres and Redis are.
        template: the database to copy.
        folder: for the tables of the workers.
        settings: that differ from the defaults of a test.
    """
    name = f"test_{uuid.uuid4().hex[:12]}"
    await _on_server(services, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    chosen: dict[str, Any] = {
        "kafka_bootstrap": services.kafka_bootstrap,
        "database_url": _with_database(services.database_url, name),
        "redis_url": services.redis_url,
        "topic_prefix": f"{name}.",
        "topic_partitions": 4,
        "session_timeout": 2.0,
        "data_dir": folder,
        "http_host": "127.0.0.1",
        "log_format": "json",
        "audit_signing_key": SecretStr("ZmlmdHktdHdvIGJ5dGVzIG9mIGEga2V5IGZvciB0ZXM="),
        "audit_checkpoint_interval": 0.5,
        "jwt_secret": SecretStr("a secret for tests, long enough for HS256"),
    }
    installation = Installation(Settings(_env_file=None, **(chosen | settings)))  # type: ignore[call-arg]
    await create_topics(installation.settings)
    return installation


async def drop_database(services: Settings, name: str) -> None:
    """Drop a database, whoever is connected."""
    await _on_server(services, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def database_name(settings: Settings) -> str:
    """The database of an installation."""
    return urlsplit(settings.database_url).path.lstrip("/")


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _on_server(services: Settings, statement: str) -> None:
    connection = await asyncpg.connect(services.database_url, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close(timeout=10)
