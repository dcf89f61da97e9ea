"""All that an installation holds: topics, tables and Redis, read when everything has come to rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from redis.exceptions import RedisError

from ..models.assessment import AssessmentRecord
from ..store.postgres import record_from_row
from .installation import Installation
from .seals import evidence_against
from .topics import TopicRecord, emitted_watermarks, end_offsets, read_topic

# How often is looked whether all has come to rest.
_POLL_SECONDS = 0.1

# Where one look takes longer, the whole machine stood still: that is nobody's fault.
_LONGEST_LOOK_SECONDS = 10.0

# A timer that is not due for so long does not disturb whoever reads everything.
_SOON_SECONDS = 60.0

# What was imported belongs to the old system until its first change here.
_TIMERS = """
SELECT count(*) FROM assessment_states
WHERE version > 1 AND (
    (state = 'processing' AND lease_end(updated_at, request_data) < extract(epoch FROM NOW()) + $1::double precision)
    OR next_retry_at < NOW() + make_interval(secs => $1::double precision)
)
"""
Count = Callable[[asyncpg.Connection], Awaitable[int]]
"""Counts what has not come to an end."""

NOTHING_ELSE: Mapping[str, Count] = {}


def counted(query: str) -> Count:
    """What a query counts."""

    async def count(database: asyncpg.Connection) -> int:
        return int(await database.fetchval(query))

    return count


@dataclass
class World:
    """Everything that an installation holds."""

    commands: dict[int, list[TopicRecord]]
    events: dict[int, list[TopicRecord]]
    rejections: dict[int, list[TopicRecord]]
    dead_letters: list[TopicRecord]
    states: dict[str, AssessmentRecord]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    evidence: list[str]
    """What the hashes and the signed checkpoints say against the audit trail."""
    redis: Mapping[str, Mapping[bytes, bytes]] | None
    """The hash of each assessment that Redis has; nothing where Redis is away."""

    @property
    def imported(self) -> set[str]:
        """The assessments that came from the old system."""
        return {row["assessment_id"] for row in self.tables["assessment_audit_trail"] if row["action"] == "imported"}


async def settle(
    installation: Installation, deadline: float, *, redis: bool, also: Mapping[str, Count] = NOTHING_ELSE
) -> list[str]:
    """Wait until every command is applied, published and reflected, and say what is not by then.

    Args:
        installation: whose load has ended.
        deadline: seconds to wait.
        redis: whether Redis is there.
        also: what else is to be waited for, by what is counted.
    """
    left = deadline
    while True:
        began = time.monotonic()
        behind = await _behind(installation, redis=redis, also=also)
        if not behind or left < 0:
            return behind
        await asyncio.sleep(_POLL_SECONDS)
        left -= min(time.monotonic() - began, _LONGEST_LOOK_SECONDS)


async def _behind(installation: Installation, *, redis: bool, also: Mapping[str, Count]) -> list[str]:
    """Every position that is not at the end of the log, which grows while timers fire."""
    settings = installation.settings
    async with installation.database() as database:
        timers = await database.fetchval(_TIMERS, _SOON_SECONDS)
        unfinished = {name: await count(database) for name, count in also.items()}
        ends = await end_offsets(settings, settings.commands_topic, settings.topic_partitions)
        rows = await database.fetch("SELECT partition, next_offset, emitted_offset FROM command_offsets")
    applied = {row["partition"]: row["next_offset"] for row in rows}
    positions = {"applied": applied, "emitted": await emitted_watermarks(settings)}
    if redis:
        positions["Redis"] = await _redis_positions(installation)
    behind = [
        f"{name} position of partition {partition} is {found.get(partition)}, the log ends at {end}"
        for name, found in positions.items()
        for partition, end in ends.items()
        if end and found.get(partition) != end
    ]
    ahead = [row for row in rows if row["emitted_offset"] > row["next_offset"]]
    behind += [f"{timers} timers are about to fire"] if timers else []
    behind += [f"{count} {name}" for name, count in unfinished.items() if count]
    return [*behind, *(f"partition {row['partition']} is emitted beyond what is applied" for row in ahead)]


async def _redis_positions(installation: Installation) -> dict[int, int]:
    prefix, count = installation.settings.topic_prefix, installation.settings.topic_partitions
    try:
        async with installation.redis() as redis:
            values = await redis.mget([f"{prefix}position:{partition}" for partition in range(count)])
    except RedisError:
        return {}
    return {partition: int(value) for partition, value in enumerate(values) if value is not None}


async def read_world(installation: Installation, *, redis: bool) -> World:
    """Read everything."""
    settings = installation.settings
    count = settings.topic_partitions
    async with installation.database() as database:
        rows = {
            name: await database.fetch(f"SELECT * FROM {name} ORDER BY {order}")
            for name, order in {
                "assessment_states": "assessment_id",
                "assessment_audit_trail": "command_partition, command_offset",
                "command_rejections": "command_partition, command_offset, id",
                "dead_letters": "command_partition, command_offset, id",
                "assessment_metrics": "id",
                "assessment_totals": "scope, state",
                "assessment_search": "assessment_id",
                "audit_dead_letters": "id",
            }.items()
        }
    return World(
        commands=await read_topic(settings, settings.commands_topic, count),
        events=await read_topic(settings, settings.events_topic, count),
        rejections=await read_topic(settings, settings.rejections_topic, count),
        dead_letters=(await read_topic(settings, settings.dead_letters_topic, 1))[0],
        states={row["assessment_id"]: record_from_row(row) for row in rows["assessment_states"]},
        tables={name: [dict(row) for row in found] for name, found in rows.items()},
        evidence=await evidence_against(installation),
        redis=await _read_redis(installation) if redis else None,
    )


async def _read_redis(installation: Installation) -> dict[str, dict[bytes, bytes]]:
    stem = f"{installation.settings.topic_prefix}assessment:"
    async with installation.redis() as redis:
        keys = [key async for key in redis.scan_iter(match=f"{stem}*", count=1000)]
        pipeline = redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        values = await pipeline.execute()
    return {key.decode().removeprefix(stem): value for key, value in zip(keys, values, strict=True)}
