"""The bridge to the old system: its events in, ours out under its names, and the roll-out that goes on by itself.

A process of its own, so that nothing of it can slow down or break what serves. As many as one likes may run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from ..kafka import idempotent_producer, kafka_connection
from ..legacy.comparing import Comparer
from ..legacy.controller import Controller
from ..legacy.intake import Intake
from ..legacy.telling import Notifications, Send, Teller
from ..legacy.topic import open_commands_topic
from ..models.base import JsonObject
from ..settings import Settings
from ..store.background import background
from ..store.divergences import Divergences
from ..store.encryption import KeyRing
from ..store.legacy_told import ToldStore
from ..store.postgres import Pools, open_pools
from ..store.rollout import RolloutStore
from ..store.trail import TrailReader
from ..telemetry import LEGACY_LAG
from .publisher import kafka_errors

logger = logging.getLogger(__name__)

_RECORDS_A_ROUND = 500
_POLL_MILLISECONDS = 200
_TELL_SECONDS = 0.2
_FORGET_SECONDS = 3600.0


@asynccontextmanager
async def open_bridge(settings: Settings) -> AsyncIterator[Pools]:
    """The bridge, while the caller does something else with its connections; what fails begins again.

    Raises:
        SettingsError: the keys cannot be read.
    """
    keys = KeyRing.of(settings)
    async with open_pools(settings, application="bridge") as pools:
        ledger, rollout = Divergences(pools.write, keys), RolloutStore(pools.write, settings.commands_topic)

        async def take() -> None:
            async with open_commands_topic(settings) as topic, _consumer(settings) as consumer:
                await _take(consumer, Intake(topic, ledger, keys))

        async def compare() -> None:
            async with open_commands_topic(settings) as topic:
                await Comparer(ledger, rollout, topic, keys, settings).run()

        async def tell() -> None:
            # Where payloads are encrypted, they are on this topic too: its readers have keys, or ask over HTTP.
            trail = TrailReader(pools.write, settings.commands_topic)
            async with _sender(settings) as send:
                await _again_and_again(Teller(Notifications(trail), ToldStore(pools.write), send))

        async def forget() -> None:
            while True:
                await ledger.forget_old_events()
                await asyncio.sleep(_FORGET_SECONDS)

        control = Controller(rollout, settings).run
        async with background(take), background(compare), background(tell), background(control), background(forget):
            yield pools


async def _take(consumer: AIOKafkaConsumer, intake: Intake) -> None:
    """Take in what is on the topic; a position is kept when everything below is on the commands topic."""
    while True:
        batches = await consumer.getmany(timeout_ms=_POLL_MILLISECONDS, max_records=_RECORDS_A_ROUND)
        records = [record for batch in batches.values() for record in batch]
        ahead = await _ahead(consumer)
        LEGACY_LAG.set(ahead + len(records))
        if records:
            await intake.take([(_place(record), _value(record)) for record in records])
            ends = {TopicPartition(item.topic, item.partition): item.offset + 1 for item in records}
            await consumer.commit(ends)
            LEGACY_LAG.set(ahead)


async def _ahead(consumer: AIOKafkaConsumer) -> int:
    """How many records of its partitions the consumer has not fetched yet, as far as it knows."""
    ends = {place: consumer.highwater(place) for place in consumer.assignment()}
    return sum([max(0, end - await consumer.position(place)) for place, end in ends.items() if end is not None])


async def _again_and_again(teller: Teller) -> None:
    while True:
        await teller.tell()
        await asyncio.sleep(_TELL_SECONDS)


def _place(record: ConsumerRecord[bytes, bytes]) -> str:
    return f"{record.topic}:{record.partition}:{record.offset}"


def _value(record: ConsumerRecord[bytes, bytes]) -> Any:
    """What the record says; what is no JSON is a text, and nothing that can be translated."""
    value = record.value or b""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value.decode("utf-8", "backslashreplace")


@asynccontextmanager
async def _consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        settings.legacy_events_topic,
        **kafka_connection(settings),
        group_id=f"{settings.app_id}-legacy",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=round(settings.session_timeout * 1000),
        heartbeat_interval_ms=round(settings.session_timeout * 100),
    )
    with kafka_errors():
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


@asynccontextmanager
async def _sender(settings: Settings) -> AsyncIterator[Send]:
    """What puts notifications on their topic."""
    topic = settings.legacy_notifications_topic
    with kafka_errors():
        async with idempotent_producer(settings) as producer:

            async def send(notifications: Sequence[JsonObject]) -> None:
                sent = [
                    await producer.send(topic, orjson.dumps(item), str(item["assessmentId"]).encode())
                    for item in notifications
                ]
                await asyncio.gather(*sent)

            yield send
