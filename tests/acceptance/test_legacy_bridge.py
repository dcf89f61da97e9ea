"""The old system beside the store: each fault found and named, the roll-out there and back, and no id lost."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from itertools import count
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from tests.harness.bridge import figure, running_bridge, start_bridge
from tests.harness.judge import settled
from tests.harness.legacy import Emitter, running_emitter
from tests.harness.shared import Running, running
from tests.harness.waiting import eventually
from tests.harness.web import Web
from typer.testing import CliRunner

from assessmentstore.agents.bridge import open_bridge
from assessmentstore.cli import app
from assessmentstore.client import AsyncClient
from assessmentstore.legacy.controller import begin
from assessmentstore.legacy.export import Export
from assessmentstore.legacy.rollout import STEPS
from assessmentstore.legacy.routing import routes_to_store
from assessmentstore.legacy.verifying import Checked, roll_back_and_wait, verify
from assessmentstore.settings import Settings
from assessmentstore.store.divergences import Divergences
from assessmentstore.store.encryption import NO_KEYS
from assessmentstore.store.legacy_imports import LegacyImports
from assessmentstore.store.postgres import open_pools
from assessmentstore.store.rollout import Phase, RolloutStore
from assessmentstore.web.auth import Role

FAULTS = ("wrong-name", "doubled", "lost", "reordered", "stale-field")

REQUEST: dict[str, Any] = {"assessmentType": "health", "options": {}}

# A drill: seconds in place of the hours between steps.
SETTINGS = {
    "migration_check_interval": 0.5,
    "migration_first_hold": 0.0,
    "migration_hold": 0.0,
    "migration_settle": 2.0,
}

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="the old system runs on Node")

_numbers = count()


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(services, template_database, tmp_path_factory.mktemp("legacy"), **SETTINGS) as made:
        yield made


@pytest.fixture
async def bridge(shared: Running) -> AsyncIterator[Settings]:
    """The bridge, running in the test's own loop."""
    async with open_bridge(shared.installation.settings):
        yield shared.installation.settings


@pytest.fixture
async def emitter(shared: Running) -> AsyncIterator[Emitter]:
    async with running_emitter(f"http://127.0.0.1:{shared.web.port}", shared.web.token("old", Role.ADMIN)) as started:
        yield started


@pytest.fixture
async def rollout(shared: Running) -> AsyncIterator[RolloutStore]:
    settings = shared.installation.settings
    async with open_pools(settings, application="test") as pools:
        yield RolloutStore(pools.write, settings.commands_topic)


def new_id(prefix: str) -> str:
    return f"{prefix}-{next(_numbers)}"


async def rows(shared: Running, query: str, *arguments: Any) -> list[Any]:
    async with shared.installation.database() as database:
        return list(await database.fetch(query, *arguments))


async def send(web: Web, *events: Any) -> list[dict[str, Any]]:
    answer = await web.ask("POST", "/legacy/events", list(events), role=Role.ADMIN)
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.body["results"]
    return found


async def in_state(web: Web, key: str, state: str) -> None:
    async def probe() -> bool:
        answer = await web.ask("GET", f"/assessments/{key}", role=Role.ADMIN)
        return answer.status == 200 and answer.body["state"] == state

    await eventually(probe, f"{key} {state}")


def life(key: str) -> list[dict[str, Any]]:
    return [
        {"type": "assessment_created", "assessmentId": key, "eventId": f"{key}-1", "data": REQUEST},
        {"event": "assessment.stateChanged", "assessment_id": key, "eventId": f"{key}-2", "newState": "in_progress"},
        {"eventType": "AssessmentCompleted", "assessmentId": key, "eventId": f"{key}-3", "result": {"totalServers": 1}},
    ]


async def test_events_under_all_names_become_commands_once_and_are_not_told_back(shared: Running) -> None:
    web, key, own = shared.web, new_id("http"), new_id("own")
    before = (await web.ask("GET", "/legacy/events", role=Role.ADMIN)).body["next"]

    first = await send(web, *life(key), {"type": "assessment.exploded", "assessmentId": key})
    again = await send(web, *life(key))
    await in_state(web, key, "completed")
    await web.ask("POST", "/assessments", REQUEST | {"assessmentId": own})
    told = (await web.ask("GET", f"/legacy/events?after={before}", role=Role.ADMIN)).body

    assert [item["outcome"] for item in first] == ["sent"] * 3 + ["dead-letter"]
    assert "'assessment.exploded'" in first[3]["reason"]
    assert [item["commandId"] for item in again] == [item["commandId"] for item in first[:3]]
    history = (await web.ask("GET", f"/assessments/{key}/history", role=Role.ADMIN)).body["history"]
    assert [entry["action"] for entry in history] == ["created", "started", "completed"]
    mine = [item for item in told["events"] if item["assessmentId"] in (key, own)]
    assert [(item["type"], item["assessmentId"]) for item in mine] == [("assessment.created", own)]

    async def letters() -> Any:
        return await rows(shared, "SELECT reason FROM dead_letters WHERE key = $1", key.encode())

    (letter,) = await eventually(letters, "the dead letter")
    assert "legacy.assessment.exploded" in letter["reason"]


@needs_node
async def test_each_fault_of_the_old_system_is_found_and_named(
    shared: Running, bridge: Settings, emitter: Emitter
) -> None:
    """Half a minute is the promise; that it is kept on this machine is what the deadline checks."""
    faulty = {new_id(f"faulty-{fault}"): fault for fault in FAULTS}
    await shared.web.ask("PUT", "/migration", {"legacyMode": True}, role=Role.ADMIN)
    started = time.monotonic()
    await emitter.tell("fault", ids=faulty)
    # What is under way for longer than reports are left alone would pass for lost.
    await settled(shared.installation)
    await emitter.tell("report", ids=list(faulty))

    async def named() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for row in await rows(shared, "SELECT assessment_id, kind FROM legacy_divergences"):
            found.setdefault(row["assessment_id"], set()).add(row["kind"])
        return {key: found.get(key, set()) for key in faulty} if faulty.keys() <= found.keys() else {}

    found = await eventually(named, "an entry of each")
    print(f"all five named after {time.monotonic() - started:.1f} s")  # noqa: T201 - the figure of the drill
    assert found == {key: {fault} for key, fault in faulty.items()}
    # What commands can mend is mended, and stays in the ledger as resolved.
    for key in faulty:
        await in_state(shared.web, key, "completed")

    async def still_open() -> bool:
        left = await rows(
            shared,
            "SELECT DISTINCT kind FROM legacy_divergences WHERE resolved_at IS NULL AND assessment_id = ANY($1)",
            list(faulty),
        )
        return {row["kind"] for row in left} <= {"stale-field"}

    await eventually(still_open, "the others in line")


@needs_node
async def test_a_roll_out_there_and_back_with_traffic_on_both_sides_loses_no_id(
    shared: Running, bridge: Settings, emitter: Emitter, rollout: RolloutStore, tmp_path: Any
) -> None:
    await rows(shared, "UPDATE legacy_divergences SET resolved_at = NOW() WHERE resolved_at IS NULL")
    everything: list[str] = []
    seen: set[int] = set()
    sides: dict[str, int] = {"old": 0, "new": 0}
    await begin(rollout, "test")

    async def serve(client: AsyncClient, number: int) -> int:
        ids = [new_id("drill") for _ in range(number)]
        everything.extend(ids)
        answer = await emitter.tell("serve", ids=ids)
        share = answer["percentage"]
        assert answer["theirs"] == [key for key in ids if routes_to_store(key, share, legacy_mode=answer["legacyMode"])]
        for key in answer["theirs"]:
            await client.create(REQUEST | {"assessmentId": key}, respond_async=True)
        sides["old"] += len(answer["mine"])
        sides["new"] += len(answer["theirs"])
        return 0 if answer["legacyMode"] else int(share)

    async with AsyncClient(f"http://127.0.0.1:{shared.web.port}", shared.web.token("ann"), patience=60) as client:
        end = time.monotonic() + 120
        while (state := (await rollout.read()).state).phase != "steady" and time.monotonic() < end:
            # In a drill a web is silent after a second and a half: a machine that stands still takes it back, too.
            if state.phase == "rolled_back":
                await begin(rollout, "test")
            seen.add(await serve(client, 10))
        assert (state.phase, state.percentage) == ("steady", 100)
        await serve(client, 10)
        back = asyncio.create_task(roll_back_and_wait(rollout, "test", "drill", 60.0))
        await serve(client, 20)
        result = await back
        await serve(client, 10)

    assert result.success, result
    taken = [entry["percentage"] for entry in reversed(await rollout.history(50)) if entry["by"] == "controller"]
    assert taken[-len(STEPS) :] == [*STEPS[1:], 100]
    assert min(sides.values()) > 0, sides

    async def all_stored() -> bool:
        found = await rows(
            shared, "SELECT count(*) AS found FROM assessment_states WHERE assessment_id = ANY($1)", everything
        )
        return bool(found[0]["found"] == len(everything))

    await eventually(all_stored, "every id in the store")

    async def all_there() -> bool:
        return set(everything) <= set((await emitter.tell("listen"))["ids"])

    await eventually(all_there, "every id in the old system")
    records = [item for item in (await emitter.tell("export"))["records"] if item["assessmentId"] in set(everything)]
    file = tmp_path / "after.jsonl"
    file.write_text("".join(f"{json.dumps(item)}\n" for item in records))
    with closing(Export(file)) as export:
        checked = Checked(export, export.check())
        async with open_pools(bridge, application="test") as pools:
            imports, ledger = LegacyImports(pools.write, NO_KEYS), Divergences(pools.write, NO_KEYS)
            verified = await verify(rollout, imports, ledger, checked)
    assert verified.stats["compared"] == len(everything)
    assert not {"lost", "different", "wrong-state"} & verified.stats.keys(), verified


async def test_a_roll_out_takes_itself_back_when_too_much_fails(
    shared: Running, bridge: Settings, rollout: RolloutStore
) -> None:
    async def fail(key: str) -> None:
        await shared.web.ask("POST", f"/assessments/{key}/start")
        await shared.web.ask("POST", f"/assessments/{key}/fail", {"error": "no route"})

    async def is_back() -> bool:
        phase, last = (await rollout.read()).state.phase, (await rollout.history(1))[0]
        # The drill's steps take half a second each: it may be through before enough has failed. And a machine that
        # stands still is a reason to take it back, too, which is not the one that is meant.
        if phase == "steady" or (phase == "rolled_back" and "failureRate" not in str(last["reason"])):
            await begin(rollout, "test")
            phase = Phase.RAMPING
        keys = [new_id("failing") for _ in range(30)]
        await shared.web.ask("POST", "/assessments/batch", [REQUEST | {"assessmentId": key} for key in keys])
        await asyncio.gather(*map(fail, keys))
        return bool(phase == "rolled_back")

    await begin(rollout, "test")
    await eventually(is_back, "the rollback")
    state = (await rollout.read()).state
    assert (state.legacy_mode, state.percentage) == (True, 0)
    last = (await rollout.history(1))[0]
    assert (last["by"], last["action"]) == ("controller", "rollback")
    assert "failureRate" in last["reason"]
    assert last["signals"]["failureRate"] > 0.05


async def test_the_bridge_is_a_process_that_takes_events_tells_listeners_and_leaves_in_good_order(
    shared: Running,
) -> None:
    settings, key, other, own = shared.installation.settings, new_id("kafka"), new_id("http"), new_id("own")
    report = {"type": "assessment.updated", "assessmentId": key, "progress": 1}
    async with running_bridge(shared.installation) as bridge, open_topics(settings) as (producer, listener):
        before = figure(await bridge.metrics(), "events_total", outcome="reported")
        health, ready = await bridge.ask("/health"), await bridge.ask("/ready")

        for event in [*life(key), report]:
            await producer.send_and_wait(settings.legacy_events_topic, json.dumps(event).encode(), key.encode())
        await send(shared.web, *life(other))
        await in_state(shared.web, key, "completed")
        await in_state(shared.web, other, "completed")
        await shared.web.ask("POST", "/assessments", REQUEST | {"assessmentId": own})
        told = await eventually(partial(told_of, listener, own, silent_on={key, other}), "the notification")

        async def taken() -> bool:
            metrics = await bridge.metrics()
            return figure(metrics, "events_total", outcome="reported") > before and figure(metrics, "lag") == 0

        await eventually(taken, "all events in the figures")
        rival = await start_bridge(shared.installation, bridge.port)
        refused, code = await rival.ended(), await bridge.stop()

    assert told == "assessment.created"
    assert (health[0], json.loads(health[1])["overall"], ready[0]) == (200, "healthy", 200)
    assert set(json.loads(ready[1])["checks"]) == {"database", "queue"}
    log = bridge.log.read_text()
    assert (refused, code, "Traceback" in log) == (2, 0, False), log
    assert f"Error: ASSESSMENTSTORE_BRIDGE_PORT={bridge.port}: cannot listen on it" in log


@asynccontextmanager
async def open_topics(settings: Settings) -> AsyncIterator[tuple[AIOKafkaProducer, AIOKafkaConsumer]]:
    """Who speaks for the old system on Kafka, and who still listens to it."""
    listener = AIOKafkaConsumer(
        settings.legacy_notifications_topic, bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest"
    )
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap) as producer, listener:
        yield producer, listener


async def told_of(listener: AIOKafkaConsumer, key: str, *, silent_on: set[str]) -> str | None:
    """What listeners are told of an assessment; of others they are not to be told at all."""
    batches = await listener.getmany(timeout_ms=200)
    found = [json.loads(record.value) for batch in batches.values() for record in batch]
    assert silent_on.isdisjoint(item["assessmentId"] for item in found)
    return next((item["type"] for item in found if item["assessmentId"] == key), None)


async def test_the_client_steers_the_migration(shared: Running) -> None:
    url = f"http://127.0.0.1:{shared.web.port}"
    async with AsyncClient(url, shared.web.token("root", Role.ADMIN)) as client:
        await client.create({"assessmentType": "health", "options": {}})
        await client.enable_legacy_mode(True)
        in_legacy = await client.get_migration_status()
        done_in_legacy = await client.is_migration_complete()
        await client.enable_legacy_mode(False)
        status = await client.set_migration_percentage(25)
        served = await client.is_served_by_store("a-1")

    assert (in_legacy.legacy_mode, done_in_legacy) == (True, False)
    assert (status.legacy_mode, status.migration_percentage) == (False, 25)
    assert status.total_assessments >= status.assessments_migrated > 0
    assert served is routes_to_store("a-1", 25)
    refused = await shared.web.ask("PUT", "/migration", {"percentage": 50})
    wrong = await shared.web.ask("PUT", "/migration", {"percentage": 101}, role=Role.ADMIN)
    nothing = await shared.web.ask("PUT", "/migration", {"migrationPercentage": 50}, role=Role.ADMIN)
    assert (refused.status, wrong.status, nothing.status) == (403, 400, 400)
    assert "legacyMode, percentage or both" in nothing.body["error"]["message"]


async def test_the_commands_tell_and_steer(shared: Running, bridge: Settings) -> None:
    environment = shared.installation.environment()

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        result = CliRunner().invoke(app, ["legacy", *arguments, "--json"], env=environment)
        assert result.stdout, result.output
        return result.exit_code, json.loads(result.stdout)

    _, set_ = await asyncio.to_thread(call, "rollout", "--percentage", "25", "--by", "ann")
    _, told = await asyncio.to_thread(call, "status")
    code, back = await asyncio.to_thread(call, "rollback", "--because", "a drill", "--by", "ann")
    settled_code, settled = await asyncio.to_thread(call, "settle", "--all", "--because", "a drill", "--by", "ann")
    verified_code, verified = await asyncio.to_thread(call, "verify")

    assert (set_["migrationPercentage"], set_["phase"], told["complete"]) == (25, "steady", False)
    assert told["history"][0]["by"] == "ann"
    assert (code, back["success"], back["details"]["untold"]) == (0, True, 0)
    assert (settled_code, list(settled), verified_code) == (0, ["settled"], 0), verified
    assert verified["stats"]["stored"] == told["assessmentsMigrated"]
    assert (await shared.web.ask("GET", "/migration")).body["legacyMode"] is True
