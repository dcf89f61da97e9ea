"""Fill a database with assessments by COPY: what lists, search and statistics are measured on.

python -m bench.fill --count 1000000 --database-url postgresql://…/assessmentstore
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.output import progress
from assessmentstore.settings import Settings
from assessmentstore.store.migrate import migrate
from assessmentstore.store.rows import state_row
from assessmentstore.store.search import search_row, vocabulary

_CHUNK = 20_000
_DAYS = 365
OWNERS = 50
_SERVERS = 1000

_STATE_COLUMNS = re.findall(
    r"\w+",
    "assessment_id state version progress message created_at updated_at started_at completed_at"
    " request_data result_data error_message retry_count next_retry_at metadata",
)
_SEARCH_COLUMNS = ["assessment_id", "owner", "created_at", "names", "document"]
_AUDIT_COLUMNS = re.findall(r"\w+", "assessment_id action new_state new_version user_id details created_at command_id")

_ENDED = [*["completed"] * 75, *["failed"] * 15, *["cancelled"] * 10]
_ACTIVE = ["pending", "processing"]
_ACTIVE_SHARE = 0.005
"""Of all; they are among the newest."""
_PLACES = ["berlin", "lagos", "lima", "osaka", "oslo", "paris", "quito", "tunis"]
_ROLES = ["billing", "cache", "gateway", "kafka", "ledger", "postgres", "redis", "search", "vault", "web"]
_ERRORS = ["certificate expired", "connection refused", "disk almost full", "permission denied", "timeout of the probe"]


def assessments(count: int, *, seed: int = 1, now: datetime | None = None) -> Iterator[AssessmentRecord]:
    """Assessments of a year, of many owners and servers; the same seed makes the same ones."""
    dice, end = random.Random(seed), now or datetime.now(UTC)
    servers = [f"{dice.choice(_ROLES)}-{dice.choice(_PLACES)}-{number:03}" for number in range(_SERVERS)]
    for number in range(count):
        created = end - timedelta(days=_DAYS) * (1 - number / count)
        is_active = number >= count * (1 - _ACTIVE_SHARE)
        yield _assessment(dice, dice.choice(_ACTIVE if is_active else _ENDED), dice.choice(servers), created)


def _assessment(dice: random.Random, state: str, server: str, created: datetime) -> AssessmentRecord:
    started = created + timedelta(seconds=dice.uniform(0.1, 60))
    ended = started + timedelta(seconds=dice.uniform(1, 300))
    is_final, was_started = state in ("completed", "failed", "cancelled"), state != "pending"
    error = f"{dice.choice(_ERRORS)} on {server}" if state == "failed" else None
    return AssessmentRecord(
        assessment_id=str(UUID(int=dice.getrandbits(128), version=4)),
        state=AssessmentState(state),
        version=1 + was_started + is_final,
        progress=100 if state == "completed" else dice.randrange(100) if was_started else 0,
        message=dice.choice(["looking at the configuration", "checking certificates", None]) if was_started else None,
        created_at=created,
        updated_at=ended if is_final else started if was_started else created,
        started_at=started if was_started else None,
        completed_at=ended if is_final else None,
        request_data={
            "assessmentType": dice.choice(["compliance", "health", "security"]),
            "serverName": server,
            "userId": f"user-{dice.randrange(OWNERS)}",
            "source": dice.choice(["installer", "compliance"]),
            "priority": dice.randint(1, 10),
            # Else the timers of a worker would end what is under way, and a benchmark would count that.
            "timeout": _DAYS * 86_400,
            "options": {"includeDetails": True, "deepScan": dice.random() < 0.5, "timeout": 5000},
        },
        result_data={"overallScore": dice.randrange(100), "totalServers": 1} if state == "completed" else None,
        error_message=error,
        retry_count=dice.choice([0, 0, 0, 1]),
    )


async def fill(database_url: str, count: int, *, report: Any = None) -> None:
    """Write so many assessments with their audit trail, search rows and counters."""
    await store(database_url, assessments(count), count, report=report)


async def store(database_url: str, records: Iterable[AssessmentRecord], count: int, *, report: Any = None) -> None:
    """Write these assessments, so many, in the same way; indexes are made at the end."""
    connection = await asyncpg.connect(database_url)
    try:
        indexes = await _drop_indexes(connection)
        remaining, written = iter(records), 0
        while chunk := list(islice(remaining, _CHUNK)):
            await _copy(connection, chunk)
            written += len(chunk)
            if report:
                report(f"{written:,} of {count:,} assessments")
        for definition in indexes:
            await connection.execute(definition)
        await connection.execute("SELECT rebuild_totals()")
        await connection.execute("VACUUM ANALYZE")
        # Else gigabytes are written while the first reads are measured; not everybody may ask for it.
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def _copy(connection: asyncpg.Connection, records: list[AssessmentRecord]) -> None:
    async with connection.transaction():
        rows = [state_row(record) for record in records]
        await connection.copy_records_to_table("assessment_states", records=rows, columns=_STATE_COLUMNS)
        found = [search_row(record) for record in records]
        # A tsvector has no binary form that asyncpg writes: it comes as a text, through a table of its own.
        await connection.execute("CREATE TEMP TABLE incoming (LIKE assessment_search) ON COMMIT DROP")
        await connection.execute("ALTER TABLE incoming ALTER COLUMN document TYPE text")
        await connection.copy_records_to_table("incoming", records=found, columns=_SEARCH_COLUMNS)
        await connection.execute(
            "INSERT INTO assessment_search"
            " SELECT assessment_id, owner, created_at, names, document::tsvector FROM incoming"
        )
        await connection.execute(
            "INSERT INTO search_vocabulary SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", vocabulary(found)
        )
        audit = [row for record in records for row in _audit(record)]
        columns = [
            "assessment_id",
            "action",
            "new_state",
            "new_version",
            "user_id",
            "details",
            "created_at",
            "command_id",
        ]
        await connection.copy_records_to_table("assessment_audit_trail", records=audit, columns=columns)


def _audit(record: AssessmentRecord) -> Iterator[tuple[Any, ...]]:
    """An entry for each version; enough to be read as a history."""
    steps = [("created", "pending", record.created_at), ("started", "processing", record.started_at)]
    steps.append((str(record.state), str(record.state), record.completed_at))
    for version, (action, state, at) in enumerate(steps[: record.version], start=1):
        key = record.assessment_id
        event = {"assessmentId": key, "type": f"assessment.{action}", "version": version, "state": state}
        yield key, action, state, version, record.owner, orjson.dumps(event).decode(), at, f"{key}:{version}"


async def _drop_indexes(connection: asyncpg.Connection) -> list[str]:
    """Drop the indexes that no constraint needs, and return how to make them again."""
    rows = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname LIKE 'idx_%'"
    )
    for row in rows:
        await connection.execute(f'DROP INDEX "{row["indexname"]}"')
    return [row["indexdef"] for row in rows]


async def _main(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    await migrate(arguments.database_url)
    with progress("filling") as report:
        await fill(arguments.database_url, arguments.count, report=report)
    print(f"{arguments.count:,} assessments in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.fill", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--database-url", default=Settings.load().database_url, help="default: that of the settings")
    asyncio.run(_main(parser.parse_args()))
