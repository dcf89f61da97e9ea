"""The events of everything that a user may see: the audit trail up to the live feed, then the feed itself."""

from __future__ import annotations

from collections.abc import Collection

from ..models.errors import AssessmentStoreError
from ..models.events import EventType
from ..store.trail import Bounds, TrailReader
from .auth import User
from .feed import EVERYTHING, Feed, owner_channel
from .feed_positions import (
    Position,
    covers,
    distance,
    moved,
    offset_at,
    position_from_text,
    position_text,
)
from .sse import Stream, event_text, reset_text
from .subscription import Subscription

# A stream joins the live feed when no more than this is left to be read: what comes meanwhile waits for it, and there
# is room for MOST_WAITING.
_CLOSE_BY = 500


class HistoryGoneError(AssessmentStoreError):
    """What a client has not seen yet was deleted."""


def resume(last_id: str | None, bounds: Bounds) -> tuple[Position, str | None]:
    """The position from which a stream goes on, and why that is not the one the client has."""
    if last_id is None:
        return bounds.end, None
    try:
        position = position_from_text(last_id)
    except ValueError:
        return bounds.end, "malformed"
    if not covers(bounds.end, position):
        return bounds.end, "future"
    if not covers(position, bounds.begin):
        return bounds.end, "deleted"
    return position, None


class AllEvents:
    """Everything that a user may see, from a position on; of each assessment in the order of its versions."""

    def __init__(
        self, user: User, types: Collection[EventType] | None, trail: TrailReader, feed: Feed, position: Position
    ) -> None:
        self._owner = user.scope
        self._types = types
        self._trail = trail
        self._feed = feed
        self._position = position

    async def run(self, stream: Stream, subscription: Subscription, reset: str | None) -> None:
        """Send until the stream ends."""
        if reset:
            await stream.send([reset_text(position_text(self._position), reset)])
        await self._approach(stream, subscription)
        subscription.narrow(self._types)
        channel = EVERYTHING if self._owner is None else owner_channel(self._owner)
        with self._feed.joined(subscription, channel) as position:
            await self._read(stream, subscription, position)
            while not subscription.ended:
                deliveries = await subscription.take(stream.patience)
                await stream.send([delivery.text for delivery in deliveries])
                if not subscription.waiting:
                    # Nothing was given out that is not sent: this client is where the feed is.
                    await stream.beat(position_text(self._feed.position))

    async def _approach(self, stream: Stream, subscription: Subscription) -> None:
        """Read until the live feed is close by, from outside of it: a long history would make its queue run over."""
        while not subscription.ended and distance(self._position, self._feed.position) > _CLOSE_BY:
            await self._read(stream, subscription, self._feed.position)

    async def _read(self, stream: Stream, subscription: Subscription, end: Position) -> None:
        """Send what lies before a position, or tell that it is gone."""
        try:
            for partition, offset in enumerate(end):
                while offset_at(self._position, partition) < offset and not subscription.ended:
                    await self._read_chunk(stream, partition, offset)
        except HistoryGoneError:
            self._position = end
            await stream.send([reset_text(position_text(end), "deleted")])

    async def _read_chunk(self, stream: Stream, partition: int, end: int) -> None:
        first = offset_at(self._position, partition)
        chunk = await self._trail.window(partition, first, end, owner=self._owner, types=self._types)
        if chunk.begin > first:
            raise HistoryGoneError(f"partition {partition} begins at {chunk.begin}, and {first} was to be read")
        texts = []
        for event in chunk.events:
            self._position = moved(self._position, partition, event.offset + 1)
            texts.append(event_text(position_text(self._position), event.type, event.value))
        await stream.send(texts)
        self._position = moved(self._position, partition, chunk.reached)
        await stream.beat(position_text(self._position))
