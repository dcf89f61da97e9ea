"""200 assessments, a compliance server that is killed and hangs, workers that are killed: each ends once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.harness.compliance import ScriptedServer, scripted_server, served_by
from tests.harness.installation import Installation
from tests.harness.judge import settled
from tests.harness.load import open_sender
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import command, request
from assessmentstore.chaos.topics import read_topic
from assessmentstore.settings import Settings

COUNT = 200
DEADLINE = 240.0

# What the server does with an assessment, and the state it ends in.
SCRIPTS = {
    "later": "completed",
    "at once": "completed",
    "fails": "failed",
    "502 until 2": "completed",
    "never": "cancelled",
}
FINAL = {"assessment.completed", "assessment.failed", "assessment.cancelled"}


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
async def installation(
    services: Settings, template_database: str, tmp_path: Path, scripted: ScriptedServer
) -> AsyncIterator[Installation]:
    async with served_by(
        scripted, services, template_database, tmp_path, compliance_call_timeout=2.0, compliance_concurrency=20
    ) as made:
        yield made


async def test_each_assessment_ends_once_in_its_right_state(
    installation: Installation, cluster: Cluster, scripted: ScriptedServer
) -> None:
    first, second = cluster.start(), cluster.start()
    names = {f"a-{number}": script for number, script in zip(range(COUNT), [*SCRIPTS] * COUNT, strict=False)}
    async with open_sender(installation) as sender:
        await cluster.until_owned_by(first, second)
        data = {name: request(serverName=script, timeout=3600) for name, script in names.items()}
        await sender.send(*(command(f"create-{name}", "create", name, data[name]) for name in names))

        await until_ended(installation, 20)
        await scripted.stop()
        first.kill9()
        third = cluster.start()
        await cluster.until_owned_by(second, third)
        scripted.lose_everything()
        await scripted.start()

        await until_ended(installation, 80)
        scripted.hanging.clear()
        second.kill9()
        fourth = cluster.start()
        await cluster.until_owned_by(third, fourth)
        scripted.hanging.set()

        endless = [name for name, script in names.items() if script == "never"]
        await sender.send(*(command(f"cancel-{name}", "cancel", name) for name in endless))
        await until_ended(installation, COUNT)

    await eventually(lambda: is_empty(installation), "every execution ended", deadline=DEADLINE)
    assert await states(installation) == {name: SCRIPTS[script] for name, script in names.items()}
    await settled(installation)
    settings = installation.settings
    events = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    told = defaultdict(list)
    for records in events.values():
        for record in records:
            told[record.event["assessmentId"]].append((record.event["version"], record.event["type"]))
    assert told.keys() == names.keys()
    for name, changes in told.items():
        assert [version for version, _ in changes] == list(range(1, len(changes) + 1)), name
        kinds = Counter(kind for _, kind in changes)
        assert sum(kinds[kind] for kind in FINAL) == 1, (name, changes)
        assert kinds["assessment.started"] <= 1, (name, changes)
        assert changes[-1][1] in FINAL, (name, changes)
    # An order that was repeated named the same attempt: a server that kept its word worked once on each.
    assert {key.rpartition(":")[2] for key in scripted.calls} == {"0"}
    assert max(scripted.calls.values()) > 1


async def until_ended(installation: Installation, count: int) -> None:
    async def probe() -> bool:
        found = Counter((await states(installation)).values())
        return found["completed"] + found["failed"] + found["cancelled"] >= count

    await eventually(probe, f"{count} assessments at their end", deadline=DEADLINE)


async def states(installation: Installation) -> dict[str, str]:
    async with installation.database() as database:
        rows = await database.fetch("SELECT assessment_id, state FROM assessment_states")
    return {row["assessment_id"]: row["state"] for row in rows}


async def is_empty(installation: Installation) -> bool:
    async with installation.database() as database:
        return not await database.fetchval("SELECT count(*) FROM executions")
