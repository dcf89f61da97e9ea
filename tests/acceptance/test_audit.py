"""Workers make checkpoints and an auditor checks them; a crash between a checkpoint and its record doubles nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
from tests.harness.installation import Installation
from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import open_sender
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import command, create
from assessmentstore.chaos.topics import read_topic
from assessmentstore.recovery.checkpoints import unlike_published
from assessmentstore.settings import ENV_PREFIX
from assessmentstore.store.postgres import open_read_pool
from assessmentstore.store.signing import signing_key


def _audit(installation: Installation, *arguments: str, settings: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `assessmentstore audit`, with the settings of the installation or with none at all."""
    environment = installation.environment()
    if not settings:
        environment = {name: value for name, value in environment.items() if not name.startswith(ENV_PREFIX)}
    return subprocess.run(
        [sys.executable, "-m", "assessmentstore", "audit", *arguments],
        env=environment,
        cwd=installation.settings.data_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def _checkpoints(installation: Installation) -> list[Any]:
    """All that was published, of every partition."""
    settings = installation.settings
    found = await read_topic(settings, settings.checkpoints_topic, settings.topic_partitions)
    return [orjson.loads(record.value or b"") for records in found.values() for record in records]


async def _until_covered(installation: Installation, rows: int) -> None:
    """Wait until the published checkpoints count so many rows."""

    async def probe() -> bool:
        newest: dict[int, int] = {item["partition"]: item["count"] for item in await _checkpoints(installation)}
        return rows == sum(newest.values())

    await eventually(probe, f"checkpoints of {rows} rows")


async def test_a_crash_between_a_checkpoint_and_its_record_neither_loses_nor_doubles_it(cluster: Cluster) -> None:
    installation = cluster.installation
    victim = cluster.start(crash_point="checkpointed")
    async with open_sender(installation) as sender:
        await sender.send(create("c", "a"), command("s", "start", "a"))
        await victim.ended()
        assert await _checkpoints(installation) == []

        heir = cluster.start()
        await _until_covered(installation, 2)
        await sender.send(command("f", "fail", "a", {"error": "broken"}), create("d", "b"))
        await _until_covered(installation, 4)
        await heir.stop()
        await cluster.start().until_ready()

        await assert_exactly_once(installation, sent=sender.sent)
    sequences = [(item["partition"], item["sequence"]) for item in await _checkpoints(installation)]
    assert len(sequences) == len(set(sequences))
    await _compare_with_the_topic(installation, sequences[-1])


async def _compare_with_the_topic(installation: Installation, last: tuple[int, int]) -> None:
    """All are there; one that somebody takes out of Postgres is told."""
    settings = installation.settings
    async with open_read_pool(settings, settings.database_url, "test") as pool:
        assert await unlike_published(settings, pool) == []
        async with installation.database() as database:
            await database.execute("DELETE FROM audit_checkpoints WHERE partition = $1 AND sequence = $2", *last)
        assert await unlike_published(settings, pool) == [
            f"checkpoint {last[1]} of partition {last[0]}: it is on {settings.checkpoints_topic}, and not in Postgres"
        ]


async def test_an_auditor_exports_what_a_worker_wrote_and_checks_it_with_the_public_key_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    installation = cluster.installation
    cluster.start()
    async with open_sender(installation) as sender:
        await sender.send(create("c", "a"), command("s", "start", "a"), command("x", "cancel", "a"))
        await settled(installation)
    await _until_covered(installation, 3)
    key = signing_key(installation.settings)
    assert key is not None
    file, public = tmp_path / "a.json", ("--public-key", key.public)

    assert _audit(installation, "export", "a", "-o", str(file)).returncode == 0
    exported = _audit(installation, "export", "--checkpoints")
    checked = _audit(installation, "check")
    verified = _audit(installation, "verify", str(file), *public, settings=False)

    assert (checked.returncode, checked.stdout) == (0, "the audit trail is as it was written\n")
    assert (verified.returncode, orjson.loads(verified.stdout)["covered"]) == (0, 3)
    bundle = orjson.loads(file.read_bytes())
    bundle["rows"][1]["entry"]["userId"] = "mallory"
    file.write_bytes(orjson.dumps(bundle))
    forged = _audit(installation, "verify", str(file), *public, settings=False)
    assert (forged.returncode, forged.stderr.startswith("row 2 (a version 2): ")) == (1, True)
    file.write_text(exported.stdout)
    assert _audit(installation, "verify", str(file), *public, settings=False).returncode == 0
    assert "there is no assessment nobody" in _audit(installation, "export", "nobody").stderr

    async with installation.database() as database:
        await database.execute("UPDATE assessment_audit_trail SET traceparent = 'x' WHERE new_version = 2")
    checked = _audit(installation, "check")
    assert (checked.returncode, checked.stdout.startswith("row a version 2: ")) == (1, True)
