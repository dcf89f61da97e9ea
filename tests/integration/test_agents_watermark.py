"""R2 of the four rules: the emitted watermark is out of reach of the consumer's own commits."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from tests.harness.judge import assert_exactly_once, judge
from tests.harness.load import open_sender
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import create
from assessmentstore.chaos.topics import read_topic
from assessmentstore.settings import Settings

# Of a worker that is broken the watermark never arrives where the judge looks: he looks again, rather than wait for it.
_SECONDS_OF_A_LOOK = 1.0


async def _published(cluster: Cluster, count: int) -> None:
    settings = cluster.installation.settings

    async def probe() -> bool:
        events = await read_topic(settings, settings.events_topic, settings.topic_partitions)
        return sum(map(len, events.values())) == count

    await eventually(probe, f"{count} events")


async def _late_commit_of_the_consumer(settings: Settings) -> None:
    """What a commit that was held up does when it arrives: it sets the group's offsets back."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap, group_id=settings.app_id, enable_auto_commit=False
    )
    await consumer.start()
    try:
        tps = [TopicPartition(settings.commands_topic, number) for number in range(settings.topic_partitions)]
        consumer.assign(tps)

        async def commit() -> bool:
            await consumer.commit({tp: OffsetAndMetadata(0, "") for tp in tps})
            return True

        # The group takes commits from outside once the killed member's session is over.
        await eventually(commit, "the commit", tolerate=(KafkaError,))
    finally:
        await consumer.stop()


async def _restart_after_a_late_commit(cluster: Cluster, sabotage: str) -> None:
    first = cluster.start(sabotage=sabotage)
    async with open_sender(cluster.installation) as sender:
        await sender.send(*(create(f"c{number}", f"a{number}") for number in range(40)))
    await cluster.until_owned_by(first)
    async with cluster.installation.database() as database:
        await _published(cluster, 40)
        first.kill9()
        # Postgres' own copy of the watermark is written in quiet moments only.
        await database.execute("UPDATE command_offsets SET emitted_offset = 0")
    await _late_commit_of_the_consumer(cluster.installation.settings)

    await cluster.until_owned_by(cluster.start(sabotage=sabotage))


async def test_a_late_commit_of_the_consumer_publishes_nothing_twice(cluster: Cluster) -> None:
    await _restart_after_a_late_commit(cluster, "-")

    await assert_exactly_once(cluster.installation)


async def test_with_the_watermark_in_the_consumers_group_a_late_commit_is_found_out(cluster: Cluster) -> None:
    await _restart_after_a_late_commit(cluster, "no-group-of-its-own")

    async def found_out() -> bool:
        violations = await judge(cluster.installation, deadline=_SECONDS_OF_A_LOOK)
        return any("events of partition" in violation for violation in violations)

    await eventually(found_out, "events that are published twice")
