"""One installation on services that it shares with others: a topic prefix and a database of its own."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from pydantic import SecretStr

from assessmentstore.agents.topics import create_topics
from assessmentstore.chaos.installation import Installation
from assessmentstore.settings import Settings

__all__ = ["Installation", "create_installation", "create_template", "database_name", "drop_database"]
from assessmentstore.store.migrate import migrate


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
