"""Kafka, Postgres and Redis of a run's own: local processes that can be killed, frozen, slowed and brought back."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import uuid
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
from pydantic import SecretStr
from redis.asyncio import Redis

from ..services import Name, Services, ServicesError, down, found, up
from ..settings import Settings

# Short, so that a frozen worker loses its partitions while clients still wait.
_SESSION_SECONDS = 2.0
_COMMAND_SECONDS = 5.0
_PARTITIONS = 4
_CHECKPOINT_SECONDS = 1.0

# A service that is slow stands still most of the time: what is asked takes a fifth of a second longer, and more.
_STANDING_SECONDS = 0.2
_GOING_SECONDS = 0.05


class OwnServices:
    """Services that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        self._settings = Settings.model_construct(data_dir=folder)

    async def up(self) -> Services:
        """Start all.

        Raises:
            ServicesError: one does not start.
        """
        return await up(self._settings, docker_too=False)

    async def down(self) -> None:
        """Stop all, in whichever state they are."""
        for name in ("kafka", "postgres", "redis"):
            self._signal(name, signal.SIGCONT)
        await down(self._settings)

    def kill(self, name: str) -> None:
        """End one as a power cut would."""
        self._signal(name, signal.SIGKILL)

    def freeze(self, name: str) -> None:
        """Stop one in its tracks, with all its processes."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let one go on."""
        self._signal(name, signal.SIGCONT)

    async def stop(self, name: str) -> None:
        """End one in good order."""
        await down(self._settings, only=[_name(name)])

    async def start(self, name: str) -> None:
        """Bring one back, on the same address and data.

        Raises:
            ServicesError: it does not start.
        """
        await up(self._settings, only=[_name(name)], docker_too=False)

    async def slow(self, name: str, seconds: float) -> None:
        """Make one slow for a while."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with self._thawed_in_the_end(name):
            while loop.time() < end:
                self.freeze(name)
                await asyncio.sleep(_STANDING_SECONDS)
                self.thaw(name)
                await asyncio.sleep(_GOING_SECONDS)

    async def flush(self, url: str) -> None:
        """Let Redis forget everything."""
        client = Redis.from_url(url, socket_timeout=10)
        try:
            await client.flushall()
        finally:
            await client.aclose()

    @contextmanager
    def _thawed_in_the_end(self, name: str) -> Iterator[None]:
        try:
            yield
        finally:
            self.thaw(name)

    def _signal(self, name: str, number: signal.Signals) -> None:
        """Signal a service and whatever it started: the backends of Postgres are sessions of their own."""
        services = found(self._settings)
        pids = (
            [service.pid for service in services.services if service.name == name and service.pid] if services else []
        )
        for pid in pids:
            for each in _tree(pid):
                with suppress(ProcessLookupError):
                    os.kill(each, number)


def _tree(pid: int) -> list[int]:
    """A process and its descendants; the parent first, so that it makes no more."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def _name(name: str) -> Name:
    match name:
        case "kafka" | "postgres" | "redis":
            return name
        case _:
            raise ServicesError(f"{name} is no service: choose kafka, postgres or redis")


def settings_on(services: Services, data_dir: Path, besides: Mapping[str, Any]) -> Settings:
    """Those of an installation of its own on some services, with settings besides."""
    name = f"chaos_{uuid.uuid4().hex[:12]}"
    urls: dict[str, Any] = {service.name: service.url for service in services.services}
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        kafka_bootstrap=urls["kafka"],
        database_url=urlunsplit(urlsplit(urls["postgres"])._replace(path=f"/{name}")),
        redis_url=urls["redis"],
        topic_prefix=f"{name}.",
        topic_partitions=_PARTITIONS,
        session_timeout=_SESSION_SECONDS,
        command_timeout=_COMMAND_SECONDS,
        database_pool_size=8,
        data_dir=data_dir,
        http_host="127.0.0.1",
        log_format="json",
        rate_limit=0,
        jwt_secret=SecretStr(secrets.token_urlsafe(32)),
        audit_signing_key=SecretStr(b64encode(secrets.token_bytes(32)).decode()),
        audit_checkpoint_interval=_CHECKPOINT_SECONDS,
        **besides,
    )


async def create_database(settings: Settings) -> None:
    """Make the database that the settings name."""
    url = urlsplit(settings.database_url)
    connection = await asyncpg.connect(urlunsplit(url._replace(path="/postgres")), timeout=10)
    try:
        await connection.execute(f'CREATE DATABASE "{url.path.lstrip("/")}"')
    finally:
        await connection.close(timeout=10)
