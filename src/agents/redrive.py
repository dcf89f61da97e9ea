"""What an operator does with dead letters: they go back to the commands topic, or are dropped; each is marked.

A redriven one is marked once Kafka has it. Whoever dies between the two sends it again the next time: the command id
makes a duplicate of it. What Postgres marks, Kafka knows before that commits, so that a replay brings it back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaProducer

from ..kafka import idempotent_producer
from ..models.errors import RejectedError
from ..models.letter_marks import LetterMarks
from ..models.redrive import Letter, command_id, redriven
from ..settings import Settings
from ..store.dead_letters import DeadLetters, HeldLetter, LetterState, StoredLetter
from .publisher import kafka_errors


class Outcome(NamedTuple):
    """What became of one dead letter."""

    place: str
    did: str
    """`redriven` or `dropped`; `nothing`, where somebody saw to it before; `refused`, where it cannot be sent."""
    state: LetterState
    to: str | None = None
    """Where it stands on the commands topic now."""
    command_id: str | None = None
    why: str | None = None
    """It was refused."""


class Redriver:
    """Sends dead letters again, or drops them."""

    def __init__(self, letters: DeadLetters, producer: AIOKafkaProducer, settings: Settings, by: str) -> None:
        self._letters = letters
        self._producer = producer
        self._settings = settings
        self._by = by

    async def redrive(self, stored: StoredLetter, *, corrected: bytes | None = None, again: bool = False) -> Outcome:
        """Send one, if it is open or is to be sent `again`.

        Raises:
            NoDeadLetterError: it is gone.
            UnavailableError: Postgres or Kafka is away; it may have been sent, and may be sent again.
        """
        async with self._letters.held(stored.id) as held:
            # 1. What somebody saw to before is left alone.
            if held.stored.state is not LetterState.OPEN and not again:
                return _nothing(held)
            # 2. Kafka has it ...
            try:
                record = redriven(held.stored.letter, corrected)
            except RejectedError as error:
                return Outcome(held.stored.letter.place, "refused", held.stored.state, why=str(error))
            partition, offset = await self._send(record)
            # 3. ... and then it is marked.
            await self._tell(await held.mark_redriven(self._by, partition, offset))
        return Outcome(record.place, "redriven", LetterState.REDRIVEN, f"{partition}:{offset}", command_id(record))

    async def drop(self, stored: StoredLetter, reason: str) -> Outcome:
        """Mark one as nothing to care about, if it is open.

        Raises:
            NoDeadLetterError: it is gone.
            UnavailableError: Postgres or Kafka is away; it may be marked after a replay.
        """
        async with self._letters.held(stored.id) as held:
            if held.stored.state is not LetterState.OPEN:
                return _nothing(held)
            await self._tell(await held.mark_dropped(self._by, reason))
        return Outcome(stored.letter.place, "dropped", LetterState.DROPPED)

    async def _send(self, record: Letter) -> tuple[int, int]:
        """Put it where its key belongs; without a key, where it was."""
        partition = None if record.key else record.partition
        with kafka_errors():
            sent = await self._producer.send_and_wait(
                self._settings.commands_topic,
                record.value,
                record.key,
                partition=partition,
                headers=list(record.headers),
            )
        return sent.partition, sent.offset

    async def _tell(self, marks: LetterMarks) -> None:
        """Put what became of one on its topic: before Postgres commits it, or what is lost in between is not there."""
        with kafka_errors():
            await self._producer.send_and_wait(self._settings.letter_marks_topic, marks.to_json(), marks.place.encode())


@asynccontextmanager
async def open_redriver(settings: Settings, letters: DeadLetters, by: str) -> AsyncIterator[Redriver]:
    """A redriver with a producer of its own.

    Raises:
        UnavailableError: Kafka is away.
    """
    async with idempotent_producer(settings) as producer:
        yield Redriver(letters, producer, settings, by)


def _nothing(held: HeldLetter) -> Outcome:
    stored = held.stored
    return Outcome(stored.letter.place, "nothing", stored.state, stored.redriven_to)
