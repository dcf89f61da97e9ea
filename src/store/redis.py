"""Redis: a client that fails fast, the translation of its errors, and a breaker for whoever can do without it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, RedisError

from ..models.errors import UnavailableError
from ..refused import unavailable
from ..settings import Settings

logger = logging.getLogger(__name__)

# How long Redis is left alone after it failed to answer: an outage costs one time-out, not one for each read.
_BREAKER_SECONDS = 1.0

# How often a process sees whether Redis takes writes, and how long Redis is left alone where it does not.
_PROBE_SECONDS = 1.0
_REFUSED_SECONDS = 5.0

_TOLD_SECONDS = 60.0

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
    except OutOfMemoryError as error:
        raise FullError(str(unavailable("Redis", error))) from error
    except (RedisError, OSError, TimeoutError) as error:
        raise unavailable("Redis", error) from error


class FullError(UnavailableError):
    """Redis has no room: it answers, forgets and publishes, and takes nothing in."""


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
        except FullError:
            raise
        except UnavailableError:
            self.close(_BREAKER_SECONDS)
            raise

    def close(self, seconds: float) -> None:
        """Let every use fail for so long."""
        self._closed_until = max(self._closed_until, time.monotonic() + seconds)

    def open(self) -> None:
        """Let Redis be used again."""
        self._closed_until = 0.0


class WriteProbe:
    """Sees whether Redis takes writes.

    A replica since a failover, or one that cannot save its data, answers reads all the same, and no command reaches it:
    what it has grows old without a word. So it counts as away. A full one still forgets what a batch changes.
    """

    def __init__(self, redis: Redis, key: str, breaker: RedisBreaker) -> None:
        self._redis = redis
        self._key = key
        self._breaker = breaker
        self._told_at: float | None = None

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.write()
            except UnavailableError as error:
                self._tell(error)
                # A new connection may lead to another Redis, as after a failover.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
            else:
                self._tell(None)
            await asyncio.sleep(_PROBE_SECONDS)

    async def write(self) -> None:
        """Write something that is gone in a moment, and close the breaker where it is refused.

        Raises:
            UnavailableError: Redis does not answer, or refuses it.
        """
        try:
            with redis_errors():
                await self._redis.set(self._key, b"", px=int(_PROBE_SECONDS * 1000))
        except FullError:
            raise
        except UnavailableError:
            self._breaker.close(_REFUSED_SECONDS)
            raise
        self._breaker.open()

    def _tell(self, error: UnavailableError | None) -> None:
        """Log a change for the worse, and for the better, once a minute at the most: at the brim it comes and goes."""
        now = time.monotonic()
        if error is None and self._told_at is not None and now > self._told_at + _TOLD_SECONDS:
            self._told_at = None
            logger.info("Redis takes writes again", extra={"action": "redis_used"})
        elif error is not None:
            if self._told_at is None:
                extra = {"action": "redis_not_used"}
                logger.warning("What Redis does not take is read from Postgres: %s", error, extra=extra)
            self._told_at = now
