"""When a request is made again, and after how long: full jitter, and what the server asks for."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .errors import ClientError

BUSY = frozenset({429, 502, 503, 504})
"""Not for now: the limit of requests, a server that stops or misses a service, or a proxy in front of one."""

# Doubled with every attempt; full jitter then takes any part of it, so that clients that failed together do not come
# back together.
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0

# Whoever asks for more is asked again all the same: it may be a slip, and nobody waits for it for ever.
_LONGEST_RETRY_AFTER = 3600.0

# Spreads those that were told the same Retry-After.
_SPREAD = 0.25


class Patience:
    """The pauses of one call, until its time is up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart_when_used()

    def restart_when_used(self) -> None:
        """Begin anew with the next failure: there was progress."""
        self._pauses = pauses()
        self._end: float | None = None

    def pause_after(self, error: ClientError) -> float:
        """How long to wait before the next attempt.

        Raises:
            ClientError: the error itself, where the next attempt would be too late.
        """
        now = time.monotonic()
        if self._end is None:
            self._end = now + self._seconds
        pause = next(self._pauses)
        delay = pause if error.retry_after is None else error.retry_after + spread()
        if now + delay > self._end:
            raise error
        return delay


def pauses(first: float = _FIRST_PAUSE, longest: float = _LONGEST_PAUSE) -> Iterator[float]:
    """Seconds to wait before one attempt after the other, without end."""
    ceiling = first
    while True:
        yield random.uniform(0, ceiling)  # noqa: S311 - spreads clients, hides nothing
        ceiling = min(ceiling * 2, longest)


def spread() -> float:
    """A moment, another one for each client."""
    return random.uniform(0, _SPREAD)  # noqa: S311 - as above


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """The seconds of a Retry-After, an hour at most, or until its date (RFC 9110, 10.2.3); nothing where it is none."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return min(float(header), _LONGEST_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(0.0, (aware - (now or datetime.now(UTC))).total_seconds()), _LONGEST_RETRY_AFTER)
