"""Services for the run, and for each contender an installation of its own on them: topics, database, tables."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis
from tests.harness.installation import (
    Installation,
    create_installation,
    create_template,
    database_name,
    drop_database,
)

from assessmentstore import bootstrap, services
from assessmentstore.interrupts import end_as_by_ctrl_c
from assessmentstore.services import Services
from assessmentstore.settings import Settings

_PARTITIONS = 8

_numbers = itertools.count(1)


@asynccontextmanager
async def running_services() -> AsyncIterator[tuple[Settings, Services]]:
    """The services of the environment, or others that end with the run, also where that is told to end."""
    end_as_by_ctrl_c()
    with tempfile.TemporaryDirectory(prefix="assessmentstore-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings.load(data_dir=_open_to_all(folder), topic_partitions=_PARTITIONS)
        try:
            present = await services.up(settings)
            yield present.apply(settings), present
        finally:
            await services.down(settings)


@asynccontextmanager
async def fresh_installation(settings: Settings, name: str) -> AsyncIterator[Settings]:
    """An empty, migrated installation, gone afterwards."""
    number = next(_numbers)
    database = f"bench_{name}_{number}".replace("-", "_")
    own = settings.model_copy(
        update={
            "topic_prefix": f"bench-{name}-{number}.",
            "database_url": _with_database(settings.database_url, database),
            "data_dir": settings.data_dir / f"{name}-{number}",
        }
    )
    await _execute(settings, f'DROP DATABASE IF EXISTS "{database}"', f'CREATE DATABASE "{database}"')
    try:
        await _delete_topics(own)
        await bootstrap.migrate(own)
        # Whoever ran before must not leave the writing of its pages to this one; not every role may ask for it.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await _execute(settings, "CHECKPOINT")
        yield own
    finally:
        await _delete_topics(own)
        await _delete_keys(own)
        await _execute(settings, f'DROP DATABASE "{database}" WITH (FORCE)')


@asynccontextmanager
async def harnessed(services: Settings, name: str, **settings: Any) -> AsyncIterator[Installation]:
    """An installation as the tests have them, for the processes of their harness; gone afterwards."""
    template = await create_template(services)
    made = await create_installation(services, template, services.data_dir / name, **settings)
    try:
        yield made
    finally:
        await drop_database(services, database_name(made.settings))
        await drop_database(services, template)


def _open_to_all(folder: str) -> Path:
    """The folder, where a Postgres that runs as another user can reach its data."""
    path = Path(folder)
    path.chmod(0o755)
    return path


async def _execute(settings: Settings, *statements: str) -> None:
    connection = await asyncpg.connect(settings.database_url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _delete_topics(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        # Whatever is named after the installation: a contender may have changelogs of its own.
        await admin.delete_topics([name for name in await admin.list_topics() if settings.topic_prefix in name])
    finally:
        await admin.close()


async def _delete_keys(settings: Settings) -> None:
    async with Redis.from_url(settings.redis_url) as redis:
        keys = [key async for key in redis.scan_iter(match=f"{settings.topic_prefix}*", count=1000)]
        for first in range(0, len(keys), 1000):
            await redis.delete(*keys[first : first + 1000])


def _with_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
