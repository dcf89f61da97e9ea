"""The commands topic, for the migration to write to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..kafka import idempotent_producer
from ..models.envelope import STRUCTURED
from ..models.errors import UnavailableError
from ..settings import Settings
from .commands import Outgoing

_BATCH_BYTES = 512 * 1024

_HEADERS = [("content-type", STRUCTURED.encode())]


class Sender(Protocol):
    """Whoever puts commands on their topic."""

    async def send(self, commands: Sequence[Outgoing]) -> None:
        """Put them there, those of one assessment in their order; all stand there when this returns.

        Raises:
            UnavailableError: Kafka did not confirm all of them.
        """


class CommandsTopic:
    """A producer of commands."""

    def __init__(self, producer: AIOKafkaProducer, name: str) -> None:
        self._producer = producer
        self._name = name

    async def send(self, commands: Sequence[Outgoing]) -> None:
        """Put commands on the topic; they are the same commands when they are sent again.

        Raises:
            UnavailableError: Kafka did not confirm all of them.
        """
        try:
            sent = [
                await self._producer.send(self._name, item.value, item.key.encode(), headers=_HEADERS)
                for item in commands
            ]
            await asyncio.gather(*sent)
        except KafkaError as error:
            raise UnavailableError(f"Kafka did not confirm all commands: {error!r}") from error


@asynccontextmanager
async def open_commands_topic(settings: Settings) -> AsyncIterator[CommandsTopic]:
    """The topic with a producer of its own.

    Raises:
        UnavailableError: Kafka is away.
    """
    async with idempotent_producer(settings, max_batch_size=_BATCH_BYTES) as producer:
        yield CommandsTopic(producer, settings.commands_topic)
