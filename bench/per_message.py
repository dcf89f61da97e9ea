"""Contender (a): one Postgres transaction for each message, as the reference sketches it (`updateState`, `saveState`).

Read the state, judge, save the state and its audit row, commit, emit the event and wait for it, refresh the cache; then
the next message. The state machine and the decoding are the product's own, so that the difference is the way of
working. Run as `python -m bench.per_message`, with the settings in the environment.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from assessmentstore.models.commands import Command, CommandHeader
from assessmentstore.models.emitted import event_headers
from assessmentstore.models.envelope import decode_command
from assessmentstore.models.errors import Rejection
from assessmentstore.models.events import AssessmentEvent
from assessmentstore.models.machine import decide, evolve
from assessmentstore.settings import Settings
from assessmentstore.store.postgres import record_from_row
from assessmentstore.store.rows import state_row

_CACHE_SECONDS = 300

_SELECT = "SELECT * FROM assessment_states WHERE assessment_id = $1"

_SAVE = """
INSERT INTO assessment_states (
    assessment_id, state, version, progress, message, created_at, updated_at, started_at, completed_at, request_data,
    result_data, error_message, retry_count, next_retry_at, metadata
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (assessment_id) DO UPDATE SET
    state = excluded.state, version = excluded.version, progress = excluded.progress, message = excluded.message,
    updated_at = excluded.updated_at, started_at = excluded.started_at, completed_at = excluded.completed_at,
    result_data = excluded.result_data, error_message = excluded.error_message, retry_count = excluded.retry_count,
    next_retry_at = excluded.next_retry_at, metadata = excluded.metadata
"""

_AUDIT = """
INSERT INTO assessment_audit_trail (
    assessment_id, action, old_state, new_state, old_version, new_version, user_id, details, created_at, command_id
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


class PerMessage:
    """Applies one message after the other."""

    def __init__(
        self, settings: Settings, database: asyncpg.Connection, producer: AIOKafkaProducer, redis: Redis
    ) -> None:
        self._settings = settings
        self._database = database
        self._producer = producer
        self._redis = redis

    async def apply(self, message: Any) -> None:
        """Apply a message: transaction, event, cache."""
        command = decode_command(message.key, message.value, message.headers)
        if not isinstance(command, Command):
            raise TypeError(f"the backlog has a command that is refused: {command.rejection.message}")
        async with self._database.transaction():
            row = await self._database.fetchrow(_SELECT, command.header.assessment_id)
            before = None if row is None else record_from_row(row)
            event = decide(before, command, datetime.now(UTC))
            if isinstance(event, Rejection):
                raise TypeError(f"the backlog has a command that is refused: {event.message}")
            after = evolve(before, event)
            await self._database.execute(_SAVE, *state_row(after))
            await self._database.execute(_AUDIT, *_audit_row(event))
        await self._emit(event, command.header, message.offset)
        await self._redis.set(self._settings.topic_prefix + after.assessment_id, after.to_json(), ex=_CACHE_SECONDS)

    async def _emit(self, event: AssessmentEvent, header: CommandHeader, offset: int) -> None:
        await self._producer.send_and_wait(
            self._settings.events_topic,
            event.to_json(),
            key=event.assessment_id.encode(),
            headers=event_headers(event, header.traceparent, offset, header.fingerprint),
        )


def _audit_row(event: AssessmentEvent) -> tuple[Any, ...]:
    return (
        event.assessment_id,
        event.type.removeprefix("assessment."),
        event.previous_state,
        event.state,
        event.version - 1 or None,
        event.version,
        event.user_id,
        event.to_json().decode(),
        event.occurred_at,
        event.command_id,
    )


async def run(settings: Settings) -> None:
    """Work until the process is told to end."""
    consumer = AIOKafkaConsumer(
        settings.commands_topic,
        bootstrap_servers=settings.kafka_bootstrap,
        group_id=settings.app_id,
        auto_offset_reset="earliest",
        session_timeout_ms=int(settings.session_timeout * 1000),
    )
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all", enable_idempotence=True)
    redis: Redis = Redis.from_url(settings.redis_url)
    database = await asyncpg.connect(settings.database_url)
    await consumer.start()
    await producer.start()
    worker = PerMessage(settings, database, producer, redis)
    async for message in consumer:
        await worker.apply(message)


if __name__ == "__main__":
    asyncio.run(run(Settings.load()))
