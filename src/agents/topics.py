"""The Kafka topics: created once, checked ever after."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from ..kafka import kafka_connection, kafka_refusals
from ..models.envelope import MAX_RECORD_BYTES
from ..models.errors import UnavailableError
from ..settings import Settings, SettingsError
from .publisher import kafka_errors

# Larger than the largest command that is taken, so that a larger one reaches us and is refused with a reason.
_MAX_COMMAND_RECORD_BYTES = 8 * 1024 * 1024

_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.1

_FOR_EVER = {"retention.ms": "-1"}


@dataclass(frozen=True, slots=True)
class TopicSpecification:
    """A topic as it has to be."""

    name: str
    partitions: int
    config: dict[str, str]


def specifications(settings: Settings) -> list[TopicSpecification]:
    """The topics of this installation; what is told is kept for ever, since everything can be rebuilt from it."""
    partitions, large = settings.topic_partitions, {"max.message.bytes": str(MAX_RECORD_BYTES)}
    commands = {"max.message.bytes": str(_MAX_COMMAND_RECORD_BYTES)}
    return [
        TopicSpecification(settings.commands_topic, partitions, commands),
        TopicSpecification(settings.events_topic, partitions, large | _FOR_EVER),
        TopicSpecification(settings.rejections_topic, partitions, large | _FOR_EVER),
        TopicSpecification(settings.dead_letters_topic, 1, large | _FOR_EVER),
        TopicSpecification(settings.letter_marks_topic, 1, _FOR_EVER),
        TopicSpecification(settings.deletions_topic, partitions, large | _FOR_EVER),
        # What the old system says, and what its listeners are told.
        TopicSpecification(settings.legacy_events_topic, partitions, commands),
        TopicSpecification(settings.legacy_notifications_topic, partitions, large),
        # Each has a key of its own, so that all stay, and one that is published again replaces itself.
        TopicSpecification(settings.checkpoints_topic, partitions, {"cleanup.policy": "compact"}),
    ]


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing, and name them.

    Raises:
        SettingsError: a topic exists with another number of partitions.
        UnavailableError: Kafka is away.
    """
    wanted = specifications(settings)
    connection = kafka_connection(settings)
    admin = AIOKafkaAdminClient(**connection)
    with kafka_errors():
        async with asyncio.timeout(_TIMEOUT_SECONDS), kafka_refusals(connection):
            try:
                await admin.start()
                created = await _create(admin, wanted)
                await _await_topics(admin, wanted)
            finally:
                await admin.close()
    return created


async def _create(admin: AIOKafkaAdminClient, wanted: list[TopicSpecification]) -> list[str]:
    response = await admin.create_topics([_new_topic(topic) for topic in wanted])
    created = []
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(name)
        elif error is not TopicAlreadyExistsError:
            raise error(f"topic {name} cannot be created")
    return created


def _new_topic(topic: TopicSpecification) -> NewTopic:
    new = NewTopic(topic.name, topic.partitions, 1, topic_configs=topic.config)
    # The brokers' own default.replication.factor, which aiokafka has no other way to ask for.
    new.replication_factor = -1
    return new


async def _await_topics(admin: AIOKafkaAdminClient, wanted: list[TopicSpecification]) -> None:
    """Wait until every broker tells of the topics, and check their partitions."""
    while True:
        found = {topic["topic"]: topic for topic in await admin.describe_topics([topic.name for topic in wanted])}
        if all(found.get(topic.name, {}).get("error_code") == 0 for topic in wanted):
            break
        await asyncio.sleep(_POLL_SECONDS)
    for topic in wanted:
        count = len(found[topic.name]["partitions"])
        if count != topic.partitions:
            raise SettingsError(
                f"topic {topic.name} has {count} partitions, not {topic.partitions}: where it was made so, set"
                f" ASSESSMENTSTORE_TOPIC_PARTITIONS={count}; where somebody gave it more since, ids have moved between"
                " partitions: see docs/recovery.md"
            )


async def topics_exist(settings: Settings) -> bool:
    """Whether the topics are there.

    Raises:
        UnavailableError: Kafka is away.
    """
    names = [topic.name for topic in specifications(settings)]
    connection = kafka_connection(settings)
    admin = AIOKafkaAdminClient(**connection)
    with kafka_errors():
        async with asyncio.timeout(_TIMEOUT_SECONDS), kafka_refusals(connection):
            try:
                await admin.start()
                found = await admin.describe_topics(names)
            finally:
                await admin.close()
    if any(topic["error_code"] not in (0, 3) for topic in found):
        raise UnavailableError("Kafka does not tell its topics yet")
    return all(topic["error_code"] == 0 for topic in found)
