"""Deletions on their way to Kafka, where a replay learns of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..kafka import idempotent_producer
from ..models.deletions import Deletion
from ..models.errors import UnavailableError
from ..settings import Settings
from ..store.maintenance import Maintenance

logger = logging.getLogger(__name__)

# Cleanup is rare and in no hurry; its caller waits.
_SECONDS = 5.0


class DeletionsTopic:
    """The deletions topic, for writing."""

    def __init__(self, producer: AIOKafkaProducer, name: str) -> None:
        self._producer = producer
        self._name = name

    async def send(self, deletions: Iterable[Deletion]) -> None:
        """Put deletions on the topic, each on the partition of its assessment's commands."""
        sent = [
            await self._producer.send(
                self._name, deletion.to_json(), deletion.assessment_id.encode(), partition=deletion.partition
            )
            for deletion in deletions
        ]
        await asyncio.gather(*sent)


@asynccontextmanager
async def open_deletions_topic(settings: Settings) -> AsyncIterator[DeletionsTopic]:
    """The topic with a producer of its own.

    Raises:
        UnavailableError: Kafka is away.
    """
    async with idempotent_producer(settings) as producer:
        yield DeletionsTopic(producer, settings.deletions_topic)


class Deletions:
    """What a cleanup deleted, for Kafka."""

    def __init__(self, settings: Settings, store: Maintenance) -> None:
        self._settings = settings
        self._store = store

    async def tell(self) -> None:
        """Put every deletion on its topic that is not there yet; while Kafka is away they wait for the next cleanup."""
        try:
            async with asyncio.timeout(_SECONDS):
                if deletions := await self._store.untold():
                    async with open_deletions_topic(self._settings) as topic:
                        while deletions:
                            await topic.send(deletions.values())
                            await self._store.note_told(deletions.keys())
                            deletions = await self._store.untold()
        except (KafkaError, OSError, TimeoutError, UnavailableError) as error:
            words = "Kafka is told of deletions by the next cleanup: until then a replay would undo them (%r)"
            logger.warning(words, error, extra={"action": "deletions_untold"})
