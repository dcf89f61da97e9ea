"""How every Kafka client of ours reaches the brokers: one place that turns settings into its arguments."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from .models.envelope import MAX_RECORD_BYTES
from .refused import unavailable, why_refused
from .settings import ENV_PREFIX, Settings, SettingsError
from .tls import tls_context

_FILES = tuple(f"{ENV_PREFIX}KAFKA_SSL_{name}" for name in ("CAFILE", "CERTFILE", "KEYFILE"))

_LOOK_MILLISECONDS = 2000


def kafka_connection(settings: Settings) -> dict[str, Any]:
    """The arguments that each client of aiokafka is made with: `AIOKafkaProducer(**kafka_connection(settings), ...)`.

    Certificates and keys are read now; a client that runs keeps them until it is made anew.

    Raises:
        SettingsError: a file cannot be read, or does not hold what it should.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _ssl_context(settings),
    }
    if settings.kafka_sasl_username is not None and settings.kafka_sasl_password is not None:
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    return arguments


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    secret = settings.kafka_ssl_key_password
    try:
        return tls_context(
            settings.kafka_ssl_cafile,
            settings.kafka_ssl_certfile,
            settings.kafka_ssl_keyfile,
            secret.get_secret_value() if secret else "",
            names=_FILES,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error


@asynccontextmanager
async def idempotent_producer(
    settings: Settings, *, max_batch_size: int = 16 * 1024, compression_type: str | None = None
) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that has everything confirmed, and each record on its topic once.

    After an error it is of no use any more: its sequence has a gap, which Kafka never forgives.

    Args:
        settings: how Kafka is reached.
        max_batch_size: bytes that go to a partition at once.
        compression_type: as aiokafka names it.

    Raises:
        SettingsError: a file with credentials cannot be read.
        UnavailableError: Kafka is away.
    """
    producer = AIOKafkaProducer(
        **kafka_connection(settings),
        acks="all",
        enable_idempotence=True,
        max_request_size=MAX_RECORD_BYTES,
        max_batch_size=max_batch_size,
        compression_type=compression_type,
    )
    try:
        try:
            await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            raise unavailable("Kafka", error) from error
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def kafka_refusals(connection: Mapping[str, Any]) -> AsyncIterator[None]:
    """Say why Kafka lets no client of ours in, where that is why one does not start: aiokafka tells its log alone.

    Raises:
        UnavailableError: a broker refuses us, or we trust none of them.
    """
    try:
        yield
    except (KafkaError, OSError, TimeoutError):
        refusal = await _refusal(connection)
        if refusal is not None:
            raise unavailable("Kafka", refusal) from refusal
        raise


async def _refusal(connection: Mapping[str, Any]) -> Exception | None:
    """Why the first broker that says so lets us not in."""
    arguments = {name: value for name, value in connection.items() if name != "bootstrap_servers"}
    for host, port, _ in collect_hosts(connection["bootstrap_servers"], randomize=False):
        try:
            connected = await create_conn(host, port, request_timeout_ms=_LOOK_MILLISECONDS, **arguments)
            try:
                await connected.send(MetadataRequest([]))
            finally:
                connected.close()
        except (KafkaError, OSError, TimeoutError) as error:
            if why_refused(error):
                return error
    return None
