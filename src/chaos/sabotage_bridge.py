"""Ways to break the bridge to an old system, applied inside its process before it begins.

Each takes away one guard, and leaves everything else as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from ..agents import bridge
from ..legacy import telling
from ..legacy.events import ORIGIN, legacy_notification
from ..legacy.intake import Intake

# What a slow network may take.
_SLOW_SECONDS = 0.6


def bridge_position_first() -> None:
    """Legacy events are committed before they are taken."""

    async def hasty(consumer: AIOKafkaConsumer, intake: Intake) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=200, max_records=500)
            records = [record for batch in batches.values() for record in batch]
            if records:
                await consumer.commit({TopicPartition(item.topic, item.partition): item.offset + 1 for item in records})
                await asyncio.sleep(_SLOW_SECONDS)
                await intake.take([(bridge._place(record), bridge._value(record)) for record in records])

    bridge._take = hasty


def bridge_told_first() -> None:
    """The old system counts as told before it is."""
    send: list[Any] = []

    async def later(told: Any) -> None:
        send.append(told)

    tell_some = telling.Teller._tell_some

    async def hasty(self: telling.Teller, partition: int, end: int) -> int:
        really, self._send = self._send, later
        try:
            moved = await tell_some(self, partition, end)
        finally:
            self._send = really
        await asyncio.sleep(_SLOW_SECONDS if send else 0)
        while send:
            await really(send.pop(0))
        return moved

    telling.Teller._tell_some = hasty  # type: ignore[method-assign]


def bridge_tells_back() -> None:
    """The old system is told what it told itself."""
    notification = legacy_notification

    def careless(event: Mapping[str, Any]) -> Any:
        return notification({**event, "commandId": str(event["commandId"]).removeprefix(ORIGIN)})

    telling.legacy_notification = careless  # type: ignore[attr-defined]


BREAKERS: dict[str, Callable[[], None]] = {
    "bridge-position-first": bridge_position_first,
    "bridge-told-first": bridge_told_first,
    "bridge-tells-back": bridge_tells_back,
}
