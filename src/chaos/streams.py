"""Clients that follow events: over Server-Sent Events, and as a consumer of the events topic."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ..client.sse import Message, SseParser
from ..kafka import kafka_connection
from ..settings import Settings
from ..store.encryption import KeyRing
from .history import Call, History, Kind, Told
from .http_client import HttpClient

_PAUSE_SECONDS = 0.3
_SILENCE_SECONDS = 20.0
"""A stream has a heartbeat every 15 s; one that is silent for longer is dead."""


class Seen:
    """The last version of each assessment that one client has seen."""

    def __init__(self, client: str, door: str, history: History) -> None:
        self.client = client
        self.begun = asyncio.Event()
        self.versions: dict[str, int] = {}
        self._door = door
        self._history = history

    def event(self, data: str) -> None:
        """Take an event."""
        event = orjson.loads(data)
        self.versions[event["assessmentId"]] = event["version"]
        self._note(event["assessmentId"], Told.OK, version=event["version"], body=data)

    def reset(self, assessment: str, data: str) -> None:
        """Take note that events were lost."""
        self._note(assessment, Told.REFUSED, why=f"reset {data}")

    def has(self, versions: Mapping[str, int]) -> bool:
        """Whether it has seen as much as there is."""
        return all(self.versions.get(key, 0) >= version for key, version in versions.items())

    def _note(self, assessment: str, told: Told, **found: Any) -> None:
        now = self._history.now
        self._history.add(
            Call(
                client=self.client,
                kind=Kind.STREAM,
                assessment=assessment,
                invoked=now,
                completed=now,
                told=told,
                door=self._door,
                **found,
            )
        )


async def follow_one(http: HttpClient, seen: Seen, assessment: str, *, user: str, doors: Sequence[str]) -> None:
    """Follow one assessment until nothing more can come, through whichever web is there."""
    await _follow(http, seen, f"/assessments/{assessment}/events", assessment, user=user, doors=doors)


async def follow_all(http: HttpClient, seen: Seen, *, doors: Sequence[str]) -> None:
    """Follow everything, until cancelled."""
    await _follow(http, seen, "/events", "", user="admin", doors=doors)


async def _follow(http: HttpClient, seen: Seen, path: str, assessment: str, *, user: str, doors: Sequence[str]) -> None:
    last_id, turn = "", 0
    while True:
        door, turn = doors[turn % len(doors)], turn + 1
        parser = SseParser(last_id)
        headers = {"Authorization": http.authorization(user)} | ({"Last-Event-ID": last_id} if last_id else {})
        try:
            async with http.stream(door, path, headers, silence=_SILENCE_SECONDS) as response:
                if response.status == 204:
                    return
                if response.status == 200:
                    async for chunk in response.content.iter_any():
                        for message in parser.feed(chunk):
                            _take(seen, assessment, message)
                        last_id = parser.last_event_id
                        if last_id:
                            seen.begun.set()
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass  # it comes back with what it has seen
        last_id = parser.last_event_id
        await asyncio.sleep(_PAUSE_SECONDS)


def _take(seen: Seen, assessment: str, message: Message) -> None:
    if message.event == "reset":
        seen.reset(assessment, message.data)
    else:
        seen.event(message.data)


async def observe(settings: Settings, seen: Seen) -> None:
    """Consume the events topic from its beginning, until cancelled, as somebody who has the keys."""
    keys = KeyRing.of(settings)
    tps = [TopicPartition(settings.events_topic, number) for number in range(settings.topic_partitions)]
    positions = dict.fromkeys(tps, 0)
    while True:
        consumer = AIOKafkaConsumer(
            **kafka_connection(settings), isolation_level="read_committed", enable_auto_commit=False
        )
        try:
            await consumer.start()
            consumer.assign(tps)
            for tp, position in positions.items():
                consumer.seek(tp, position)
            seen.begun.set()
            async for record in consumer:
                seen.event(keys.open_event((record.value or b"").decode()))
                positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        except (KafkaError, OSError):
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            with suppress(KafkaError, OSError):
                await consumer.stop()
