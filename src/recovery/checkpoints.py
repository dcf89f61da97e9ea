"""Checkpoints in Postgres against those that were published: whoever may write Postgres may not write the topic."""

from __future__ import annotations

from ..settings import Settings
from ..store.checkpoints import CheckpointStore
from ..store.postgres import Pool
from .log import open_consumer, read_checkpoints


async def unlike_published(settings: Settings, pool: Pool) -> list[str]:
    """What is published and not in Postgres, or otherwise; one that is in Postgres alone may be published yet.

    Raises:
        RecoveryError: a record of the topic is no checkpoint.
        UnavailableError: Postgres or Kafka is away.
    """
    store, faults = CheckpointStore(pool), list[str]()
    async with open_consumer(settings) as consumer:
        for partition in range(settings.topic_partitions):
            # The topic first: what it has was kept before.
            published = await read_checkpoints(consumer, settings, partition)
            kept = {checkpoint.sequence: checkpoint for checkpoint in await store.since(partition, 1)}
            for checkpoint in published:
                name = f"checkpoint {checkpoint.sequence} of partition {partition}"
                if checkpoint.sequence not in kept:
                    faults.append(f"{name}: it is on {settings.checkpoints_topic}, and not in Postgres")
                elif kept[checkpoint.sequence].to_json() != checkpoint.to_json():
                    faults.append(f"{name}: another one is on {settings.checkpoints_topic}")
    return faults
