"""Whether Kafka answers: a real metadata request, on a connection of its own."""

from __future__ import annotations

from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from ..models.errors import UnavailableError
from ..settings import Settings

_REQUEST_MILLISECONDS = 2000


class KafkaProbe:
    """Ask Kafka for its brokers and topics."""

    def __init__(self, settings: Settings) -> None:
        self._bootstrap = settings.kafka_bootstrap
        self._topic = settings.commands_topic
        self._client: AIOKafkaClient | None = None

    async def ping(self) -> dict[str, Any]:
        """How many brokers there are; degraded where the topic is missing.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        try:
            cluster = await (await self._connected()).fetch_all_metadata()
        except BaseException as error:
            # Start with a new connection the next time: this one may be half open.
            await self.close()
            if isinstance(error, KafkaError | OSError | TimeoutError):
                raise UnavailableError(f"Kafka does not answer: {error!r}") from error
            raise
        details: dict[str, Any] = {"brokers": len(cluster.brokers())}
        if self._topic not in cluster.topics():
            details |= {
                "status": "degraded",
                "error": f"the topic {self._topic} is missing: run assessmentstore migrate",
            }
        return details

    async def close(self) -> None:
        """Let go of the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            self._client = AIOKafkaClient(bootstrap_servers=self._bootstrap, request_timeout_ms=_REQUEST_MILLISECONDS)
            await self._client.bootstrap()
        return self._client
