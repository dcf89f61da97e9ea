"""What every contender has to work off: whole lives of assessments, shuffled into each other."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from assessmentstore.models.commands import CommandType
from assessmentstore.models.envelope import encode_command
from assessmentstore.settings import Settings

LIFE = (CommandType.CREATE, CommandType.START, CommandType.PROGRESS, CommandType.COMPLETE)
"""The commands of one assessment, in their order; all of them are accepted."""

# A fixed one: every round and every contender has the same backlog.
_SEED = 20_240_601

_SEND_BATCH_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """One command, ready for the topic."""

    command_id: str
    key: bytes
    value: bytes


def commands(count: int, *, name: str) -> Iterator[Message]:
    """Make commands of `count` / 4 assessments; another `name` makes others.

    The four commands of an assessment are spread at random over the whole, so that a batch seldom has two of one.
    """
    rng = random.Random(f"{_SEED} {name}")
    lives = [_random_uuid(rng) for _ in range(count // len(LIFE))]
    times = [(moment, life, step) for life in lives for step, moment in enumerate(_moments(rng))]
    times.sort()
    for _, life, step in times:
        yield _message(rng, life, step)


def creates(count: int, *, name: str) -> Iterator[Message]:
    """Make the creates of `count` assessments."""
    rng = random.Random(f"{_SEED} {name}")
    for _ in range(count):
        yield _message(rng, _random_uuid(rng), 0)


def _random_uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def _moments(rng: random.Random) -> list[float]:
    return sorted(rng.random() for _ in LIFE)


def _message(rng: random.Random, assessment_id: str, step: int) -> Message:
    command_id = _random_uuid(rng)
    value = encode_command(
        command_id=command_id,
        command_type=LIFE[step],
        assessment_id=assessment_id,
        source="/bench",
        time=datetime.now(UTC),
        data=_data(LIFE[step]),
        userid="bench-user",
        traceparent=f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-01",
    )
    return Message(command_id, assessment_id.encode(), value)


def _data(kind: CommandType) -> dict[str, Any]:
    """Data of a usual size: some hundred bytes where a request or a result is told."""
    match kind:
        case CommandType.CREATE:
            return {
                "assessmentType": "compliance",
                "serverName": "server-0042.example.com",
                "source": "installer",
                "priority": 5,
                "timeout": 300,
                "options": {"includeDetails": True, "generateReport": True, "serverFilter": ["server-*"]},
                "metadata": {"team": "platform", "ticket": "OPS-12345"},
            }
        case CommandType.PROGRESS:
            return {"progress": 50, "message": "Checked 21 of 42 servers"}
        case CommandType.COMPLETE:
            issue = {
                "id": "issue-1",
                "serverName": "server-0042.example.com",
                "issueType": "missing_config",
                "severity": "high",
                "description": "The server has no audit configuration",
                "recommendation": "Add the audit section",
            }
            summary = {"criticalIssues": 0, "highIssues": 1, "mediumIssues": 0, "lowIssues": 0}
            servers = {"totalServers": 42, "compliantServers": 41, "nonCompliantServers": 1}
            return {"result": {"overallScore": 97.5, "summary": summary, "configurationIssues": [issue], **servers}}
        case _:
            return {}


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's own default partitioner picks."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


async def produce(settings: Settings, messages: Iterable[Message]) -> int:
    """Put commands on the topic in whole batches, and count them."""
    by_partition: dict[int, list[Message]] = {}
    for message in messages:
        by_partition.setdefault(partition_of(message.key, settings.topic_partitions), []).append(message)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap,
        acks="all",
        enable_idempotence=True,
        max_batch_size=_SEND_BATCH_BYTES,
    )
    await producer.start()
    try:
        for partition, part in by_partition.items():
            await _send(producer, settings.commands_topic, partition, part)
    finally:
        await producer.stop()
    return sum(map(len, by_partition.values()))


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, messages: Iterable[Message]) -> None:
    batch = producer.create_batch()
    for message in messages:
        arguments = {"timestamp": None, "key": message.key, "value": message.value}
        if batch.append(**arguments) is None:
            await (await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(**arguments)
    await (await producer.send_batch(batch, topic, partition=partition))
