"""The disaster drills: Postgres is lost and comes back from Kafka, Kafka is lost and comes back from Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from tests.harness.installation import Installation, create_installation, database_name, drop_database
from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import open_sender
from tests.harness.messages import Traffic
from tests.harness.recovery import (
    contents,
    difference,
    ends,
    killed,
    lose_database,
    lose_topics,
    replay,
    snapshot,
    told,
)
from tests.harness.topics import TopicRecord, emitted_watermarks, read_topic
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster, Worker

from assessmentstore.agents.crash_points import CrashPoint
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.events import event_from_json
from assessmentstore.models.machine import evolve
from assessmentstore.settings import Settings
from assessmentstore.store.migrate import migrate
from assessmentstore.store.postgres import record_from_row

_MESSAGES = 1500


@dataclass(frozen=True)
class Loaded:
    """An installation that has worked, and rests."""

    installation: Installation
    cluster: Cluster
    traffic: Traffic

    async def work(self, *, crash_point: str = "") -> None:
        """Send commands, and let a worker apply them, or die of it."""
        worker = self.cluster.start(crash_point=crash_point)
        async with open_sender(self.installation) as sender:
            for _ in range(3):
                await sender.send(*self.traffic.take(_MESSAGES // 3))
        if crash_point:
            await worker.ended()
        else:
            await settled(self.installation)
            await worker.stop()

    def replay(self, *arguments: str) -> dict[str, object]:
        """Replay, and return the answer."""
        done = replay(self.installation, *arguments)
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = orjson.loads(done.stdout)
        return answer


@pytest.fixture(scope="module")
def loaded(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """One for all tests of this module: each leaves it whole."""
    folder: Path = tmp_path_factory.mktemp("recovery")
    installation = asyncio.run(create_installation(services, template_database, folder))
    made = Loaded(installation, Cluster(installation), Traffic(11))
    try:
        asyncio.run(made.work())
        yield made
    finally:
        made.cluster.destroy()
        asyncio.run(drop_database(services, database_name(installation.settings)))


async def test_a_lost_database_comes_back_row_by_row_though_the_replay_is_killed(
    loaded: Loaded, services: Settings
) -> None:
    before, topics = await snapshot(loaded.installation), await ends(loaded.installation.settings)
    await lose_database(loaded.installation, services)

    assert killed(replay(loaded.installation, sabotage="small-batches,dies-in-rebuild"))
    async with loaded.installation.database() as database:
        partly = await database.fetchval("SELECT count(*) FROM assessment_audit_trail")
    assert 0 < partly < len(before["assessment_audit_trail"])
    answer = loaded.replay()

    assert difference(before, await snapshot(loaded.installation)) == []
    assert await ends(loaded.installation.settings) == topics
    assert 0 < int(str(answer["written"])) < sum(map(len, before.values()))
    assert loaded.replay()["written"] == 0


async def test_the_past_is_built_beside_the_present_and_touches_nothing(loaded: Loaded) -> None:
    settings = loaded.installation.settings
    before, topics = await snapshot(loaded.installation), await ends(settings)
    events = [event_from_json(record.value or b"") for _, record in await _events(settings)]
    instant = sorted(event.occurred_at for event in events)[len(events) // 2]

    answer = loaded.replay("--schema", "half", "--until", instant.isoformat())

    states: dict[str, AssessmentRecord] = {}
    for event in events:
        if event.occurred_at <= instant:
            states[event.assessment_id] = evolve(states.get(event.assessment_id), event)
    assert await _states(loaded.installation, "half") == states
    assert 0 < len(states) < len(before["assessment_states"])
    assert difference(before, await snapshot(loaded.installation)) == []
    assert await ends(settings) == topics
    assert "half.assessment_states" in str(answer["query"])
    assert loaded.replay("--schema", "half", "--until", instant.isoformat())["written"] == 0
    other = replay(loaded.installation, "--schema", "half")
    assert (other.returncode, "take another name" in other.stderr) == (1, True)


async def test_the_past_is_built_up_to_a_command_of_one_partition(loaded: Loaded) -> None:
    found = await _events(loaded.installation.settings)
    offsets = [offset for (partition, offset), _ in found if partition == 1]
    middle = offsets[len(offsets) // 2]

    loaded.replay("--schema", "to_offset", "--until-offset", f"1:{middle}")

    states: dict[str, AssessmentRecord] = {}
    for (partition, offset), record in found:
        if partition != 1 or offset < middle:
            event = event_from_json(record.value or b"")
            states[event.assessment_id] = evolve(states.get(event.assessment_id), event)
    assert await _states(loaded.installation, "to_offset") == states


async def test_what_was_committed_and_not_published_is_applied_again_after_the_loss(
    loaded: Loaded, services: Settings
) -> None:
    """The worker dies between Postgres and Kafka, so that Postgres knows more than Kafka when it is lost."""
    settings = loaded.installation.settings
    await loaded.work(crash_point=f"{CrashPoint.COMMITTED}:4")
    await lose_database(loaded.installation, services)
    await migrate(settings.database_url)
    topics = await told(settings)
    hasty = loaded.cluster.start()
    await eventually(lambda: _says(hasty, "run assessmentstore replay"), "the worker to see that Postgres is behind")

    refused = replay(loaded.installation)
    await hasty.stop()
    await eventually(lambda: _without_members(loaded), "the replay beside no worker")
    assert await told(settings) == topics
    await loaded.work()

    assert (refused.returncode, "stop them" in refused.stderr) == (1, True)
    await assert_exactly_once(loaded.installation)


async def test_lost_topics_come_back_byte_by_byte_though_the_replay_is_killed(loaded: Loaded) -> None:
    settings = loaded.installation.settings
    before, database = await told(settings), await snapshot(loaded.installation)
    marks = await emitted_watermarks(settings)
    await lose_topics(settings)

    assert killed(replay(loaded.installation, "--to-kafka", sabotage="small-batches,dies-in-reseed"))
    answer = loaded.replay("--to-kafka")

    after = await told(settings)
    for name in before.keys() - {settings.commands_topic, settings.dead_letters_topic}:
        for partition, records in before[name].items():
            assert contents(after[name][partition]) == contents(records), (name, partition)
    letters = [sorted(contents(found[settings.dead_letters_topic][0]), key=repr) for found in (before, after)]
    assert letters[0] == letters[1]
    assert await emitted_watermarks(settings) == marks
    assert (await ends(settings))[settings.commands_topic] == marks
    assert not any(after[settings.commands_topic].values())
    assert difference(database, await snapshot(loaded.installation)) == []
    assert int(str(answer["skipped"])) >= 0
    assert loaded.replay("--to-kafka") == {"published": 0, "skipped": 0, "deletions": 0}

    await loaded.work()
    await assert_exactly_once(loaded.installation, lost=before[settings.commands_topic])


async def _says(worker: Worker, words: str) -> bool:
    return words in worker.log.read_text()


async def _without_members(loaded: Loaded) -> bool:
    """Replay; not while a worker that was killed is in the group."""
    return replay(loaded.installation).returncode == 0


async def _events(settings: Settings) -> list[tuple[tuple[int, int], TopicRecord]]:
    """Every event with its partition and the offset of its command."""
    found = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    return [
        ((record.partition, int(record.header("ce_commandoffset") or -1)), record)
        for records in found.values()
        for record in records
    ]


async def _states(installation: Installation, schema: str) -> dict[str, AssessmentRecord]:
    async with installation.database() as database:
        rows = await database.fetch(f"SELECT * FROM {schema}.assessment_states")
    return {row["assessment_id"]: record_from_row(row) for row in rows}
