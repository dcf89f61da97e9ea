"""Losing a database or all topics, and what there was before, to be compared with what is there after."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from assessmentstore.agents.topics import specifications, topics_exist
from assessmentstore.chaos.topics import TopicRecord, end_offsets, read_topic
from assessmentstore.recovery.log import watermarks
from assessmentstore.settings import Settings

from .installation import Installation, database_name, drop_database
from .waiting import eventually

_DYING = Path(__file__).parent / "dying_replay.py"
_SECONDS = 120

# What the log does not tell: who asked for a batch or was refused at the door, and which worker had a partition.
# And what the migration from the old system knows of that one; what it took over is in the log as all else is.
_NOT_IN_KAFKA = {"schema_migrations", "batch_requests", "access_refusals", "migration_state", "migration_history"} | {
    "migration_samples",
    "legacy_imports",
    "legacy_quarantine",
    "legacy_events",
    "legacy_reports",
    "legacy_divergences",
    "legacy_told",
    "executions",
    "webhooks",
    "webhook_deliveries",
    "webhook_positions",
    "audit_dead_letters",
}
_OF_THE_MOMENT = {"id", "epoch", "owner", "producers", "claimed_at", "emitted_offset", "told", "applied_at"}
_TOTALS_KEYS = {"slot", "scope", "assessment_type", "source", "priority", "state", "server_name", "quarter", "day"}
_TABLE_OWNERS = {"assessment_states", "assessment_search", "assessment_names"}


class Unseen:
    """A progress that nobody looks at."""

    def expect(self, total: int) -> None:
        """Say nothing."""

    def passed(self, count: int) -> None:
        """Say nothing."""


Snapshot = dict[str, list[tuple[Any, ...]]]


def replay(installation: Installation, *arguments: str, dies: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `assessmentstore replay` to its end, or until it dies in the middle."""
    program = [str(_DYING)] if dies else ["-m", "assessmentstore", "replay"]
    return subprocess.run(
        [sys.executable, *program, *arguments],
        env=installation.environment(),
        cwd=installation.settings.data_dir,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


async def proved(installation: Installation) -> None:
    """Wait until checkpoints cover every row, and are told: one that is not is lost with Postgres, as it may be."""

    async def probe() -> bool:
        async with installation.database() as database:
            last = await database.fetch(
                "SELECT partition, max(sequence) AS sequence, max(end_offset) AS rows_end"
                " FROM audit_checkpoints GROUP BY 1"
            )
            rows = await database.fetch(
                "SELECT command_partition, max(command_offset) AS last FROM assessment_audit_trail GROUP BY 1"
            )
        covered = {row["partition"]: row["rows_end"] for row in last}
        published = await watermarks(installation.settings, installation.settings.checkpoints_topic)
        return all(row["last"] < covered.get(row["command_partition"], 0) for row in rows) and published == {
            row["partition"]: row["sequence"] + 1 for row in last
        }

    await eventually(probe, "checkpoints of all rows, on their topic")


async def snapshot(installation: Installation, schema: str = "public") -> Snapshot:
    """Every row of every table that comes of the log, without surrogate keys; counters that are 0 are none."""
    found: Snapshot = {}
    async with installation.database() as database:
        await database.execute(f"SET search_path = {schema}, public")
        names = await database.fetch(
            "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE nspname = $1 AND relkind IN ('r', 'p') AND NOT relispartition",
            schema,
        )
        for name in sorted({row["relname"] for row in names} - _NOT_IN_KAFKA):
            rows = await database.fetch(f"SELECT * FROM {schema}.{name}")
            counted = _summed(rows) if name.endswith("_totals") else [_row(name, row) for row in rows]
            found[name] = sorted(counted, key=repr)
    return found


def _row(table: str, row: asyncpg.Record) -> tuple[Any, ...]:
    left_out = _OF_THE_MOMENT - ({"owner"} if table in _TABLE_OWNERS else set())
    return tuple(value for name, value in row.items() if name not in left_out)


def _summed(rows: list[asyncpg.Record]) -> list[tuple[Any, ...]]:
    """Counters are sums over the slots of their writers; a time beside them is the latest."""
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        numbers = [name for name in row.keys() if name not in _TOTALS_KEYS]  # noqa: SIM118 - a record iterates values
        key = tuple(row[name] for name in row.keys() if name in _TOTALS_KEYS - {"slot"})  # noqa: SIM118
        values = [row[name] for name in numbers]
        before = sums.get(key)
        sums[key] = values if before is None else [_plus(*pair) for pair in zip(before, values, strict=True)]
    return [(*key, *values) for key, values in sums.items() if any(value for value in values if isinstance(value, int))]


def _plus(one: Any, other: Any) -> Any:
    return max(one, other) if isinstance(one, datetime) else one + other


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """What of two snapshots is not the same, in words."""
    words = [f"only one has the table {name}" for name in before.keys() ^ after.keys()]
    for name in before.keys() & after.keys():
        words += [f"{name} lost {row}" for row in before[name] if row not in after[name]][:3]
        words += [f"{name} got {row}" for row in after[name] if row not in before[name]][:3]
        if len(before[name]) != len(after[name]):
            words.append(f"{name} had {len(before[name])} rows, and has {len(after[name])}")
    return words


async def lose_database(installation: Installation, services: Settings) -> None:
    """Drop the database, and make an empty one of its name."""
    name = database_name(installation.settings)
    await drop_database(services, name)
    connection = await asyncpg.connect(services.database_url, timeout=10)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


async def lose_topics(settings: Settings, names: Sequence[str] = ()) -> None:
    """Delete some topics of an installation, or every one."""
    lost = list(names) or [topic.name for topic in specifications(settings)]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(lost)

        async def gone() -> bool:
            found = await admin.describe_topics(lost)
            return all(topic["error_code"] == 3 for topic in found)

        await eventually(gone, "the topics to be gone")
    finally:
        await admin.close()
    assert not await topics_exist(settings)


Told = dict[str, dict[int, list[TopicRecord]]]


async def told(settings: Settings) -> Told:
    """Every record of every topic."""
    return {topic.name: await read_topic(settings, topic.name, topic.partitions) for topic in specifications(settings)}


async def ends(settings: Settings) -> dict[str, dict[int, int]]:
    """Where every topic ends."""
    return {topic.name: await end_offsets(settings, topic.name, topic.partitions) for topic in specifications(settings)}


def contents(records: list[TopicRecord]) -> list[tuple[Any, ...]]:
    """What records say, wherever they stand."""
    return [(record.key, record.value, record.headers) for record in records]


def killed(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a process died by kill -9."""
    return done.returncode == -9
