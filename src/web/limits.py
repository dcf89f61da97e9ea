"""How often one caller may ask: a rate and a burst for each, kept in Redis, so that all processes share one count.

The law is GCRA: of each caller only the time is kept at which his allowance will be whole again. One script in Redis
decides in one round trip, by Redis' own clock. `limits` would ask twice, and its windows let a caller send double at
their border. While Redis is away each process counts for itself by the same law: nobody is refused for that.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from aiohttp import web
from cachetools import TTLCache
from redis.asyncio import Redis

from ..models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from ..settings import Settings
from ..store.patience import within
from ..store.redis import REDIS_SECONDS, RedisBreaker

# KEYS: the caller. ARGV: microseconds between two requests, and the burst as microseconds.
# Answers whether the request is let through, and in how many microseconds the allowance is whole again.
# What is no number gives way.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local whole = math.max(tonumber(redis.pcall('GET', KEYS[1])) or 0, now)
local after = whole + ARGV[1]
if after - now > ARGV[2] + 0 then return {0, whole - now} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return {1, after - now}
"""

# Callers that one process counts by itself; who was not seen for a minute begins anew.
_CALLERS = 50_000
_CALLER_SECONDS = 60

_MICROSECONDS = 1_000_000

# What was left to a caller says for this long whether he has plenty.
_REMEMBERED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second, and how many may come at once."""

    per_second: float
    burst: int
    whose: str = "user"
    """What is counted: the name of the policy."""

    @property
    def window(self) -> int:
        """Seconds after which a whole burst is possible again."""
        return max(1, math.ceil(self.burst / self.per_second))


# Whoever tries tokens from one address. Many honest callers may share one, so it is generous.
GUESSES = Rate(50.0, 500, "address")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a caller after a request."""

    rate: Rate
    granted: bool
    whole_in: float
    """Seconds until the whole burst is possible again."""

    @property
    def remaining(self) -> int:
        """Requests that may come at once."""
        return max(0, int(self.rate.burst - self.whole_in * self.rate.per_second + 1e-6))

    @property
    def retry_after(self) -> int:
        """Whole seconds after which one request more is let through."""
        seconds = self.whole_in - (self.rate.burst - 1) / self.rate.per_second
        return max(1, math.ceil(seconds))

    def headers(self) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": f'"{self.rate.whose}";q={self.rate.burst};w={self.rate.window}',
            "RateLimit": f'"{self.rate.whose}";r={self.remaining};t={max(1, math.ceil(self.whole_in))}',
        }


class LocalCounts:
    """The counts of one process."""

    def __init__(self) -> None:
        self._whole: TTLCache[str, float] = TTLCache(_CALLERS, _CALLER_SECONDS)

    def take(self, caller: str, rate: Rate, now: float) -> Allowance:
        """Count a request."""
        whole = max(self._whole.get(caller, now), now)
        after = whole + 1 / rate.per_second
        # A hair's breadth: a sum of many steps is not exactly their product.
        granted = after - now <= rate.burst / rate.per_second + 1e-9
        if granted:
            self._whole[caller] = whole = after
        return Allowance(rate, granted, whole - now)


class Limits:
    """The limits of the API."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._script = redis.register_script(_TAKE)
        self._prefix = settings.topic_prefix
        burst = settings.rate_burst or max(1, math.ceil(settings.rate_limit))
        self._rate = Rate(settings.rate_limit, burst) if settings.rate_limit else None
        self._local = LocalCounts()
        self._last: TTLCache[str, Allowance] = TTLCache(_CALLERS, _REMEMBERED_SECONDS)
        self._breaker = RedisBreaker()

    async def user(self, user_id: str) -> Allowance | None:
        """Count a request of a user; nothing where there is no limit."""
        if self._rate is None:
            return None
        allowance = self._last[user_id] = await self._take(f"user:{user_id}", self._rate)
        return allowance

    def has_plenty(self, user_id: str) -> bool:
        """Whether a user had more than half of his burst left a moment ago: his next request will hardly be refused."""
        last = self._last.get(user_id)
        return last is not None and last.remaining > last.rate.burst / 2

    async def guess(self, address: str) -> Allowance | None:
        """Count a request without a valid token; nothing where there is no limit."""
        return None if self._rate is None else await self._take(f"address:{address}", GUESSES)

    async def _take(self, caller: str, rate: Rate) -> Allowance:
        try:
            return await self._take_shared(caller, rate)
        except UnavailableError:
            return self._local.take(caller, rate, time.monotonic())

    async def _take_shared(self, caller: str, rate: Rate) -> Allowance:
        step = _MICROSECONDS / rate.per_second
        with self._breaker.guard():
            work = self._script(keys=[f"{self._prefix}rate:{caller}"], args=[step, math.ceil(step * rate.burst)])
            granted, whole_in = await within(REDIS_SECONDS, work)
        return Allowance(rate, bool(granted), whole_in / _MICROSECONDS)


LIMITS = web.AppKey("limits", Limits)

ALLOWANCE = web.RequestKey("allowance", Allowance)
"""What the caller of a request has left."""


def check_allowance(request: web.Request, allowance: Allowance | None) -> None:
    """Note for the answer what a caller has left, and refuse him where that is nothing.

    Raises:
        RejectedError: RATE_LIMITED.
    """
    if allowance is None:
        return
    request[ALLOWANCE] = allowance
    if not allowance.granted:
        seconds, rate = allowance.retry_after, allowance.rate
        words = f"Too many requests of this {rate.whose}: {rate.per_second:g} a second are let through; try again in"
        details = {"limit": rate.per_second, "burst": rate.burst, "retryAfter": seconds}
        raise RejectedError(Rejection(ErrorCode.RATE_LIMITED, f"{words} {seconds} s", details))
