"""The sample traffic: customers that produce commands, and a board that consumes events, both as anybody would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

from aiokafka import AIOKafkaConsumer

from ..kafka import idempotent_producer, kafka_connection
from ..models.base import JsonObject
from ..models.commands import CommandType
from ..models.envelope import STRUCTURED, encode_command
from ..models.events import AssessmentEvent, event_from_json
from ..settings import Settings
from ..store.encryption import KeyRing
from .access import local_user
from .board import Board
from .compliance import ComplianceServer
from .customers import Customers, Send, orders

_SOURCE = "/assessmentstore/dev"


async def run_traffic(settings: Settings, compliance: ComplianceServer, board: Board) -> None:
    """Let assessments flow of what the compliance server knows, and note on the board what becomes of them."""
    async with (
        _events_from_now(settings) as events,
        _kafka_sender(settings, local_user()) as send,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(_read(events, board))
        wanted = orders(list(compliance.servers), list(compliance.troublesome))
        group.create_task(Customers(send, board.is_open).come(wanted))


async def _read(events: AsyncIterator[AssessmentEvent], board: Board) -> None:
    async for event in events:
        board.apply(event)


@asynccontextmanager
async def _kafka_sender(settings: Settings, user: str) -> AsyncIterator[Send]:
    """Send commands to the store as `user`; each call returns when Kafka has the command for certain."""
    async with idempotent_producer(settings) as producer:

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
