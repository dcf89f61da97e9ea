"""Commands on their way to Kafka: one idempotent producer, replaced when it is beyond repair."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError

from ..kafka import kafka_connection, kafka_refusals
from ..models.envelope import MAX_COMMAND_BYTES, STRUCTURED
from ..models.errors import UnavailableError
from ..models.positions import Positions
from ..settings import Settings
from .patience import Turns

logger = logging.getLogger(__name__)

_REQUEST_SECONDS = 10

# Commands of one partition that go together: with the default of 16 KiB a batch of 10,000 takes a hundred round trips.
_BATCH_BYTES = 512 * 1024

# What a record weighs beside its value: key, header, and the batch around it; an encrypted value is a third longer.
_OVERHEAD_BYTES = 64 * 1024 + MAX_COMMAND_BYTES // 2

# A start and a replacement take a fraction of this; Kafka is away where it takes longer.
_CONNECT_SECONDS = 2.0

# A stop does not wait for a Kafka that is away: whoever sent was told that the outcome is not known.
_STOP_SECONDS = 1.0

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

_HEADERS = [("content-type", STRUCTURED.encode())]


class NotSentError(UnavailableError):
    """Kafka is away, and certainly does not have the command."""


class Publisher:
    """The commands topic, for writing."""

    def __init__(self, settings: Settings) -> None:
        self._connection = kafka_connection(settings)
        self._topic = settings.commands_topic
        self._producer: AIOKafkaProducer | None = None
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()

    async def send(self, assessment_id: str, value: bytes) -> Positions:
        """Put a command on the topic; it stands there when this returns, and where is what it returns.

        Raises:
            NotSentError: Kafka is away.
            UnavailableError: Kafka did not confirm the command, but may have it or get it yet.
        """
        producer = await self._usable()
        try:
            sent = await producer.send_and_wait(self._topic, value, assessment_id.encode(), headers=_HEADERS)
        except KafkaTimeoutError as error:
            raise NotSentError(f"Kafka takes no more commands for now: {error!r}") from error
        except KafkaError as error:
            # An idempotent producer that gave up on a batch has a gap in its sequence, which Kafka never forgives.
            self._broken.set()
            raise UnavailableError(f"Kafka did not confirm the command: {error!r}") from error
        return _positions([sent])

    async def send_all(self, commands: Iterable[tuple[str, bytes]]) -> Positions:
        """Put many commands on the topic, those of one assessment in their order; all stand there when this returns.

        Raises:
            NotSentError: Kafka is away, and has none of them.
            UnavailableError: Kafka did not confirm all of them, but may have any or get it yet.
        """
        producer = await self._usable()
        turns, confirmations = Turns(), set[asyncio.Future[Any]]()
        try:
            for assessment_id, value in commands:
                sent = await producer.send(self._topic, value, assessment_id.encode(), headers=_HEADERS)
                # Whatever ends this, each confirmation is heard.
                sent.add_done_callback(_hear)
                confirmations.add(sent)
                await turns.give_way()
            if confirmations:
                await asyncio.wait(confirmations)
            return _positions(confirmation.result() for confirmation in confirmations)
        except KafkaTimeoutError as error:
            raise UnavailableError(f"Kafka takes no more commands for now: {error!r}") from error
        except KafkaError as error:
            self._broken.set()
            raise UnavailableError(f"Kafka did not confirm all commands: {error!r}") from error

    async def run(self) -> None:
        """Keep a producer connected, until cancelled."""
        while True:
            producer = await self._connect()
            self._broken.clear()
            self._producer = producer
            self._connected.set()
            try:
                await self._broken.wait()
            finally:
                self._producer = None
                self._connected.clear()
                await self._stop(producer)

    async def _usable(self) -> AIOKafkaProducer:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._connected.wait()
        if self._producer is None:
            raise NotSentError(f"Kafka does not answer at {self._connection['bootstrap_servers']}")
        return self._producer

    async def _connect(self) -> AIOKafkaProducer:
        """A producer that reaches Kafka and the topic; to send to a missing one could create it."""
        pause, told = _FIRST_PAUSE, ""
        while True:
            producer = AIOKafkaProducer(
                **self._connection,
                acks="all",
                enable_idempotence=True,
                max_batch_size=_BATCH_BYTES,
                max_request_size=MAX_COMMAND_BYTES + _OVERHEAD_BYTES,
                request_timeout_ms=_REQUEST_SECONDS * 1000,
            )
            try:
                async with kafka_refusals(self._connection):
                    await producer.start()
                if self._topic in (await producer.client.fetch_all_metadata()).topics():
                    return producer
                reason = f"the topic {self._topic} is missing: run assessmentstore migrate"
            except UnavailableError as error:
                reason = str(error)
            except (KafkaError, OSError, TimeoutError) as error:
                reason = repr(error)
            except BaseException:
                await self._stop(producer)
                raise
            await self._stop(producer)
            if reason != told:
                logger.warning("No commands can be sent: %s", reason, extra={"action": "kafka_unavailable"})
                told = reason
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _stop(self, producer: AIOKafkaProducer) -> None:
        try:
            await asyncio.wait_for(producer.stop(), _STOP_SECONDS)
        except (TimeoutError, KafkaError):
            logger.warning("Kafka did not take the last commands", extra={"action": "kafka_stop"})
            with suppress(KafkaConnectionError):
                await producer.client.close()


def _hear(confirmation: asyncio.Future[Any]) -> None:
    """Take note of an error: where another came first nobody else will, and asyncio would complain."""
    if not confirmation.cancelled():
        confirmation.exception()


def _positions(sent: Iterable[Any]) -> Positions:
    """Right after all of what Kafka confirmed.

    Raises:
        UnavailableError: Kafka does not say where a command is.
    """
    ends: dict[int, int] = {}
    for confirmed in sent:
        if confirmed.offset < 0:
            # So Kafka answers a repetition that it no longer remembers; a token made of it would promise nothing.
            raise UnavailableError("Kafka has the command, but does not say where")
        ends[confirmed.partition] = max(confirmed.offset + 1, ends.get(confirmed.partition, 0))
    return Positions(ends)
