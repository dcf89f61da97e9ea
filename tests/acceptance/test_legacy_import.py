"""The import of an old system's export: everything as it was there, once, however often it is killed and repeated."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.installation import Installation
from tests.harness.legacy import audit_row, export_lines, exported, write_lines
from tests.harness.shared import working_installation
from tests.harness.waiting import eventually

from assessmentstore.settings import Settings

COUNT = 5_000


async def start(installation: Installation, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "assessmentstore", "legacy", *arguments,
        env=installation.environment(), cwd=installation.settings.data_dir, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


async def run(installation: Installation, *arguments: str) -> tuple[int | None, dict[str, Any]]:
    """A `legacy` command, its exit code and what it printed."""
    process = await start(installation, *arguments)
    out, errors = await process.communicate()
    assert out, errors.decode()
    return process.returncode, json.loads(out)


@pytest.fixture(scope="module")
def working(
    services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An installation with a worker, for all tests: each has ids of its own."""
    with working_installation(services, template_database, tmp_path_factory.mktemp("import")) as made:
        yield made


async def rows(installation: Installation, query: str, *arguments: Any) -> list[Any]:
    async with installation.database() as database:
        return list(await database.fetch(query, *arguments))


async def test_a_killed_import_goes_on_and_everything_is_there_once_as_it_was(
    working: Installation, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "export.jsonl", export_lines(COUNT, "big"))

    async def is_under_way() -> bool:
        return bool(await rows(working, "SELECT FROM legacy_imports WHERE lines BETWEEN 1 AND $1", COUNT - 1))

    first = await start(working, "import", str(file))
    await eventually(is_under_way, "a first batch")
    first.kill()
    await first.communicate()
    assert first.returncode == -9
    code, told = await run(working, "import", str(file))

    assert code == 0, told
    assert told["validation"]["stats"]["assessments"] == told["finalValidation"]["stats"]["found"] == COUNT
    assert told["migration"]["migratedAssessments"] == COUNT
    assert told["migration"]["failedAssessments"] == 0
    ((count, times),) = await rows(
        working,
        "SELECT count(*), count(*) FILTER (WHERE created_at < '2024-04-01') FROM assessment_states"
        " WHERE version = 1 AND assessment_id LIKE 'big-%'",
    )
    assert (count, times) == (COUNT, COUNT)
    ((events, actions),) = await rows(
        working,
        "SELECT count(*), array_agg(DISTINCT action) FROM assessment_audit_trail WHERE assessment_id LIKE 'big-%'",
    )
    assert (events, actions) == (COUNT, ["imported"])
    ((details,),) = await rows(working, "SELECT details FROM assessment_audit_trail WHERE assessment_id = 'big-3'")
    assert json.loads(details)["history"][0]["action"] == "assessment_pending"
    states = await rows(working, "SELECT state, count(*) FROM assessment_states GROUP BY state ORDER BY state")
    assert [row["state"] for row in states] == ["cancelled", "completed", "failed", "pending", "processing"]


async def test_a_second_import_of_the_same_file_changes_nothing(working: Installation, tmp_path: Path) -> None:
    lines = list(export_lines(50, "twice"))
    await run(working, "import", str(write_lines(tmp_path / "one.jsonl", lines)))

    same, _ = await run(working, "import", str(tmp_path / "one.jsonl"))
    # The same assessments in a file that is another one.
    other, told = await run(working, "import", str(write_lines(tmp_path / "two.jsonl", reversed(lines))))

    assert (same, other) == (0, 0), told
    assert told["migration"]["migratedAssessments"] == 50
    ((events, refused),) = await rows(
        working,
        "SELECT (SELECT count(*) FROM assessment_audit_trail WHERE assessment_id LIKE 'twice-%'),"
        " (SELECT count(*) FROM command_rejections WHERE assessment_id LIKE 'twice-%')",
    )
    assert (events, refused) == (50, 0)


async def test_what_is_unknown_is_put_aside_and_what_differs_is_told(working: Installation, tmp_path: Path) -> None:
    good = [exported(number) for number in range(10)]
    await run(working, "import", str(write_lines(tmp_path / "one.jsonl", good)))
    report = tmp_path / "report.json"
    changed = [
        good[0],
        exported(1, errorMessage="another reason"),
        exported(20, status="archived"),
        exported(21, createdAt=None),
        {"assessmentId": "no-request", "state": "pending"},
    ]
    file = write_lines(tmp_path / "two.jsonl", changed)

    code, told = await run(working, "import", str(file), "--report", str(report))

    assert code == 1
    assert told["report"] == str(report)
    full = json.loads(report.read_text())
    assert full["migration"]["failedAssessments"] == 4
    assert full["finalValidation"]["stats"]["quarantined"] == 3
    aside = await rows(working, "SELECT assessment_id, reason FROM legacy_quarantine ORDER BY assessment_id")
    assert {row["assessment_id"]: row["reason"].split(":")[0] for row in aside} == {
        "no-request": "it has no request",
        "old-20": "the state 'archived' is not one of pending, processing, completed, failed, cancelled, in_progress",
        "old-21": "it has no createdAt",
    }
    ledger = await rows(working, "SELECT assessment_id, field, kind FROM legacy_divergences")
    assert [tuple(row) for row in ledger] == [("old-1", "errorMessage", "import")]
    assert await rows(working, "SELECT FROM assessment_states WHERE assessment_id IN ('old-20', 'old-21')") == []


async def test_a_file_with_errors_is_not_imported(working: Installation, tmp_path: Path) -> None:
    record = exported(1, "wrong")
    lines = [record, record, audit_row(exported(3, "wrong"), "failed"), {"type": "manifest", "assessments": 7}]
    file = write_lines(tmp_path / "wrong.jsonl", lines)

    code, told = await run(working, "import", str(file))

    assert code == 1
    assert told.keys() == {"validation"}
    assert {error.split(":")[0] for error in told["validation"]["errors"]} == {"duplicate", "reference", "count"}
    assert await rows(working, "SELECT FROM assessment_states WHERE assessment_id LIKE 'wrong-%'") == []
