"""What can be asked of a Kafka, a Postgres and a Redis: each question goes to the running server and nowhere else."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import redis.asyncio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from ..services.model import Name

SERVER_ERRORS = (OSError, KafkaError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a question raises where a server is away, or refuses."""

_PINGS = 5
_BETWEEN_PINGS = 0.05


class Server(Protocol):
    """A server that can be asked; where it does not tell, or not us, the answer is nothing."""

    async def response_time(self) -> float:
        """Return the median of some round trips in milliseconds."""
        ...

    async def version(self) -> str | None:
        """Return the version of the program."""
        ...

    async def authentication(self) -> bool | None:
        """Return whether it cares who asks."""
        ...

    async def tls(self) -> bool | None:
        """Return whether the connection to it is encrypted."""
        ...

    async def data_folder(self) -> str | None:
        """Return where, on its machine, it keeps its data."""
        ...


class Postgres:
    """A Postgres by its URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def response_time(self) -> float:
        async with self._connection() as connection:
            return await _median(lambda: connection.execute("SELECT 1"))

    async def version(self) -> str | None:
        return str(await self._ask("SHOW server_version"))

    async def authentication(self) -> bool | None:
        try:
            async with self._connection(password=uuid4().hex):
                return False  # it takes a password that was made up just now
        except asyncpg.InvalidAuthorizationSpecificationError:
            return True

    async def tls(self) -> bool | None:
        return bool(await self._ask("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))

    async def data_folder(self) -> str | None:
        try:
            return str(await self._ask("SHOW data_directory"))
        except asyncpg.InsufficientPrivilegeError:
            return None

    async def _ask(self, query: str) -> Any:
        async with self._connection() as connection:
            return await connection.fetchval(query)

    @asynccontextmanager
    async def _connection(self, *, password: str | None = None) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self._url, password=password)
        try:
            yield connection
        finally:
            await connection.close()


class Redis:
    """A Redis by its URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def response_time(self) -> float:
        async with _redis(self._url) as client:
            return await _median(client.ping)

    async def version(self) -> str | None:
        async with _redis(self._url) as client:
            return str((await client.info("server"))["redis_version"])

    async def authentication(self) -> bool | None:
        anonymous = urlsplit(self._url)
        host_and_port = anonymous.netloc.rpartition("@")[2]
        try:
            async with _redis(anonymous._replace(netloc=host_and_port).geturl()) as client:
                await client.ping()
        except (AuthenticationError, NoPermissionError):
            return True
        return False

    async def tls(self) -> bool | None:
        return self._url.startswith("rediss:")

    async def data_folder(self) -> str | None:
        try:
            async with _redis(self._url) as client:
                return str((await client.config_get("dir"))["dir"])
        except NoPermissionError:
            return None


class Kafka:
    """A Kafka by its bootstrap servers; one that asks for credentials, or for TLS, is out of reach for our clients."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def response_time(self) -> float:
        async with self._admin() as admin:
            return await _median(admin.describe_cluster)

    async def version(self) -> str | None:
        return None  # the protocol tells what a broker understands, not what it is

    async def authentication(self) -> bool | None:
        return (await self._protocol()).startswith("SASL")

    async def tls(self) -> bool | None:
        return (await self._protocol()).endswith("SSL")

    async def data_folder(self) -> str | None:
        settings = await self._settings()
        return (settings.get("log.dirs") or settings.get("log.dir") or "").split(",")[0] or None

    async def _protocol(self) -> str:
        """The security protocol of the listener that we speak to, like `SASL_SSL`."""
        settings = await self._settings()
        names = {
            address.rpartition(":")[2]: address.partition(":")[0]
            for address in (settings["advertised.listeners"] or settings["listeners"]).split(",")
        }
        protocols = dict(pair.split(":") for pair in settings["listener.security.protocol.map"].split(","))
        port = self._bootstrap.split(",")[0].rpartition(":")[2]
        return protocols.get(names.get(port, ""), "PLAINTEXT")

    async def _settings(self) -> Mapping[str, str]:
        async with self._admin() as admin:
            broker = (await admin.describe_cluster())["brokers"][0]
            resource = ConfigResource(ConfigResourceType.BROKER, str(broker["node_id"]))
            (answer,) = await admin.describe_configs([resource])
        return {name: value for name, value, *_ in answer.resources[0][4] if value is not None}

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


KINDS: Mapping[Name, Callable[[str], Server]] = {"kafka": Kafka, "postgres": Postgres, "redis": Redis}


def _redis(url: str) -> Any:
    """A client that asks once, and then waits for as long as its caller does."""
    return redis.asyncio.Redis.from_url(url, retry=None, socket_timeout=None, decode_responses=True)


async def _median(ping: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(_PINGS):
        start = time.perf_counter()
        await ping()
        times.append(time.perf_counter() - start)
        await asyncio.sleep(_BETWEEN_PINGS)
    return statistics.median(times) * 1000
