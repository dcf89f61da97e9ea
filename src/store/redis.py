"""Redis: a client that fails fast, the translation of its errors, and a breaker for whoever can do without it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..models.errors import UnavailableError
from ..refused import unavailable
from ..settings import Settings

# How long Redis is left alone after it failed to answer: an outage costs one time-out, not one for each read.
_BREAKER_SECONDS = 1.0

# Redis answers in well under a millisecond; whoever waits longer is better served by Postgres.
REDIS_SECONDS = 0.5

# A rush of reads takes turns on these; a pool that refuses instead would look like an outage.
_CONNECTIONS = 32
_QUEUE_SECONDS = 5.0


@asynccontextmanager
async def open_redis(settings: Settings) -> AsyncIterator[Redis]:
    """A client that fails fast; it connects when first used."""
    pool = BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=_CONNECTIONS,
        timeout=_QUEUE_SECONDS,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )
    client = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()


@contextmanager
def redis_errors() -> Iterator[None]:
    """Translate driver errors.

    Raises:
        UnavailableError: Redis does not answer.
    """
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise unavailable("Redis", error) from error


class RedisBreaker:
    """While Redis is away, every use fails at once."""

    def __init__(self) -> None:
        self._closed_until = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Use Redis.

        Raises:
            UnavailableError: it does not answer, or did not a moment ago.
        """
        if time.monotonic() < self._closed_until:
            raise UnavailableError("Redis did not answer a moment ago")
        try:
            with redis_errors():
                yield
        except UnavailableError:
            self._closed_until = time.monotonic() + _BREAKER_SECONDS
            raise
