"""Somebody changes rows with plain SQL: that is noticed, and never overwritten."""

from __future__ import annotations

from typing import Any

import pytest
from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import open_sender
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import command, create
from assessmentstore.chaos.topics import read_topic


async def _row(cluster: Cluster, assessment_id: str) -> dict[str, Any]:
    async with cluster.installation.database() as database:
        row = await database.fetchrow("SELECT * FROM assessment_states WHERE assessment_id = $1", assessment_id)
    assert row is not None
    return dict(row)


async def _behind_the_workers_back(cluster: Cluster, statement: str) -> None:
    async with cluster.installation.database() as database:
        assert await database.execute(statement) == "UPDATE 1"


async def test_a_version_changed_by_hand_is_built_upon(cluster: Cluster) -> None:
    """The worker's table has version 2; the next command is decided on what Postgres has, and takes nothing back."""
    worker = cluster.start()
    async with open_sender(cluster.installation) as sender:
        await sender.send(create("c", "a"), command("s", "start", "a"), create("d", "b"))
        await settled(cluster.installation)
        await _behind_the_workers_back(
            cluster,
            "UPDATE assessment_states SET version = 7, progress = 42, message = 'by hand' WHERE assessment_id = 'a'",
        )

        await sender.send(command("f", "fail", "a", {"error": "broken"}), command("t", "start", "b"))
        await assert_exactly_once(cluster.installation, sent=sender.sent, overruled=["a"])

    row = await _row(cluster, "a")
    assert (row["state"], row["version"], row["progress"], row["message"]) == ("failed", 8, 42, "by hand")
    assert worker.returncode is None


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [("complete", {"result": {}}, "INVALID_STATE_TRANSITION"), ("retry", {}, None)],
    ids=["refused as it stands now", "accepted as it stands now"],
)
async def test_a_state_changed_by_hand_is_what_commands_are_judged_by(
    cluster: Cluster, name: str, data: dict[str, Any], code: str | None
) -> None:
    cluster.start()
    async with open_sender(cluster.installation) as sender:
        await sender.send(create("c", "a"), command("s", "start", "a"))
        await settled(cluster.installation)
        await _behind_the_workers_back(cluster, "UPDATE assessment_states SET version = 3, state = 'failed'")

        await sender.send(command("x", name, "a", data))
        await settled(cluster.installation)

    row = await _row(cluster, "a")
    async with cluster.installation.database() as database:
        refused = await database.fetchval("SELECT code FROM command_rejections WHERE command_id = 'x'")
    assert refused == code
    assert (row["state"], row["version"]) == (("failed", 3) if code else ("pending", 4))


async def test_a_version_set_back_by_hand_stops_no_partition(cluster: Cluster) -> None:
    """The audit trail has version 2 already: the command cannot be applied, and the next one of another can."""
    worker = cluster.start()
    async with open_sender(cluster.installation) as sender:
        await sender.send(create("c", "a"), command("s", "start", "a"))
        await settled(cluster.installation)
        await _behind_the_workers_back(cluster, "UPDATE assessment_states SET version = 1")

        await sender.send(command("f", "fail", "a", {"error": "broken"}), create("d", "b"), create("e", "a2"))
        await settled(cluster.installation)

    row = await _row(cluster, "a")
    assert (row["state"], row["version"], row["error_message"]) == ("processing", 1, None)
    settings = cluster.installation.settings
    (letter,) = (await read_topic(settings, settings.dead_letters_topic, 1))[0]
    assert "contradict" in (letter.header("reason") or "")
    assert worker.returncode is None
