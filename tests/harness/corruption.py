"""Corruptions planted in each store, as bad memory, a bad disk or a hand would make them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from assessmentstore.chaos.installation import Installation
from assessmentstore.models.comparison import Difference
from assessmentstore.store.table import StateTable

Planted = dict[tuple[str, str], set[str]]
"""Of each store and assessment the fields that are wrong."""


def told(differences: Sequence[Difference]) -> Planted:
    """What was found, as it was planted."""
    found: Planted = {}
    for each in differences:
        found.setdefault((each.store, each.assessment_id or ""), set()).add(each.field.pointer)
    return found


async def corrupt_postgres(installation: Installation, ids: Sequence[str]) -> Planted:
    """Change a state, change an audit row, and lose all rows of one."""
    state, row, lost = ids
    async with installation.database() as database:
        await database.execute("UPDATE assessment_states SET message = 'by hand' WHERE assessment_id = $1", state)
        await database.execute(
            "UPDATE assessment_audit_trail SET details = jsonb_set(details, '{commandId}', '\"forged\"')"
            " WHERE assessment_id = $1 AND new_version = 1",
            row,
        )
        there = await database.fetchrow("SELECT * FROM assessment_states WHERE assessment_id = $1", lost)
        assert there is not None
        for table in ("metrics", "search", "audit_trail", "states"):
            await database.execute(f"DELETE FROM assessment_{table} WHERE assessment_id = $1", lost)
    rows = {f"/auditTrail/{number + 1}" for number in range(there["version"])}
    kind = "/".join(str(there[name] or "") for name in ("assessment_type", "source", "priority", "state"))
    # Whoever changes a row by hand moves its time, too: a trigger sees to that.
    return {
        ("postgres", state): {"/message", "/updatedAt"},
        ("postgres", row): {"/auditTrail/1/details/commandId"},
        ("postgres", lost): {"", *rows},
        ("postgres", ""): {f"/counters/{kind}"},
    }


async def corrupt_redis(installation: Installation, ids: Sequence[str]) -> Planted:
    """Change what is said, bring a version that never was, and an assessment that never was."""
    changed, ahead, unknown = ids
    prefix = installation.settings.topic_prefix
    async with installation.redis() as redis:

        async def write(key: str, of: str, **changes: Any) -> None:
            state = orjson.loads(await redis.hget(f"{prefix}assessment:{of}", "d") or b"") | changes
            value = orjson.dumps(state)
            await redis.hset(f"{prefix}assessment:{key}", mapping={"v": state["version"], "d": value})

        await write(changed, changed, progress=101)
        await write(ahead, ahead, version=70)
        await write(unknown, ahead, assessmentId=unknown, version=7)
    return {("redis", changed): {"/progress"}, ("redis", ahead): {"/version"}, ("redis", unknown): {""}}


def corrupt_tables(folder: Path, ids: Sequence[str]) -> Planted:
    """Flip a bit in a name, write garbage, and forget the last change; the worker has to be stopped."""
    flipped, garbage, outdated = ids
    for path in folder.glob("partition-*"):
        with closing(StateTable(path)) as table:
            states: dict[str, Any] = {key: orjson.loads(value) for key, value in table.values(ids).items()}
            for key, state in states.items():
                changes = {flipped: {"retryCount": 9}, outdated: {"version": state["version"] - 1}}.get(key, {})
                value = os.urandom(40) if key == garbage else orjson.dumps(state | changes)
                table.apply({key: value}, position=table.position or 0)
    return {("rocksdb", flipped): {"/retryCount"}, ("rocksdb", garbage): {""}, ("rocksdb", outdated): {"/version"}}
