"""`assessmentstore verify`: whatever is planted in a store is named, and nothing else, however the store moves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from tests.harness.corruption import corrupt_postgres, corrupt_redis, corrupt_tables, told
from tests.harness.installation import Installation, create_installation, database_name, drop_database
from tests.harness.judge import settled
from tests.harness.load import open_sender, under_load
from tests.harness.recovery import Unseen, contents, difference, lose_topics, proved, snapshot
from tests.harness.waiting import eventually
from tests.harness.web import running_web
from tests.harness.worker import Cluster, Worker

from assessmentstore.agents.topics import create_topics
from assessmentstore.chaos.messages import Traffic
from assessmentstore.chaos.seals import evidence_against
from assessmentstore.chaos.topics import read_topic
from assessmentstore.models.comparison import Difference, Store
from assessmentstore.recovery.errors import RecoveryError
from assessmentstore.recovery.findings import Findings
from assessmentstore.recovery.mend import mend
from assessmentstore.recovery.reseed import reseed
from assessmentstore.recovery.verify import verify
from assessmentstore.settings import Settings
from assessmentstore.web.auth import Role

_MESSAGES = 300

_ALARM = "a copy is not what it should be"


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
        # A checkpoint made of planted rows would be evidence against the mended ones.
        await proved(self.installation)
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
        lines = [orjson.loads(line) for line in done.stdout.splitlines()]
        assert "differences" in lines[-1], done.stderr
        return done.returncode, lines


@pytest.fixture(scope="module")
def loaded(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """One for all tests of this module: each leaves it whole."""
    folder: Path = tmp_path_factory.mktemp("verify")
    installation = asyncio.run(create_installation(services, template_database, folder, scrub_rate=200))
    made = Loaded(installation, Cluster(installation))
    try:
        asyncio.run(made.work())
        yield made
    finally:
        made.cluster.destroy()
        asyncio.run(drop_database(services, database_name(installation.settings)))


async def test_nine_corruptions_are_named_and_gone_after_repair_and_replay(loaded: Loaded) -> None:
    """A worker's scrubber sees them too. Caches are mended beside it, the truth by the step that is told."""
    installation, before = loaded.installation, await snapshot(loaded.installation)
    ids = [row[0] for row in before["assessment_states"] if row[2] > 1]
    planted = corrupt_tables(_folder(installation, loaded.cluster.workers[0]), ids[5:8])
    worker = loaded.cluster.start(port=loaded.cluster.workers[0].port)
    await worker.until_ready()
    planted |= await corrupt_redis(installation, [*ids[3:5], "never-was"])
    planted |= await corrupt_postgres(installation, ids[:3])
    wrong = {store: sorted(key for each, key in planted if each == store and key) for store in Store}

    findings, answer = await loaded.verify()

    assert told(findings.differences) == planted
    assert answer["assessments"] == sum(map(len, wrong.values())) == 9
    assert (answer["notComparable"], answer["tables"]) == (0, 4)
    # What has no row left, what never was, and a row that leads to the same state it does not see.
    seen = [ids[0], *ids[3:5], *wrong[Store.ROCKSDB]]
    await eventually(lambda: _scrubber_found(worker, seen), "the scrubber to tell what is wrong")
    code, lines = loaded.run("--repair")
    assert code == 1
    again = {(line["store"], line["assessmentId"] or "") for line in lines[:-1]}
    assert again == planted.keys()
    assert {each["assessmentId"] for each in lines[-1]["mended"]} == {*wrong[Store.REDIS], *wrong[Store.ROCKSDB]}
    assert all(f"--assessment {key}" in lines[-1]["advice"][0] for key in wrong[Store.POSTGRES])
    await eventually(lambda: _corruptions(worker, {"redis": 0, "rocksdb": 0, "postgres": 1}), "the metric to fall")
    await worker.stop()
    mended = await mend(installation.settings, wrong[Store.POSTGRES], Unseen())
    assert sorted(mended["versions"]) == wrong[Store.POSTGRES]
    after = await snapshot(installation)
    # The worker may have made checkpoints meanwhile: that they fit the rows is what is asked of them.
    del before["audit_checkpoints"], after["audit_checkpoints"]
    assert difference(before, after) == []
    assert await evidence_against(installation) == []
    code, lines = loaded.run()
    assert (code, lines[-1]["differences"], lines[-1]["notComparable"]) == (0, 0, 0)


async def test_a_store_that_moves_is_no_store_that_is_wrong(loaded: Loaded) -> None:
    """Commands, a cleanup that deletes, a worker that is killed, and another that takes over."""
    installation = loaded.installation
    first = loaded.cluster.start()
    await first.until_ready()
    async with under_load(installation, seed=23, rate=100), running_web(installation) as web:
        verifying = asyncio.create_task(loaded.verify())
        deleted = await web.ask("POST", "/maintenance/cleanup", {"retentionDays": 0}, role=Role.ADMIN)
        found = [await verifying]
        second = loaded.cluster.start()
        first.kill9()
        found.append(await loaded.verify())
    await settled(installation)
    await second.stop()
    found.append(await loaded.verify())

    assert deleted.body["deleted"] > 10, deleted.body
    assert [told(findings.differences) for findings, _ in found] == [{}] * len(found)
    assert [answer["notComparable"] for _, answer in found] == [0] * len(found)
    assert [line for each in (first, second) for line in each.log.read_text().splitlines() if _ALARM in line] == []


async def test_events_that_were_lost_alone_are_no_reason_to_touch_the_truth_and_can_be_told_again(
    loaded: Loaded,
) -> None:
    """Their topic is made anew, and begins at offset 0 as one that has everything does."""
    installation, settings = loaded.installation, loaded.installation.settings
    before = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    rows = await snapshot(installation)
    await lose_topics(settings, [settings.events_topic])
    await create_topics(settings)

    findings, answer = await loaded.verify()

    assert told(findings.differences) == {}
    assert answer["notComparable"] > 0
    assert all("audit rows are older" in note for note in answer["notes"][: settings.topic_partitions])
    with pytest.raises(RecoveryError, match="before the log begins"):
        await mend(settings, [rows["assessment_states"][0][0]], Unseen())
    with pytest.raises(RecoveryError, match="it was lost, and the others were not") as refused:
        await reseed(settings, Unseen())
    others = [settings.events_topic, settings.rejections_topic, settings.dead_letters_topic]
    assert all(name in str(refused.value) for name in others)
    await lose_topics(settings, others)
    await create_topics(settings)
    await reseed(settings, Unseen())
    after = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    # What retention deleted is not told again.
    assert sum(map(len, after.values())) == len(rows["assessment_audit_trail"])
    for partition, records in before.items():
        again = contents(after[partition])
        assert again == [each for each in contents(records) if each in again]
    findings, answer = await loaded.verify()
    assert (told(findings.differences), answer["notComparable"]) == ({}, 0)


async def test_a_log_that_was_cut_is_neither_right_nor_wrong(loaded: Loaded) -> None:
    settings = loaded.installation.settings
    events = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    first, middle = events[1][0], events[1][len(events[1]) // 2]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(settings.events_topic, 1): RecordsToDelete(middle.offset)})
    await admin.close()

    findings, answer = await loaded.verify()

    assert told(findings.differences) == {}
    assert answer["notComparable"] > 0
    assert f"the log begins at command {middle.header('ce_commandoffset')}" in answer["notes"][0]
    with pytest.raises(RecoveryError, match="the log"):
        await mend(settings, [(first.key or b"").decode()], Unseen())


def _folder(installation: Installation, worker: Worker) -> Path:
    return installation.settings.data_dir / f"worker-{worker.port}"


async def _scrubber_found(worker: Worker, ids: list[str]) -> bool:
    lines = [orjson.loads(line) for line in worker.log.read_text().splitlines() if _ALARM in line]
    return {line["assessment_id"] for line in lines} == set(ids)


async def _corruptions(worker: Worker, expected: dict[str, int]) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{worker.port}/metrics") as answer:
        text = await answer.text()
    lines = [f'assessmentstore_corruptions{{store="{store}"}} {count}.0' for store, count in expected.items()]
    return all(line in text for line in lines) and "assessmentstore_scrubbed_assessments_total 0.0" not in text
