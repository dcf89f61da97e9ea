"""Plain producers of commands: some idempotent, some not, and what Kafka acknowledged to them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..kafka import kafka_connection
from ..settings import Settings
from .messages import Message
from .topics import Place

# An outage may last longer: then its client knows nothing, and sends the command again.
_SEND_SECONDS = 15.0
_STOP_SECONDS = 5.0
_START_PAUSE = 0.3


class NotAcknowledgedError(Exception):
    """Kafka may have the record or not."""


class KafkaClient:
    """One producer, replaced when it is beyond repair."""

    def __init__(self, settings: Settings, *, idempotent: bool, compression: str | None) -> None:
        self._settings = settings
        self._idempotent = idempotent
        self._compression = compression
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()
        self._stopping: set[asyncio.Task[None]] = set()

    async def send(self, message: Message) -> Place:
        """Send a record and return where it stands.

        Raises:
            NotAcknowledgedError: Kafka did not say that it has it.
        """
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                producer = await self._started()
                metadata = await producer.send_and_wait(
                    self._settings.commands_topic,
                    message.value,
                    message.key,
                    headers=message.all_headers(),
                    partition=None if message.key else 0,
                )
        except (KafkaError, OSError, TimeoutError) as error:
            self._replace()
            raise NotAcknowledgedError(repr(error)) from error
        if metadata.offset < 0:
            raise NotAcknowledgedError("Kafka has the record, but does not say where")
        return metadata.partition, metadata.offset

    async def stop(self) -> None:
        """Let go of every producer; what Kafka holds up ends when it is back, or not at all."""
        self._replace()
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=_STOP_SECONDS)

    def _replace(self) -> None:
        """Let go of the producer, in whichever state it is; whoever sends next gets another."""
        producer, self._producer = self._producer, None
        if producer is not None:
            task = asyncio.create_task(_stop(producer))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _started(self) -> AIOKafkaProducer:
        async with self._lock:
            while self._producer is None:
                producer = AIOKafkaProducer(
                    **kafka_connection(self._settings),
                    acks="all",
                    enable_idempotence=self._idempotent,
                    compression_type=self._compression,
                    request_timeout_ms=int(_SEND_SECONDS * 1000),
                )
                try:
                    await producer.start()
                except (KafkaError, OSError):
                    with suppress(KafkaError, OSError):
                        await producer.stop()
                    await asyncio.sleep(_START_PAUSE)
                else:
                    self._producer = producer
        return self._producer


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError, OSError):
        await producer.stop()
