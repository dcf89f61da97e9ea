"""`assessmentstore verify`: whatever is planted in a store is named, and nothing else, however the store moves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.harness.corruption import corrupt_postgres, corrupt_redis, corrupt_tables, told
from tests.harness.installation import Installation, create_installation, database_name, drop_database
from tests.harness.judge import settled
from tests.harness.load import open_sender, under_load
from tests.harness.recovery import Unseen, difference, snapshot
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster, Worker

from assessmentstore.chaos.messages import Traffic
from assessmentstore.chaos.seals import evidence_against
from assessmentstore.models.comparison import Difference
from assessmentstore.recovery.findings import Findings
from assessmentstore.recovery.mend import mend
from assessmentstore.recovery.verify import verify
from assessmentstore.settings import Settings

_MESSAGES = 400


@dataclass(frozen=True)
class Loaded:
    """An installation that has worked, and rests."""

    installation: Installation
    cluster: Cluster

    async def work(self) -> None:
        """Send commands, let a worker apply them, and stop it."""
        worker = self.cluster.start()
        async with open_sender(self.installation) as sender:
            await sender.send(*Traffic(7).take(_MESSAGES))
        await settled(self.installation)
        await worker.stop()

    async def verify(self, *, repair: bool = False) -> tuple[Findings, dict[str, Any]]:
        """What the command does, without a process of its own."""
        heard: list[Difference] = []
        settings = self.installation.settings
        findings, answer = await verify(settings, repair=repair, tell=heard.append, progress=Unseen())
        assert len(heard) == answer["differences"]
        return findings, answer

    def run(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """The command itself: how it ended, and its lines."""
        done = subprocess.run(
            [sys.executable, "-m", "assessmentstore", "verify", *arguments],
            env=self.installation.environment(), cwd=self.installation.settings.data_dir,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return done.returncode, [orjson.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def loaded(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """One for all tests of this module: each leaves it whole."""
    folder: Path = tmp_path_factory.mktemp("verify")
    installation = asyncio.run(create_installation(services, template_database, folder))
    made = Loaded(installation, Cluster(installation))
    try:
        asyncio.run(made.work())
        yield made
    finally:
        made.cluster.destroy()
        asyncio.run(drop_database(services, database_name(installation.settings)))


async def test_nine_corruptions_are_named_and_gone_after_repair_and_replay(loaded: Loaded) -> None:
    """Caches are mended by the command beside a worker, the truth by the step that it names, with workers stopped."""
    installation = loaded.installation
    before = await snapshot(installation)
    findings, answer = await loaded.verify()
    assert told(findings.differences) == {}, "what is whole is told to be whole, or nothing is proved"
    assert (answer["notComparable"], answer["tables"]) == (0, 4)
    ids = [row[0] for row in before["assessment_states"] if row[2] > 1]
    planted = await corrupt_postgres(installation, ids[:3])
    planted |= await corrupt_redis(installation, [*ids[3:5], "never-was"])
    planted |= corrupt_tables(_folder(installation, loaded.cluster.workers[0]), ids[5:8])

    findings, answer = await loaded.verify()

    assert told(findings.differences) == planted
    assert len({key for _, key in planted}) == answer["assessments"] == 9
    code, lines = loaded.run("--repair")
    assert code == 1
    assert {line["assessmentId"] for line in lines[:-1]} == {key for _, key in planted}
    assert {each["assessmentId"] for each in lines[-1]["mended"]} == {key for store, key in planted if store != "postgres"}
    wrong = [key for store, key in planted if store == "postgres"]
    assert all(f"--assessment {key}" in lines[-1]["advice"][0] for key in wrong)
    mended = await mend(installation.settings, wrong, Unseen())
    assert mended["versions"].keys() == set(wrong)
    assert difference(before, await snapshot(installation)) == []
    assert await evidence_against(installation) == []
    code, lines = loaded.run()
    assert (code, lines[-1]["differences"], lines[-1]["notComparable"]) == (0, 0, 0)


def _folder(installation: Installation, worker: Worker) -> Path:
    return installation.settings.data_dir / f"worker-{worker.port}"
