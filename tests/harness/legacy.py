"""An old system: its exports, as its exporters write them, and itself in Node."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

STATES = ("completed", "failed", "pending", "in_progress", "cancelled", "processing")


def exported(number: int, prefix: str = "old", **members: Any) -> dict[str, Any]:
    """An assessment as one of the exporters writes it; every other one uses the names of the other exporter."""
    state = STATES[number % len(STATES)]
    ended = state in ("completed", "failed", "cancelled")
    record: dict[str, Any] = {
        "assessmentId": f"{prefix}-{number}",
        "state": state,
        "progress": 100 if state == "completed" else number % 100,
        "createdAt": f"2024-03-{number % 28 + 1:02}T08:00:00.000Z",
        "updatedAt": f"2024-03-{number % 28 + 1:02}T08:30:00.250Z",
        "retryCount": number % 3,
        "requestData": {
            "id": f"{prefix}-{number}",
            "assessmentType": "compliance",
            "options": {"deepScan": True},
            "serverName": f"srv-{number % 7}",
            "source": "installer",
            "userId": "ann",
        },
    }
    if ended:
        record |= {"completedAt": record["updatedAt"], "duration": 60_000}
    if state == "completed":
        record["resultData"] = {"overallScore": number % 100, "totalServers": 3}
    if state == "failed":
        record["errorMessage"] = f"no route to srv-{number % 7}"
    return (record if number % 2 else _other_names(record)) | members


def audit_row(record: dict[str, Any], new_state: str, old_state: str | None = None) -> dict[str, Any]:
    """A row of the old audit log."""
    return {
        "id": f"audit_{record['assessmentId']}",
        "action": f"assessment_{new_state}",
        "assessmentId": record["assessmentId"],
        "oldState": old_state,
        "newState": new_state,
        "createdAt": record.get("updatedAt") or record["updated_at"],
        "actor": "ann",
    }


def export_lines(count: int, prefix: str) -> Iterator[dict[str, Any]]:
    """Assessments, each with a row of the audit log, and a manifest."""
    for number in range(count):
        record = exported(number, prefix)
        yield record
        yield audit_row(record, "pending")
    yield {"type": "manifest", "assessments": count, "auditLogs": count}


def write_lines(file: Path, lines: Iterable[Any]) -> Path:
    """Write JSON lines."""
    with file.open("w") as out:
        out.writelines(f"{json.dumps(line)}\n" for line in lines)
    return file


def _other_names(record: dict[str, Any]) -> dict[str, Any]:
    names = {"requestData": "request", "resultData": "result", "errorMessage": "error", "state": "status"}
    names |= {"createdAt": "created_at", "updatedAt": "updated_at", "completedAt": "completed_at"}
    return {names.get(name, name): value for name, value in record.items()}


class Emitter:
    """The old system in Node, which does what it is told and answers."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def tell(self, command: str, **members: Any) -> dict[str, Any]:
        """Have it do something, and return what it says."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"command": command, **members}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer


@asynccontextmanager
async def running_emitter(url: str, token: str) -> AsyncIterator[Emitter]:
    """The old system, up until the caller is done."""
    script = Path(__file__).parents[1] / "legacy" / "emitter.mjs"
    process = await asyncio.create_subprocess_exec(
        "node", str(script), stdin=PIPE, stdout=PIPE, limit=2**24,
        env=os.environ | {"STORE_URL": url, "STORE_TOKEN": token},
    )  # fmt: skip
    try:
        yield Emitter(process)
    finally:
        process.kill()
        await process.communicate()
