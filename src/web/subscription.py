"""What one open stream has still to send, and the end of a reader that is too slow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import NamedTuple

from ..models.events import EventType
from ..store.trail import TrailEvent
from ..telemetry import STREAMS_CUT

# Events that wait for one reader. Who is further behind is cut off, and reads on from the audit trail when he is back.
MOST_WAITING = 1_000

# Bytes of them; many readers share one copy, but the slowest holds it.
MOST_WAITING_BYTES = 32 * 1024 * 1024

# What goes out in one write.
_WRITE_BYTES = 64 * 1024


class Delivery(NamedTuple):
    """An event as it goes out; the text is the same for all who listen to the same channel."""

    event: TrailEvent
    text: bytes


class Subscription:
    """What one open stream has still to send."""

    def __init__(self, cut: Callable[[], None]) -> None:
        """Take what aborts the connection."""
        self.ended = False
        self._cut = cut
        self._types: Collection[EventType] | None = None
        self._waiting: deque[Delivery] = deque()
        self._bytes = 0
        self._news = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many events wait to be sent."""
        return len(self._waiting)

    def narrow(self, types: Collection[EventType] | None) -> None:
        """Take these types only."""
        self._types = types

    def offer(self, delivery: Delivery) -> None:
        """Put an event behind those that wait; with too many the reader is cut off."""
        if self.ended or (self._types is not None and delivery.event.type not in self._types):
            return
        self._bytes += len(delivery.text)
        if len(self._waiting) >= MOST_WAITING or self._bytes > MOST_WAITING_BYTES:
            STREAMS_CUT.labels("overflow").inc()
            self.end()
            self._cut()
            return
        self._waiting.append(delivery)
        self._news.set()

    async def take(self, seconds: float) -> list[Delivery]:
        """What goes out next, in one write; nothing where nothing came in time, or the stream is to end."""
        if not self._waiting and not self.ended:
            self._news.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return []
        taken, size = [], 0
        while self._waiting and size < _WRITE_BYTES:
            taken.append(self._waiting.popleft())
            size += len(taken[-1].text)
        self._bytes -= size
        return taken

    def end(self) -> None:
        """Send nothing more."""
        self.ended = True
        self._waiting.clear()
        self._news.set()
