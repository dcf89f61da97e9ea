"""The sample traffic: an assessor that produces commands, and a board that consumes events, both as anybody would."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ..kafka import kafka_connection
from ..models.base import JsonObject
from ..models.commands import CommandType
from ..models.envelope import STRUCTURED, encode_command
from ..models.events import AssessmentEvent, event_from_json
from ..services import Services
from ..settings import Settings
from ..store.encryption import KeyRing
from .access import local_user
from .assessor import Assessor, Send, orders
from .board import Board
from .inspection import Target

_SOURCE = "/assessmentstore/dev"


async def run_traffic(settings: Settings, services: Services, board: Board) -> None:
    """Let assessments of the services flow, and note on the board what becomes of them, until cancelled."""
    servers = [Target(name=service.name, kind=service.name, url=service.url) for service in services.services]
    async with (
        _events_from_now(settings) as events,
        _kafka_sender(settings, local_user()) as send,
        _troublesome_servers() as troublesome,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(_read(events, board))
        group.create_task(Assessor(send).work(orders(servers, troublesome)))


async def _read(events: AsyncIterator[AssessmentEvent], board: Board) -> None:
    async for event in events:
        board.apply(event)


@asynccontextmanager
async def _troublesome_servers() -> AsyncIterator[list[Target]]:
    """Keep a port that nobody listens on, and one where calls are taken and never answered."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the caller hangs up
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, so that nobody else comes to listen there
        ports = {"unused-port": unused.getsockname()[1], "silent-port": silent.sockets[0].getsockname()[1]}
        try:
            yield [Target(name=name, kind="redis", url=f"redis://127.0.0.1:{port}/0") for name, port in ports.items()]
        finally:
            silent.close()


@asynccontextmanager
async def _kafka_sender(settings: Settings, user: str) -> AsyncIterator[Send]:
    """Send commands to the store as `user`; each call returns when Kafka has the command for certain."""
    async with AIOKafkaProducer(**kafka_connection(settings), enable_idempotence=True) as producer:

        async def send(command_type: CommandType, assessment_id: str, data: JsonObject) -> None:
            command = encode_command(
                command_id=uuid4().hex,
                command_type=command_type,
                assessment_id=assessment_id,
                source=_SOURCE,
                time=datetime.now(UTC),
                data=data,
                userid=user,
            )
            headers = [("content-type", STRUCTURED.encode())]
            await producer.send_and_wait(settings.commands_topic, command, key=assessment_id.encode(), headers=headers)

        yield send


@asynccontextmanager
async def _events_from_now(settings: Settings) -> AsyncIterator[AsyncIterator[AssessmentEvent]]:
    """Open the events topic at its end; what is published from then on is seen, and nothing uncommitted."""
    consumer = AIOKafkaConsumer(settings.events_topic, **kafka_connection(settings), isolation_level="read_committed")
    await consumer.start()
    try:
        await consumer.seek_to_end()
        keys = KeyRing.of(settings)
        yield (event_from_json(keys.open_event(record.value.decode())) async for record in consumer)
    finally:
        await consumer.stop()
