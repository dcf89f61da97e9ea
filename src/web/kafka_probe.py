"""Whether Kafka answers, and how far the commands topic goes: real requests, on a connection of their own."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import KafkaError
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.structs import TopicPartition

from ..kafka import kafka_connection, kafka_refusals
from ..refused import unavailable
from ..settings import Settings

logger = logging.getLogger(__name__)

_REQUEST_MILLISECONDS = 2000

# What ListOffsets wants of those who are no broker; and the end as every reader sees it, with open transactions.
_NO_REPLICA = -1
_READ_UNCOMMITTED = 0

# One broker that hangs is not Kafka: what it would have told is left out.
_END_SECONDS = 0.5

T = TypeVar("T")


class KafkaProbe:
    """Ask Kafka for its brokers, its topics, and the end of one."""

    def __init__(self, settings: Settings, *others: str) -> None:
        """Ask nothing yet.

        Args:
            settings: of the installation.
            others: topics that whoever asks cannot do without either.
        """
        self._connection = kafka_connection(settings)
        self._topic = settings.commands_topic
        self._needed = (self._topic, *others)
        self._client: AIOKafkaClient | None = None

    async def ping(self) -> tuple[dict[str, Any], dict[int, int]]:
        """How many brokers there are, degraded where a topic is missing; and the offset that its next command gets.

        That is of each partition that has a leader; nothing where a leader does not answer.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        cluster, ends = await self._ask(self._look)
        details: dict[str, Any] = {"brokers": len(cluster.brokers())}
        if missing := ", ".join(name for name in self._needed if name not in cluster.topics()):
            details |= {"status": "degraded", "error": f"the topic {missing} is missing: run assessmentstore migrate"}
        return details, ends

    async def _look(self, client: AIOKafkaClient) -> tuple[ClusterMetadata, dict[int, int]]:
        cluster = await client.fetch_all_metadata()
        try:
            async with asyncio.timeout(_END_SECONDS):
                return cluster, await self._ends(client, cluster)
        except (KafkaError, TimeoutError) as error:
            logger.debug("The end of %s is not known: %r", self._topic, error, extra={"action": "end_unavailable"})
            client.force_metadata_update()  # a leader may be a broker that the client has not met
            return cluster, {}

    async def _ends(self, client: AIOKafkaClient, cluster: ClusterMetadata) -> dict[int, int]:
        wanted = _by_leader(cluster, self._topic)
        asking = [client.send(leader, _end_request(self._topic, found)) for leader, found in wanted.items()]
        return {
            partition: offset
            for answer in await asyncio.gather(*asking)
            for _, found in answer.topics
            for partition, error, _, offset in found
            if error == 0
        }

    async def _ask(self, request: Callable[[AIOKafkaClient], Awaitable[T]]) -> T:
        try:
            return await request(await self._connected())
        except BaseException as error:
            # Start with a new connection the next time: this one may be half open.
            await self.close()
            if isinstance(error, KafkaError | OSError | TimeoutError):
                raise unavailable("Kafka", error) from error
            raise

    async def close(self) -> None:
        """Let go of the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            self._client = AIOKafkaClient(**self._connection, request_timeout_ms=_REQUEST_MILLISECONDS)
            async with kafka_refusals(self._connection):
                await self._client.bootstrap()
        return self._client


def _by_leader(cluster: ClusterMetadata, topic: str) -> dict[int, list[int]]:
    """The partitions of a topic, by the broker that leads them."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for partition in cluster.available_partitions_for_topic(topic) or ():
        found[cluster.leader_for_partition(TopicPartition(topic, partition))].append(partition)
    return found


def _end_request(topic: str, partitions: list[int]) -> OffsetRequest:
    wanted = [(partition, OffsetResetStrategy.LATEST) for partition in partitions]
    return OffsetRequest(_NO_REPLICA, _READ_UNCOMMITTED, [(topic, wanted)])
