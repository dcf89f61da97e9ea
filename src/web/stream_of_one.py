"""The events of one assessment: what the audit trail has, then what comes, until nothing can come any more."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ..models.events import EventType
from ..store.trail import TrailEvent, TrailReader
from .feed import Feed, assessment_channel
from .sse import Stream, event_text, reset_text
from .subscription import Subscription

_VERSION = re.compile(r"[0-9]{1,10}")

_LAST = frozenset({EventType.COMPLETED, EventType.CANCELLED})
"""No event follows these; a failed assessment may be retried."""


def resume_one(last_id: str | None, version: int) -> tuple[int, str | None]:
    """The version after which a stream goes on, and why that is not the one the client has.

    Args:
        last_id: what the client has seen.
        version: the present one.
    """
    if last_id is None:
        return 0, None
    if not _VERSION.fullmatch(last_id):
        return version, "malformed"
    if int(last_id) > version:
        return version, "future"
    return int(last_id), None


class OneAssessment:
    """One assessment from a version on, in the order of its versions and without a gap."""

    def __init__(
        self,
        assessment_id: str,
        types: Collection[EventType] | None,
        trail: TrailReader,
        *,
        after: int,
        version: int,
        ended: bool,
    ) -> None:
        """Begin after a version.

        Args:
            assessment_id: the one.
            types: that are sent; all without.
            trail: has the history.
            after: the version that the client has seen.
            version: the one that the assessment has at least.
            ended: no other version can follow that one.
        """
        self._id = assessment_id
        self._types = types
        self._trail = trail
        self._last = after
        self._version = version
        self._ended = ended
        self._over = False

    async def run(self, stream: Stream, subscription: Subscription, feed: Feed, reset: str | None) -> None:
        """Send until it is over."""
        with feed.joined(subscription, assessment_channel(self._id)):
            if reset:
                await stream.send([reset_text(str(self._last), reset)])
            await self._catch_up(stream, subscription)
            while not (self._over or subscription.ended):
                events = [delivery.event for delivery in await subscription.take(stream.patience)]
                if any(event.version == 1 for event in events) and await self._is_another():
                    self._last = self._version = 0
                    await stream.send([reset_text("0", "deleted")])
                if not await self._send(stream, events):
                    await self._catch_up(stream, subscription)
                await stream.beat()
            if self._over:
                # The type of the last event may not be wanted: the client has to know it all the same, to be told
                # that there is no more when it comes back.
                await stream.move(str(self._last))

    async def _catch_up(self, stream: Stream, subscription: Subscription) -> None:
        """Send what the trail has."""
        while not (self._over or subscription.ended):
            events = await self._trail.of_assessment(self._id, self._last)
            if not events and self._last >= self._version:
                # The last event need not come by here: a reset may lead past it, or the history be gone.
                self._over = self._ended
                return
            begin = events[0].version - 1 if events else self._version
            if begin != self._last:
                self._last = begin
                await stream.send([reset_text(str(begin), "deleted")])
            await self._send(stream, events)

    async def _is_another(self) -> bool:
        """Whether what was streamed is deleted, and the id used again: versions of one assessment never go down."""
        current = await self._trail.version(self._id)
        return current is not None and current[0] < self._last

    async def _send(self, stream: Stream, events: Sequence[TrailEvent]) -> bool:
        """Send those that come next, and tell whether none is missing between."""
        texts = []
        for event in events:
            if event.version > self._last + 1:
                break
            if event.version == self._last + 1:
                self._last = event.version
                self._over = event.type in _LAST
                if self._types is None or event.type in self._types:
                    texts.append(event_text(str(event.version), event.type, event.value))
        await stream.send(texts)
        return not events or self._last >= events[-1].version
