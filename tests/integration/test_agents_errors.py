"""What drivers raise when a worker has lost its partition is no bug that would end the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IllegalOperation, KafkaConnectionError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from assessmentstore.agents.crash_points import CrashPoints
from assessmentstore.agents.publisher import ProducerFencedError, Publisher, kafka_errors
from assessmentstore.chaos.topics import read_topic
from assessmentstore.models.errors import UnavailableError
from assessmentstore.settings import Settings
from assessmentstore.store.changes import DeadLetter, Outbox
from assessmentstore.store.postgres import postgres_errors


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ProducerFenced(), ProducerFencedError),
        (IllegalOperation("Can't send messages while not in transaction"), UnavailableError),
        (KafkaConnectionError(), UnavailableError),
    ],
    ids=lambda item: getattr(item, "__name__", type(item).__name__),
)
def test_what_kafka_raises_is_told_apart(raised: Exception, told: type[Exception]) -> None:
    with pytest.raises(told), kafka_errors():
        raise raised


@pytest.mark.parametrize(
    "raised",
    [
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
        asyncpg.InterfaceError("the underlying connection is closed"),
        asyncpg.AdminShutdownError(),
    ],
    ids=lambda item: type(item).__name__,
)
def test_a_connection_that_was_ended_is_postgres_away(raised: Exception) -> None:
    with pytest.raises(UnavailableError), postgres_errors():
        raise raised


@asynccontextmanager
async def _started(settings: Settings) -> AsyncIterator[Publisher]:
    publisher = Publisher(settings, f"{settings.app_id}-test", CrashPoints(""))
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


def _outbox(count: int) -> Outbox:
    letters = [
        DeadLetter(offset=offset, key=None, value=b"x" * 1000, headers=[], reason=str(datetime.now(UTC)))
        for offset in range(count)
    ]
    return Outbox(dead_letters=letters)


async def test_a_publisher_whose_partition_was_taken_publishes_nothing(settings: Settings) -> None:
    async with _started(settings) as zombie:
        await zombie.publish(0, _outbox(1), 1)
        async with _started(settings) as heir:
            with pytest.raises(UnavailableError):
                await zombie.publish(0, _outbox(2000), 2001)
            assert (await heir.watermarks(0)).emitted == 1

    assert len((await read_topic(settings, settings.dead_letters_topic, 1))[0]) == 1


@pytest.mark.parametrize("published", [0, 1])
async def test_whichever_producer_has_its_turn_is_fenced(settings: Settings, published: int) -> None:
    async with _started(settings) as zombie:
        for position in range(published):
            await zombie.publish(0, _outbox(1), position + 1)
        async with _started(settings):
            with pytest.raises(ProducerFencedError):
                await zombie.publish(0, _outbox(1), published + 1)


async def test_what_was_published_is_known_before_kafka_tells_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(_: AIOKafkaAdminClient, group: str, partitions: list[TopicPartition]) -> dict[Any, Any]:
        assert group == settings.emitted_group
        return dict.fromkeys(partitions, OffsetAndMetadata(-1, ""))

    monkeypatch.setattr(AIOKafkaAdminClient, "list_consumer_group_offsets", not_yet)
    async with _started(settings) as publisher:
        before = await publisher.watermarks(0)
        await publisher.publish(0, _outbox(1), 1)
        after, of_another = await publisher.watermarks(0), await publisher.watermarks(1)

    assert (before.emitted, after.emitted, of_another.emitted) == (None, 1, None)
