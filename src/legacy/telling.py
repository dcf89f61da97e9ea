"""What the store changed by itself, told to those who still listen to the old system, in its names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import orjson

from ..models.base import JsonObject
from ..store.legacy_told import ToldStore
from ..store.trail import TrailEvent, TrailReader
from .events import legacy_notification

Send = Callable[[Sequence[JsonObject]], Awaitable[None]]


class Page(NamedTuple):
    """Some notifications of one partition, and how far they reach."""

    notifications: list[JsonObject]
    reached: int


class Notifications:
    """Reads the trail, and leaves out what the old system told the store itself."""

    def __init__(self, trail: TrailReader) -> None:
        self._trail = trail

    async def ends(self) -> tuple[int, ...]:
        """How far there is something to tell, by partition.

        Raises:
            UnavailableError: Postgres is away.
        """
        return (await self._trail.bounds()).end

    async def page(self, partition: int, first: int, end: int) -> Page:
        """The next notifications of a partition.

        Raises:
            UnavailableError: Postgres is away.
        """
        chunk = await self._trail.window(partition, first, end)
        return Page([told for event in chunk.events if (told := _notification(event))], chunk.reached)


class Teller:
    """Tells what is not told yet, partition by partition; of many, one tells each."""

    def __init__(self, notifications: Notifications, told: ToldStore, send: Send) -> None:
        self._notifications = notifications
        self._told = told
        self._send = send

    async def tell(self) -> int:
        """Tell all there is now, and say how much that was: each at least once, under an id that stays.

        Raises:
            UnavailableError: Postgres or Kafka is away.
        """
        count = 0
        for partition, end in enumerate(await self._notifications.ends()):
            while moved := await self._tell_some(partition, end):
                count += moved
        return count

    async def _tell_some(self, partition: int, end: int) -> int:
        async with self._told.held(partition) as held:
            if held is None or held.next_offset >= end:
                return 0
            page = await self._notifications.page(partition, held.next_offset, end)
            await self._send(page.notifications)
            await held.move(page.reached)
            return page.reached - held.next_offset


def _notification(event: TrailEvent) -> JsonObject | None:
    return legacy_notification(orjson.loads(event.value))
