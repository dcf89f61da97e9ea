"""Somebody gives the topic of the commands more partitions: ids move, and no worker may apply them there."""

from __future__ import annotations

from functools import partial

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from tests.harness.installation import Installation
from tests.harness.judge import settled
from tests.harness.load import open_sender
from tests.harness.recovery import Unseen, lose_topics
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster, Worker

from assessmentstore.agents.topics import create_topics
from assessmentstore.chaos.messages import command, create
from assessmentstore.chaos.topics import read_topic
from assessmentstore.recovery.reseed import reseed


async def test_no_command_is_applied_once_ids_have_moved(cluster: Cluster, installation: Installation) -> None:
    """What is refused stays on the topic, and the worker says why it waits."""
    settings, worker = installation.settings, cluster.start()
    names = [f"a{number}" for number in range(20)]
    async with open_sender(installation) as sender:
        await sender.send(*(create(f"c-{name}", name) for name in names))
    await settled(installation)

    await widen(installation, settings.topic_partitions + 2)
    await worker.until_ready(503)
    async with open_sender(installation) as sender:
        places = await sender.send(*(command(f"s-{name}", "start", name) for name in names))
    later = cluster.start()

    for each in (worker, later):
        await eventually(partial(tells, each), "the worker to say why it waits")
        assert each.returncode is None
    assert max(partition for partition, _ in places) >= settings.topic_partitions, "some ids moved"
    async with installation.database() as database:
        assert await database.fetchval("SELECT count(*) FROM assessment_audit_trail") == len(names)

    # The way back: with the topic Kafka forgets what is published, which must not be told a second time.
    for each in (worker, later):
        await each.stop()
    await lose_topics(settings, [settings.commands_topic])
    await create_topics(settings)
    told = await reseed(settings, Unseen())
    again = cluster.start()
    async with open_sender(installation) as sender:
        await sender.send(*(command(f"s-{name}", "start", name) for name in names))
    await settled(installation)
    await again.stop()

    assert told.published == 0
    events = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    found = [str(record.header("ce_id")) for records in events.values() for record in records]
    assert sorted(found) == sorted(f"{name}:{version}" for name in names for version in (1, 2))


async def tells(worker: Worker) -> bool:
    return "ids have moved between partitions" in worker.log.read_text()


async def widen(installation: Installation, count: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=installation.settings.kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({installation.settings.commands_topic: NewPartitions(count)})
    finally:
        await admin.close()
