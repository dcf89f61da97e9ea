"""Send records, and remember where each came to stand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from assessmentstore.chaos.installation import Installation
from assessmentstore.chaos.messages import Message, Traffic
from assessmentstore.chaos.topics import Place
from assessmentstore.kafka import kafka_connection

_TICK_SECONDS = 0.05
_MAX_REQUEST_BYTES = 8 * 1024 * 1024

# An outage of 20 s must not make the load give up.
_PATIENCE_MILLISECONDS = 120_000


class Sender:
    """A producer of commands that knows what the broker has acknowledged."""

    def __init__(self, installation: Installation, producer: AIOKafkaProducer) -> None:
        self._topic = installation.settings.commands_topic
        self._producer = producer
        self.sent: dict[Place, Message] = {}
        """Each record that the broker has acknowledged."""

    async def send(self, *messages: Message) -> list[Place]:
        """Send records in this order and wait until all are acknowledged."""
        return await self.acknowledged(await self.hand_over(messages), messages)

    async def hand_over(self, messages: Iterable[Message]) -> list[Any]:
        """Send without waiting; a record without a key goes to partition 0."""
        return [
            await self._producer.send(
                self._topic,
                key=message.key,
                value=message.value,
                headers=message.all_headers(),
                partition=None if message.key else 0,
            )
            for message in messages
        ]

    async def acknowledged(self, futures: list[Any], messages: Iterable[Message]) -> list[Place]:
        """Wait for the acknowledgement of what was handed over."""
        places = []
        for future, message in zip(futures, messages, strict=True):
            metadata = await future
            places.append((metadata.partition, metadata.offset))
            self.sent[places[-1]] = message
        return places


@asynccontextmanager
async def open_sender(installation: Installation) -> AsyncIterator[Sender]:
    """A sender for as long as the block lasts."""
    producer = AIOKafkaProducer(
        **kafka_connection(installation.settings),
        acks="all",
        enable_idempotence=True,
        max_request_size=_MAX_REQUEST_BYTES,
        request_timeout_ms=_PATIENCE_MILLISECONDS,
        retry_backoff_ms=20,
    )
    await producer.start()
    try:
        yield Sender(installation, producer)
    finally:
        await producer.stop()


class Load:
    """Traffic at a steady rate, from when it is started until it is stopped."""

    def __init__(self, sender: Sender, traffic: Traffic, rate: float) -> None:
        self.sender = sender
        self._traffic = traffic
        self._rate = rate
        self._stopping = asyncio.Event()
        self._waiting: list[tuple[list[Any], list[Message]]] = []

    async def run(self) -> None:
        """Send until told to stop, then wait until all is acknowledged."""
        loop = asyncio.get_running_loop()
        started, count = loop.time(), 0
        while not self._stopping.is_set():
            due = int((loop.time() - started) * self._rate) - count
            # After an outage the load goes on; it does not make up for what it could not send.
            messages = self._traffic.take(min(due, int(self._rate)))
            count += due
            self._waiting.append((await self.sender.hand_over(messages), messages))
            await self._collect()
            await self._tick()
        for futures, messages in self._waiting:
            await self.sender.acknowledged(futures, messages)

    async def _collect(self) -> None:
        while self._waiting and all(future.done() for future in self._waiting[0][0]):
            futures, messages = self._waiting.pop(0)
            await self.sender.acknowledged(futures, messages)

    async def _tick(self) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), _TICK_SECONDS)
        except TimeoutError:
            return

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopping.set()


@asynccontextmanager
async def under_load(installation: Installation, *, seed: int, rate: float = 300) -> AsyncIterator[Sender]:
    """Traffic for as long as the block lasts; all of it is acknowledged when the block is left."""
    async with open_sender(installation) as sender:
        load = Load(sender, Traffic(seed), rate)
        running = asyncio.create_task(load.run())
        try:
            yield sender
        finally:
            load.stop()
            await asyncio.wait_for(running, _PATIENCE_MILLISECONDS / 1000)
