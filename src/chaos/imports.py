"""An export of an old system that is imported in the middle of a run, by an import that is killed and begun again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from ..dev.children import Child, start
from ..models.events import event_from_json
from ..models.machine import evolve
from .installation import Installation
from .plan import Fault
from .world import World

_LINES = 60

_POLL_SECONDS = 0.02
_PAUSE_SECONDS = 0.5

# What is not imported by then is missing.
_MOST_SECONDS = 300.0

_STATES = ("pending", "processing", "completed", "failed", "cancelled")

# Long ago, and long after that.
_BIRTH = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)


def records(seed: int) -> list[dict[str, Any]]:
    """What the old system has."""
    return [_record(f"s{seed}-old-{number}", number) for number in range(_LINES)]


def _record(name: str, number: int) -> dict[str, Any]:
    state, born = _STATES[number % len(_STATES)], _BIRTH + timedelta(days=number)
    record: dict[str, Any] = {
        "assessmentId": name,
        "state": state,
        "progress": 100 if state == "completed" else number,
        "retryCount": number % 3,
        "createdAt": born.isoformat(),
        "updatedAt": (born + timedelta(hours=2)).isoformat(),
        "requestData": {
            "assessmentType": "health",
            "options": {"deepScan": True},
            "serverName": f"old-{number % 7}",
            "userId": f"old-user-{number % 4}",
        },
    }
    if state in ("completed", "failed", "cancelled"):
        record["completedAt"] = (born + timedelta(hours=2)).isoformat()
    if state == "completed":
        record["resultData"] = {"overallScore": number, "totalServers": 1}
    if state == "failed":
        record["errorMessage"] = f"old error {number}"
    return record


class Import:
    """The import, as `legacy import` does it in a process of its own."""

    def __init__(self, seed: int, folder: Path, broken: str) -> None:
        """Write the export.

        Args:
            seed: of the run.
            folder: for the export and the log.
            broken: the name of a sabotage, or nothing.
        """
        self.records = records(seed)
        self._folder = folder
        self._file = folder / "export.jsonl"
        self._report = folder / "import.json"
        self._broken = broken
        folder.mkdir(parents=True, exist_ok=True)
        self._file.write_bytes(b"\n".join(map(orjson.dumps, self.records)) + b"\n")

    async def happen(self, fault: Fault, installation: Installation) -> None:
        """Import, kill it once it has come some way, and begin again until it is done, or it takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOST_SECONDS):
                child = await self._start(installation)
                await self._until(child, int(fault.detail), installation)
                child.kill()
                await child.process.wait()
                while not self._report.exists():  # where something was away, it goes on where it was
                    child = await self._start(installation)
                    await child.process.wait()
        child.kill()
        await child.process.wait()

    async def _start(self, installation: Installation) -> Child:
        program = "assessmentstore.chaos.child", ",".join(filter(None, ("hurry", self._broken)))
        return await start(
            "legacy",
            installation.environment(),
            self._folder / "logs" / "import.log",
            program=program,
            arguments=("import", str(self._file), "--report", str(self._report)),
            folder=self._folder,
        )

    async def _until(self, child: Child, lines: int, installation: Installation) -> None:
        """Wait until so many lines are behind it, or it has ended."""
        while child.process.returncode is None:
            try:
                async with installation.database() as database:
                    while child.process.returncode is None:
                        if await database.fetchval("SELECT max(lines) >= $1 FROM legacy_imports", lines):
                            return
                        await asyncio.sleep(_POLL_SECONDS)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await asyncio.sleep(_PAUSE_SECONDS)


def judge_import(wanted: list[dict[str, Any]], world: World) -> Iterator[str]:
    """Each assessment of the export is there, once, as it was."""
    imported: dict[str, list[Any]] = defaultdict(list)
    for row in world.tables["assessment_audit_trail"]:
        if row["action"] == "imported":
            imported[row["assessment_id"]].append(row)
    for record in wanted:
        name = record["assessmentId"]
        rows = imported.pop(name, [])
        if [row["new_version"] for row in rows] != [1]:
            yield f"{name} is in the export, and was imported {len(rows)} times"
            continue
        found = orjson.loads(evolve(None, event_from_json(rows[0]["details"])).to_json())
        for field, value in record.items():
            if not _is_same(field, value, found[field]):
                yield f"{name} was imported with the {field} {found[field]!r}; the export has {value!r}"
    yield from (f"{name} was imported, and is in no export" for name in imported)


def _is_same(field: str, theirs: Any, ours: Any) -> bool:
    if field == "requestData":
        return isinstance(ours, dict) and theirs.items() <= ours.items()
    if field.endswith("At"):
        return ours is not None and datetime.fromisoformat(theirs) == datetime.fromisoformat(ours)
    return bool(theirs == ours)
