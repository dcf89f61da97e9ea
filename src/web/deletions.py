"""Deletions on their way to Kafka, where a replay learns of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ..models.deletions import Deletion
from ..models.errors import UnavailableError
from ..settings import Settings
from ..store.maintenance import Maintenance

logger = logging.getLogger(__name__)

# The largest record on its topic: some 80 bytes for each version of an assessment.
_RECORD_BYTES = 16 * 1024 * 1024

# Cleanup is rare and in no hurry; its caller waits.
_SECONDS = 5.0


class Deletions:
    """The deletions topic, for writing: a producer for each cleanup."""

    def __init__(self, settings: Settings, store: Maintenance) -> None:
        self._settings = settings
        self._store = store

    async def tell(self) -> None:
        """Put every deletion on its topic that is not there yet; while Kafka is away they wait for the next cleanup."""
        try:
            async with asyncio.timeout(_SECONDS):
                while deletions := await self._store.untold():
                    await self._send(deletions.values())
                    await self._store.note_told(deletions.keys())
        except (KafkaError, OSError, TimeoutError, UnavailableError) as error:
            words = "Kafka is told of deletions by the next cleanup: until then a replay would undo them (%r)"
            logger.warning(words, error, extra={"action": "deletions_untold"})

    async def _send(self, deletions: Iterable[Deletion]) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_bootstrap,
            acks="all",
            enable_idempotence=True,
            max_request_size=_RECORD_BYTES,
        )
        try:
            await producer.start()
            sent = [
                await producer.send(
                    self._settings.deletions_topic,
                    deletion.to_json(),
                    deletion.assessment_id.encode(),
                    partition=deletion.partition,
                )
                for deletion in deletions
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()
