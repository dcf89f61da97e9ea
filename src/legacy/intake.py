"""What the old system says, taken in: commands for the topic, reports to compare, and what was wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..models.base import JsonObject
from ..models.storable import unstorable
from ..store.divergences import Divergence, Divergences, SeenEvent
from ..store.encryption import KeyRing
from ..telemetry import LEGACY_EVENTS
from .commands import Outgoing, encode, untranslated
from .events import LegacyEvent, UnknownNameError, read_event
from .fields import UnreadableError, member
from .topic import Sender


class Taken(StrEnum):
    """What became of an event of the old system."""

    SENT = "sent"
    """It is a command."""
    REPORTED = "reported"
    """It is a record, to be compared."""
    DEAD_LETTER = "dead-letter"
    """It cannot be translated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One event, and what it came to."""

    taken: Taken
    assessment_id: str | None
    event: LegacyEvent | None = None
    command: Outgoing | None = None
    reason: str | None = None
    unknown_name: bool = False


class Intake:
    """The way in, over HTTP and over Kafka alike."""

    def __init__(self, topic: Sender, ledger: Divergences, keys: KeyRing) -> None:
        self._topic = topic
        self._ledger = ledger
        self._keys = keys

    async def take(self, values: Iterable[tuple[str, Any]]) -> list[Item]:
        """Send what are commands, and keep what else there is to know; in this order, and twice does no harm.

        Args:
            values: events as they came, each with the place that it was read at.

        Raises:
            UnavailableError: Kafka or Postgres is away; whoever sent them sends them again.
        """
        items = [(place, self.read(value)) for place, value in values]
        await self._topic.send([item.command for _, item in items if item.command])
        # Of each assessment the last report counts.
        reports = {
            item.event.assessment_id: item.event.data for _, item in items if item.event and not item.event.command
        }
        await self._note_events([(place, item.event) for place, item in items if item.event and item.event.command])
        await self._ledger.add([_wrong_name(item) for _, item in items if item.unknown_name])
        await self._ledger.note_reports(reports)
        for _, item in items:
            LEGACY_EVENTS.labels(item.taken).inc()
        return [item for _, item in items]

    def read(self, value: Any) -> Item:
        """What an event comes to."""
        try:
            event = read_event(value)
            _check(event)
            if event.command is None:
                return Item(taken=Taken.REPORTED, assessment_id=event.assessment_id, event=event)
            command = encode(
                event.command,
                event.assessment_id,
                event.data,
                command_id=event.command_id,
                at=event.at,
                keys=self._keys,
            )
        except UnreadableError as error:
            name = member(value, "assessmentId") if isinstance(value, dict) else None
            assessment_id = name if isinstance(name, str) and not unstorable(name) else None
            return Item(
                taken=Taken.DEAD_LETTER,
                assessment_id=assessment_id,
                command=untranslated(value, assessment_id),
                reason=str(error),
                unknown_name=isinstance(error, UnknownNameError),
            )
        return Item(taken=Taken.SENT, assessment_id=event.assessment_id, event=event, command=command)

    async def _note_events(self, events: Sequence[tuple[str, LegacyEvent]]) -> None:
        """Write into the ledger which of the events came before, and which came late."""
        left = list(events)
        while left:
            # One that is there twice is noted twice, as it came.
            once: dict[str, tuple[str, LegacyEvent]] = {}
            for place, event in left:
                once.setdefault(event.command_id, (place, event))
            left = [pair for pair in left if pair not in once.values()]
            noted = {event.command_id: event for _, event in once.values()}
            doubled, late = await self._ledger.note_events([_seen(place, event) for place, event in once.values()])
            found = [_doubled(noted[command_id]) for command_id in doubled]
            found += [
                _divergence(item.assessment_id, "reordered", f"{item.name} after {item.before}", item.command_id)
                for item in late
            ]
            await self._ledger.add(found)


def _check(event: LegacyEvent) -> None:
    """Refuse what Postgres cannot keep."""
    if reason := unstorable([event.assessment_id, event.data]):
        raise UnreadableError(reason)


def _seen(place: str, event: LegacyEvent) -> SeenEvent:
    return SeenEvent(event.command_id, event.assessment_id, str(event.kind), event.rank, event.at, place)


def _doubled(event: LegacyEvent) -> Divergence:
    return _divergence(event.assessment_id, "doubled", str(event.kind), event.command_id)


def _wrong_name(item: Item) -> Divergence:
    return _divergence(item.assessment_id, "wrong-name", item.reason, None)


def _divergence(assessment_id: str | None, kind: str, told: str | None, command_id: str | None) -> Divergence:
    return Divergence(assessment_id=assessment_id, field="event", kind=kind, legacy_value=told, store_value=command_id)


def results(items: Sequence[Item]) -> list[JsonObject]:
    """What each event came to, as it is answered."""
    return [
        {
            "index": index,
            "assessmentId": item.assessment_id,
            "outcome": item.taken,
            "commandId": item.event.command_id if item.event and item.event.command else None,
            "reason": item.reason,
        }
        for index, item in enumerate(items)
    ]
