"""The one reader of new events in a web process, and the streams that it feeds.

It reads while somebody listens, woken over Redis or by the clock. Its position moves with each event that it gives
out; a stream that joins learns the position, reads what lies before it from the audit trail, and gets what comes after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

from aiohttp import web

from ..models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from ..store.trail import Bounds, Chunk, TrailEvent
from ..telemetry import STREAMS
from .feed_positions import Position, covers, moved, offset_at, position_text
from .sse import event_text
from .subscription import Delivery, Subscription

logger = logging.getLogger(__name__)

# Each costs some 50 kB and a socket; more would take from the requests of everybody.
MOST_STREAMS = 10_000

# While wake-ups come over Redis, Postgres is asked just in case one was lost.
_SLOW_POLL = 5.0
_FAST_POLL = 0.25

# Between handing an event to so many streams, others have their turn.
_OFFERS_AT_ONCE = 5_000

_REACH_SECONDS = 10.0

Channel = tuple[str, str | None]
"""What a stream listens to: one assessment, the assessments of one owner, or all."""

EVERYTHING: Channel = ("all", None)


def assessment_channel(assessment_id: str) -> Channel:
    """The events of one assessment."""
    return "assessment", assessment_id


def owner_channel(user_id: str) -> Channel:
    """The events of one user's assessments."""
    return "owner", user_id


class Trail(Protocol):
    """Where new events are read."""

    async def bounds(self) -> Bounds:
        """What is there now."""

    async def window(self, partition: int, first: int, end: int) -> Chunk:
        """The next events of one partition."""


class Feed:
    """Read new events once, for all streams."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._open: set[Subscription] = set()
        self._channels: dict[Channel, set[Subscription]] = {}
        self._position: Position | None = None
        self._moved = asyncio.Event()
        self._busy = asyncio.Event()
        self._wake = asyncio.Event()
        self._listening = False
        self._blind = False
        self._stopping = False

    @property
    def position(self) -> Position:
        """Everything before was given out, and nothing after.

        Raises:
            UnavailableError: it is not known yet.
        """
        if self._position is None:
            raise UnavailableError("Postgres has not told yet where the events are")
        return self._position

    @contextmanager
    def open(self, cut: Callable[[], None]) -> Iterator[Subscription]:
        """A subscription that gets nothing yet, for as long as the block lasts.

        Args:
            cut: aborts the connection of a reader that is too slow.

        Raises:
            RejectedError: SERVICE_UNAVAILABLE, there are too many, or the process stops.
        """
        if self._stopping or len(self._open) >= MOST_STREAMS:
            words = "The service is stopping" if self._stopping else f"{MOST_STREAMS} event streams are open"
            raise RejectedError(Rejection(ErrorCode.SERVICE_UNAVAILABLE, f"{words}: try again, or elsewhere"))
        subscription = Subscription(cut)
        self._open.add(subscription)
        self._busy.set()
        STREAMS.inc()
        try:
            yield subscription
        finally:
            STREAMS.dec()
            self._open.discard(subscription)

    @contextmanager
    def joined(self, subscription: Subscription, channel: Channel) -> Iterator[Position]:
        """Give the subscription every event after the position that this returns, while the block lasts."""
        position = self.position
        self._channels.setdefault(channel, set()).add(subscription)
        try:
            yield position
        finally:
            self._channels[channel].discard(subscription)
            if not self._channels[channel]:
                del self._channels[channel]

    async def reached(self, position: Position) -> None:
        """Wait until everything before a position was given out.

        Raises:
            UnavailableError: that takes too long.
        """
        try:
            async with asyncio.timeout(_REACH_SECONDS):
                while self._position is None or not covers(self._position, position):
                    if self._stopping:
                        raise UnavailableError("The service is stopping")
                    self._wake.set()
                    await self._moved.wait()
        except TimeoutError as error:
            raise UnavailableError(f"Postgres has told no new events for {_REACH_SECONDS:g} s") from error

    def changed(self) -> None:
        """Take the news that there are events."""
        self._wake.set()

    def subscribed(self) -> None:
        """News come from now on; some may have been missed before."""
        self._listening = True
        self._wake.set()

    def lost(self) -> None:
        """News don't come for now."""
        self._listening = False
        self._wake.set()

    def stop(self) -> None:
        """End every stream."""
        self._stopping = True
        self._end_all()
        self._moved.set()

    async def run(self) -> None:
        """Read new events while there are streams, until cancelled."""
        while True:
            await self._busy.wait()
            while self._open:
                self._wake.clear()
                await self._look()
                await self._pause()
            self._busy.clear()
            self._position = None

    async def _look(self) -> None:
        try:
            await self._read()
        except UnavailableError as error:
            if not self._blind:
                logger.warning("Event streams go on without Postgres: %s", error, extra={"action": "feed_unavailable"})
            self._blind = True
        else:
            self._blind = False

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_SLOW_POLL if self._listening and not self._blind else _FAST_POLL):
                await self._wake.wait()
        except TimeoutError:
            pass  # the pause is over

    async def _read(self) -> None:
        """Give out what was applied since the last look."""
        end = (await self._trail.bounds()).end
        if self._position is None:
            self._move_to(end)
        elif not covers(end, self._position):
            # Another database stands in the place of the one that was read, or an older state of it.
            logger.warning("The history ends before what was read: streams begin anew", extra={"action": "feed_reset"})
            self._end_all()
            self._move_to(end)
        for partition, offset in enumerate(end):
            while offset_at(self._position or (), partition) < offset:
                chunk = await self._trail.window(partition, offset_at(self._position or (), partition), offset)
                await self._give_out(partition, chunk)

    async def _give_out(self, partition: int, chunk: Chunk) -> None:
        """Move from event to event; between them others may join, and find the position true."""
        offers = 0
        for event in chunk.events:
            position = moved(self._position or (), partition, event.offset + 1)
            self._position = position
            offers += self._offer(event, position)
            if offers >= _OFFERS_AT_ONCE:
                offers = 0
                await asyncio.sleep(0)
        self._move_to(moved(self._position or (), partition, chunk.reached))

    def _offer(self, event: TrailEvent, position: Position) -> int:
        """Hand an event to all who may see it, and count them."""
        of_it = self._channels.get(assessment_channel(event.assessment_id), ())
        of_owner = self._channels.get(owner_channel(event.owner), ()) if event.owner is not None else ()
        of_all = self._channels.get(EVERYTHING, ())
        if of_it:
            _offer_each(of_it, Delivery(event, event_text(str(event.version), event.type, event.value)))
        if of_owner or of_all:
            delivery = Delivery(event, event_text(position_text(position), event.type, event.value))
            _offer_each(of_owner, delivery)
            _offer_each(of_all, delivery)
        return len(of_it) + len(of_owner) + len(of_all)

    def _move_to(self, position: Position) -> None:
        self._position = position
        self._moved.set()
        self._moved = asyncio.Event()

    def _end_all(self) -> None:
        for subscription in self._open:
            subscription.end()


FEED = web.AppKey("feed", Feed)


def _offer_each(subscriptions: Collection[Subscription], delivery: Delivery) -> None:
    for subscription in subscriptions:
        subscription.offer(delivery)
