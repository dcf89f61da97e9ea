"""A circuit breaker: a server that keeps failing is left alone, and tried with one call now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..client.retries import spread

_FAILURES = 5
"""In a row, until it opens."""

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0


class Breaker:
    """Closed while calls go well; open after several failures in a row, with one trial after each pause."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = _FIRST_PAUSE_SECONDS
        self._open_until: float | None = None
        self._trying = False

    @property
    def is_closed(self) -> bool:
        """Whether calls go through as they come."""
        return self._open_until is None

    @property
    def admits(self) -> bool:
        """Whether a call goes through now, be it as the trial."""
        if self._open_until is None:
            return True
        return not self._trying and self._clock() >= self._open_until

    @property
    def pause(self) -> float:
        """Seconds until a call may go through."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock())

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Make a call that is admitted; `succeeded` or `failed` tells how it went, neither where it was broken off."""
        trial = not self.is_closed
        self._trying = self._trying or trial
        try:
            yield
        finally:
            if trial:
                self._trying = False

    def succeeded(self) -> None:
        """The server answered as it should."""
        self._failures, self._open_until, self._pause = 0, None, _FIRST_PAUSE_SECONDS

    def failed(self, *, for_good: bool = False) -> None:
        """The server did not; `for_good` where the next call cannot go better."""
        self._failures += 1
        now = self._clock()
        if self._open_until is not None and now < self._open_until:
            return  # a call that was under way when it opened
        if self._open_until is not None:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        elif self._failures < _FAILURES and not for_good:
            return
        self._open_until = now + self._pause + spread()
