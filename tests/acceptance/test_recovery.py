"""The disaster drills: Postgres is lost and comes back from Kafka, Kafka is lost and comes back from Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import orjson
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from redis.asyncio.client import PubSub
from tests.harness.installation import Installation, create_installation, database_name, drop_database
from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import open_sender
from tests.harness.recovery import (
    Snapshot,
    Unseen,
    contents,
    difference,
    ends,
    killed,
    lose_database,
    lose_topics,
    proved,
    replay,
    snapshot,
    told,
)
from tests.harness.waiting import eventually
from tests.harness.web import Web, running_web
from tests.harness.worker import Cluster, Worker

from assessmentstore.agents.crash_points import CrashPoint, CrashPoints
from assessmentstore.agents.publisher import Publisher, new_name
from assessmentstore.agents.redrive import open_redriver
from assessmentstore.agents.topics import create_topics
from assessmentstore.chaos.messages import Traffic, command, create
from assessmentstore.chaos.seals import evidence_against
from assessmentstore.chaos.topics import TopicRecord, emitted_watermarks, read_topic
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.events import event_from_json
from assessmentstore.models.machine import evolve
from assessmentstore.recovery.errors import RecoveryError
from assessmentstore.recovery.fold import Until
from assessmentstore.recovery.log import refuse_beside_workers
from assessmentstore.recovery.replay import Answer, replay_beside, replay_caches, replay_live, replay_to_kafka
from assessmentstore.settings import Settings
from assessmentstore.store.cache import SharedCache
from assessmentstore.store.changes import Outbox
from assessmentstore.store.dead_letters import DeadLetters, LetterFilters
from assessmentstore.store.maintenance import delete_assessments
from assessmentstore.store.migrate import migrate
from assessmentstore.store.postgres import open_pools, record_from_row
from assessmentstore.store.redis import open_redis
from assessmentstore.store.table import StateTable
from assessmentstore.web.auth import Role

_MESSAGES = 300

_SEEN_TO = ("redriven twice", "dropped", "dropped and redriven")


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
                if not crash_point:
                    # What is applied in one transaction has one time: the past wants several.
                    await settled(self.installation)
        if crash_point:
            await worker.ended()
        else:
            await proved(self.installation)
            await worker.stop()

    async def see_to_letters(self) -> None:
        """Redrive and drop dead letters, some more than once, and leave others open."""
        settings = self.installation.settings
        async with open_pools(settings, application="tests") as pools:
            letters = DeadLetters(pools.write)
            twice, dropped, both, *_ = await letters.page(LetterFilters(), after=0, limit=10)
            async with open_redriver(settings, letters, "olga") as redriver:
                await redriver.redrive(twice)
                await redriver.redrive(twice, again=True)
                await redriver.drop(dropped, "of a test: 試")
                await redriver.drop(both, "a mistake")
                await redriver.redrive(both, again=True)

    async def replay(self) -> Answer:
        """What `assessmentstore replay` does, without a process of its own."""
        return await replay_live(self.installation.settings, Unseen())

    async def replay_beside(self, schema: str, until: Until) -> Answer:
        """What `replay --schema` does."""
        return await replay_beside(self.installation.settings, schema, until, Unseen())

    async def replay_to_kafka(self) -> Answer:
        """What `replay --to-kafka` does."""
        return await replay_to_kafka(self.installation.settings, Unseen())

    async def replay_caches(self) -> Answer:
        """What `replay --caches` does."""
        return await replay_caches(self.installation.settings, Unseen())


@pytest.fixture(scope="module")
def loaded(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """One for all tests of this module: each leaves it whole."""
    folder: Path = tmp_path_factory.mktemp("recovery")
    installation = asyncio.run(create_installation(services, template_database, folder))
    made = Loaded(installation, Cluster(installation), Traffic(11))
    try:
        asyncio.run(made.work())
        asyncio.run(made.see_to_letters())
        yield made
    finally:
        made.cluster.destroy()
        asyncio.run(drop_database(services, database_name(installation.settings)))


async def test_a_lost_database_comes_back_row_by_row_though_the_replay_is_killed(
    loaded: Loaded, services: Settings
) -> None:
    installation, settings = loaded.installation, loaded.installation.settings
    before, topics = await snapshot(installation), await ends(settings)
    await lose_database(installation, services)

    async with installation.redis() as redis, redis.pubsub() as messages:
        await messages.psubscribe(f"{settings.topic_prefix}*")
        assert killed(replay(installation, dies=True))
        async with installation.database() as database:
            partly = await database.fetchval("SELECT count(*) FROM assessment_audit_trail")
        assert 0 < partly < len(before["assessment_audit_trail"])
        done = replay(installation)
        heard = [message async for message in _heard(messages)]

    assert difference(before, await snapshot(installation)) == []
    assert sum("olga" in row for row in before["dead_letters"]) == len(_SEEN_TO)
    assert await ends(settings) == topics
    assert heard == []
    assert (done.returncode, await evidence_against(installation)) == (0, []), done.stderr
    assert 0 < orjson.loads(done.stdout)["written"] < sum(map(len, before.values()))
    assert (await loaded.replay())["written"] == 0


async def test_states_and_trail_come_back_from_the_events_alone(cluster: Cluster, services: Settings) -> None:
    """Whatever else was told is lost: the replay says which topics, and a worker goes on."""
    installation = cluster.installation
    made = Loaded(installation, cluster, Traffic(5))
    await made.work()
    settings, before = installation.settings, await snapshot(installation)
    gone = [settings.rejections_topic, settings.dead_letters_topic, settings.deletions_topic]
    gone += [settings.checkpoints_topic, settings.letter_marks_topic]
    await lose_topics(settings, gone)
    await lose_database(installation, services)

    answer = await made.replay()

    after = await snapshot(installation)
    from_events = ("states", "audit_trail", "search", "names", "metrics", "totals")
    assert {name: after[f"assessment_{name}"] for name in from_events} == {
        name: before[f"assessment_{name}"] for name in from_events
    }
    assert after["command_offsets"] == before["command_offsets"]
    assert sorted(answer["topicsMadeAnew"]) == sorted(gone)
    assert (await made.replay())["written"] == 0
    await made.work()


async def test_the_drill_tells_of_every_table_whether_it_comes_back(loaded: Loaded) -> None:
    documented = (Path(__file__).parents[2] / "docs/recovery.md").read_text()

    async with loaded.installation.database() as database:
        rows = await database.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace"
        )

    assert len(rows) > 20
    assert [row["relname"] for row in rows if f"`{row['relname']}`" not in documented] == []


async def test_the_past_is_built_beside_the_present_and_touches_nothing(loaded: Loaded) -> None:
    settings = loaded.installation.settings
    before, topics = await snapshot(loaded.installation), await ends(settings)
    events = [event_from_json(record.value or b"") for _, record in await _events(settings)]
    instant = sorted(event.occurred_at for event in events)[len(events) // 2]

    answer = await loaded.replay_beside("half", Until(instant))

    states: dict[str, AssessmentRecord] = {}
    for event in events:
        if event.occurred_at <= instant:
            states[event.assessment_id] = evolve(states.get(event.assessment_id), event)
    assert await _states(loaded.installation, "half") == states
    assert 0 < len(states) < len(before["assessment_states"])
    assert difference(before, await snapshot(loaded.installation)) == []
    assert await ends(settings) == topics
    assert '"half".assessment_states' in str(answer["query"])
    assert (await loaded.replay_beside("half", Until(instant)))["written"] == 0
    letters = (await snapshot(loaded.installation, "half"))["dead_letters"]
    assert letters
    assert not [row for row in letters if "olga" in row], "nobody had seen to any by then"
    with pytest.raises(RecoveryError, match="take another name"):
        await loaded.replay_beside("half", Until())


async def test_the_past_is_built_up_to_a_command_of_one_partition(loaded: Loaded) -> None:
    found = await _events(loaded.installation.settings)
    offsets = [offset for (partition, offset), _ in found if partition == 1]
    middle = offsets[len(offsets) // 2]

    await loaded.replay_beside("to_offset", Until(offsets={1: middle}))

    states: dict[str, AssessmentRecord] = {}
    for (partition, offset), record in found:
        if partition != 1 or offset < middle:
            event = event_from_json(record.value or b"")
            states[event.assessment_id] = evolve(states.get(event.assessment_id), event)
    assert await _states(loaded.installation, "to_offset") == states


async def test_a_side_schema_may_have_a_name_that_sql_knows_and_the_zone_of_the_moment_is_one_of_many(
    loaded: Loaded,
) -> None:
    instant = datetime(2001, 1, 1, tzinfo=UTC)

    answer = await loaded.replay_beside("user", Until(instant))
    again = replay(loaded.installation, "--schema", "user", "--until", "2001-01-01T05:30:00+05:30")
    other = replay(loaded.installation, "--schema", "user", "--until", "2002-01-01")
    system = replay(loaded.installation, "--schema", "information_schema", "--until", "2002-01-01")

    assert (again.returncode, other.returncode, system.returncode) == (0, 1, 1), again.stderr
    assert 'DROP SCHEMA "user" CASCADE' in other.stderr
    assert "DROP" not in system.stderr
    async with loaded.installation.database() as database:
        assert await database.fetch(str(answer["query"])) == []
        await database.execute(str(answer["drop"]))


async def test_what_was_committed_and_not_published_is_applied_again_after_the_loss(
    loaded: Loaded, services: Settings
) -> None:
    """The worker dies between Postgres and Kafka, so that Postgres knows more than Kafka when it is lost."""
    settings = loaded.installation.settings
    await loaded.work(crash_point=f"{CrashPoint.COMMITTED}:4")
    await eventually(lambda: _without_members(settings), "the group to be empty")
    await loaded.replay()
    assert await _taken_for_published(loaded.installation) == await emitted_watermarks(settings)
    await lose_database(loaded.installation, services)
    await migrate(settings.database_url)
    topics = await told(settings)
    hasty = loaded.cluster.start()
    await eventually(lambda: _says(hasty, "run assessmentstore replay"), "the worker to see that Postgres is behind")

    with pytest.raises(RecoveryError, match="stop them"):
        await loaded.replay()
    await hasty.stop()
    await loaded.replay()
    assert await told(settings) == topics
    await loaded.work()

    await assert_exactly_once(loaded.installation)


async def test_lost_topics_come_back_byte_by_byte_though_the_replay_is_killed(loaded: Loaded) -> None:
    settings = loaded.installation.settings
    before, database = await told(settings), await snapshot(loaded.installation)
    marks = await emitted_watermarks(settings)
    await lose_topics(settings)
    await create_topics(settings)
    await _leave_watermark(settings, 0, marks[0])

    assert killed(replay(loaded.installation, "--to-kafka", dies=True))
    answer = await loaded.replay_to_kafka()

    after = await told(settings)
    others = {settings.commands_topic, settings.dead_letters_topic, settings.letter_marks_topic}
    for name in before.keys() - others:
        for partition, records in before[name].items():
            assert contents(after[name][partition]) == contents(records), (name, partition)
    letters = [sorted(contents(found[settings.dead_letters_topic][0]), key=repr) for found in (before, after)]
    assert letters[0] == letters[1]
    seen_to = [contents(found[settings.letter_marks_topic][0]) for found in (before, after)]
    assert {key: value for key, value, _ in seen_to[0]} == {key: value for key, value, _ in seen_to[1]}
    assert len(seen_to[1]) == len(_SEEN_TO), "of each what counts"
    assert await emitted_watermarks(settings) == marks
    assert (await ends(settings))[settings.commands_topic] == marks
    assert not any(after[settings.commands_topic].values())
    assert difference(database, await snapshot(loaded.installation)) == []
    assert int(str(answer["skipped"])) >= 0
    assert await loaded.replay_to_kafka() == {
        "published": 0,
        "skipped": 0,
        "checkpoints": 0,
        "deletions": 0,
        "marks": 0,
    }

    await loaded.work()
    await assert_exactly_once(loaded.installation, lost=before[settings.commands_topic])


async def test_caches_are_filled_from_postgres_and_a_table_that_is_in_use_is_left_alone(loaded: Loaded) -> None:
    installation = loaded.installation
    prefix, folder = installation.settings.topic_prefix, installation.settings.data_dir
    states = await _states(installation, "public")
    wrong = next(iter(states))
    async with installation.redis() as redis:
        await redis.hset(f"{prefix}assessment:{wrong}", mapping={"v": "999", "d": b"{}"})
        await redis.set(f"{prefix}position:0", 1)

    answer = await loaded.replay_caches()

    async with open_redis(installation.settings) as redis:
        cache = SharedCache(redis, prefix)
        assert await cache.bulk_get(list(states)) == states
        assert await redis.get(f"{prefix}position:0") != b"1"
    paths = sorted(folder.glob("worker-*/partition-*"))
    assert (answer["redisEntries"], answer["tables"]) == (len(states), len(paths))
    (worker,) = {path.parent for path in paths[:1]}
    found: dict[str, AssessmentRecord] = {}
    for path in worker.glob("partition-*"):
        with closing(StateTable(path)) as table:
            found |= table.bulk_get(states.keys())
    assert found == states

    with closing(StateTable(paths[0])), pytest.raises(RecoveryError, match="stop the worker"):
        await loaded.replay_caches()


async def test_what_was_deleted_stays_deleted_and_is_there_in_the_past(loaded: Loaded, services: Settings) -> None:
    """One that was deleted comes again, before Kafka hears of the deletion; others are deleted by cleanup.

    Ids of commands that were refused are used again, once cleanup has forgotten it. Then Postgres is lost, then Kafka,
    then Postgres again.
    """
    installation, settings = loaded.installation, loaded.installation.settings
    worker = loaded.cluster.start()
    await settled(installation)
    states = await _states(installation, "public")
    moment = max(state.updated_at for state in states.values())
    again = next(key for key, state in states.items() if state.state == "completed")
    async with installation.database() as database, database.transaction():
        await delete_assessments(database, settings.commands_topic, [again])  # type: ignore[arg-type]
        accepted, refused = await _forget_refusals(database)
    async with open_sender(installation) as sender:
        await sender.send(
            create("once more", again, userid="ann"), create(accepted, "new"), command(refused, "start", "nobody")
        )
    await settled(installation)
    async with running_web(installation) as web:
        deleted = await web.ask("POST", "/maintenance/cleanup", {"retentionDays": 0}, role=Role.ADMIN)
        await eventually(lambda: _is_told(installation, web), "Kafka to be told of the deletions")
    await worker.stop()
    before = await snapshot(installation)
    await lose_database(installation, services)

    await loaded.replay()

    assert deleted.body.get("deleted", 0) > 10, deleted.body
    assert len(before["audit_deleted_rows"]) > 20
    assert await evidence_against(installation) == []
    assert _differences(before, await snapshot(installation)) == []
    await loaded.replay_beside("undeleted", Until(moment))
    assert await _states(installation, "undeleted") == states
    await lose_topics(settings)
    assert (await loaded.replay_to_kafka())["deletions"] == len(before["assessment_deletions"])
    await lose_database(installation, services)
    await loaded.replay()
    assert await evidence_against(installation) == []
    assert _differences(before, await snapshot(installation)) == []


async def test_commands_that_kafka_has_lost_are_told_with_what_to_do(loaded: Loaded, services: Settings) -> None:
    installation, settings = loaded.installation, loaded.installation.settings
    async with open_sender(installation) as sender:
        ((partition, offset),) = await sender.send(create("never applied", "never-applied"))
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(settings.commands_topic, partition): RecordsToDelete(offset + 1)})
    await admin.close()
    before = await snapshot(installation)
    await lose_database(installation, services)

    with pytest.raises(RecoveryError) as told_so:
        await loaded.replay()

    words = str(told_so.value)
    assert f"partition {partition}: the commands {offset} to {offset} are gone from Kafka" in words
    assert f"SET next_offset = {offset + 1}" in words
    found = await snapshot(installation)
    assert difference(before, found) == []


async def test_a_database_that_the_log_does_not_explain_is_left_alone(loaded: Loaded, services: Settings) -> None:
    installation = loaded.installation
    await lose_database(installation, services)
    await migrate(installation.settings.database_url)
    async with installation.database() as database:
        await database.execute(
            "INSERT INTO assessment_states (assessment_id, state, request_data) VALUES ('x', 'failed', '{}')"
        )

    with pytest.raises(RecoveryError, match="the log does not explain them"):
        await loaded.replay()

    async with installation.database() as database:
        assert await database.fetchval("SELECT count(*) FROM assessment_states") == 1


async def _heard(messages: PubSub) -> AsyncIterator[object]:
    """What was published, but for the confirmation of the subscription."""
    while message := await messages.get_message(timeout=1):
        if message["type"] != "psubscribe":
            yield message


async def _is_told(installation: Installation, web: Web) -> bool:
    """Whether Kafka knows of every deletion; what a cleanup has no time to tell, the next one does."""
    async with installation.database() as database:
        if not await database.fetchval("SELECT count(*) FROM assessment_deletions WHERE NOT told"):
            return True
    await web.ask("POST", "/maintenance/cleanup", {"retentionDays": 0}, role=Role.ADMIN)
    return False


async def _says(worker: Worker, words: str) -> bool:
    return words in worker.log.read_text()


async def _without_members(settings: Settings) -> bool:
    """Whether a worker that was killed is out of the group."""
    try:
        await refuse_beside_workers(settings)
    except RecoveryError:
        return False
    return True


async def _forget_refusals(database: asyncpg.Connection) -> tuple[str, str]:
    """Forget two refusals, as cleanup does in time, and return the ids of their commands."""
    rows = await database.fetch(
        "DELETE FROM command_rejections WHERE id IN (SELECT id FROM command_rejections ORDER BY id LIMIT 2)"
        " RETURNING command_id"
    )
    one, other = (row["command_id"] for row in rows)
    return one, other


def _differences(before: Snapshot, after: Snapshot) -> list[str]:
    """All but words that no document has, when the last of the deleted was created, and letters that were seen to."""
    before, after = dict(before), dict(after)
    for shot in (before, after):
        del shot["search_vocabulary"]
        shot["dead_letters"] = [row for row in shot["dead_letters"] if "olga" not in row]
        for name in ("server_totals", "server_day_totals", "server_facet_totals"):
            shot[name] = [row[:-1] for row in shot[name]]
    return difference(before, after)


async def _leave_watermark(settings: Settings, partition: int, position: int) -> None:
    """A watermark of topics that are no more, as a Kafka that lost some of its disks may have it."""
    publisher = Publisher(settings, new_name(settings), CrashPoints(""))
    await publisher.start()
    await publisher.publish(partition, Outbox(), position)
    await publisher.stop()


async def _taken_for_published(installation: Installation) -> dict[int, int]:
    """How far Postgres says that events are published."""
    async with installation.database() as database:
        rows = await database.fetch("SELECT partition, emitted_offset, next_offset FROM command_offsets")
    assert any(row["emitted_offset"] < row["next_offset"] for row in rows)
    return {row["partition"]: row["emitted_offset"] for row in rows}


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
