"""The running API and its topics, held against the documents that it serves."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import orjson
import pytest
from tests.harness.calls import LIVES, REQUEST, WEBHOOKS, Call, call
from tests.harness.documented import AsyncApi, OpenApi, Told
from tests.harness.load import open_sender
from tests.harness.shared import Running, running
from tests.harness.waiting import eventually
from tests.harness.web import Web

from assessmentstore.agents.bridge import open_bridge
from assessmentstore.chaos.messages import Message, command, create, invalid, junk
from assessmentstore.chaos.topics import TopicRecord, read_topic
from assessmentstore.kafka import idempotent_producer
from assessmentstore.legacy.events import EVENT_NAMES
from assessmentstore.models.webhooks import WebhookRequest, new_secret
from assessmentstore.settings import Settings
from assessmentstore.store.postgres import open_pools
from assessmentstore.store.webhooks import WebhookStore
from assessmentstore.web.auth import Role
from assessmentstore.web.route import Route
from assessmentstore.web.routes import ROUTES

_ROOT = Path(__file__).parents[2]
_CONFIGURATION = _ROOT / "tests/harness/schemathesis.toml"
RENDERINGS = ("application/json", "application/problem+json")
BY_NAME = {route.name: route for route in ROUTES}
COMMANDS = [route for route in ROUTES if "If-Match" in route.headers]
KEYED = [route for route in ROUTES if "Idempotency-Key" in route.headers]

_CHANGES: dict[str, Any] = {"complete": {"result": {"overallScore": 97}}, "fail": {"error": "no route to host"}}


_Life = tuple[tuple[str, dict[str, Any]], ...]
_COMPLETED: _Life = (("start", {}), ("progress", {"progress": 50}), ("complete", {"result": {"overallScore": 9.5}}))
_IMPORTED: dict[str, Any] = {
    "request": {"assessmentType": "health", "options": {}, "userId": "ann"},
    "state": "failed",
    "error": "no route to host",
    "createdAt": "2024-03-01T08:00:00Z",
    "updatedAt": "2024-03-01T08:30:00Z",
    "completedAt": "2024-03-01T08:30:00Z",
    "history": [{"action": "assessment_failed", "newState": "failed", "createdAt": "2024-03-01T08:30:00Z"}],
}
_CANCELLED: _Life = (("start", {}), ("fail", {"error": "x"}), ("retry", {}), ("cancel", {"reason": "y"}))


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(services, template_database, tmp_path_factory.mktemp("contracts")) as made:
        yield made


@pytest.fixture(scope="module")
def web(shared: Running) -> Web:
    """The API, with an assessment in each state."""
    asyncio.run(_live(shared.web))
    asyncio.run(_register(shared.installation.settings))
    return shared.web


async def _live(web: Web) -> None:
    for assessment_id, commands in LIVES.items():
        await web.ask("POST", "/assessments", REQUEST | {"assessmentId": assessment_id})
        for name in commands:
            answer = await web.ask("POST", f"/assessments/{assessment_id}/{name}", _CHANGES.get(name))
            assert answer.status == 200, answer


async def _register(settings: Settings) -> None:
    """Webhooks with known ids."""
    request = WebhookRequest(url="https://example.com/hook")
    async with open_pools(settings, application="test") as pools:
        for number in WEBHOOKS.values():
            await WebhookStore(pools.write).put(UUID(number), "alice", request, new_secret(), sees_everything=False)


class Caller:
    """Sends requests, and holds each answer against the document."""

    def __init__(self, web: Web, session: aiohttp.ClientSession, document: OpenApi) -> None:
        self._base = f"http://127.0.0.1:{web.port}"
        self._session = session
        self._document = document
        self.seen: set[tuple[str, int, str]] = set()
        """Route, status, and the code where it is an error."""

    async def ask(self, route: Route, sent: Call | None = None, **headers: str) -> Told:
        """Send one request."""
        told = await (sent or call(route)).with_headers(**headers).ask(self._session, self._base)
        self._document.check(route, told)
        self.seen.add((route.name, told.status, _code(told)))
        return told

    async def refused(self, route: Route, sent: Call, **headers: str) -> None:
        """Send one request in both renderings, as one that is refused."""
        for rendering in RENDERINGS:
            told = await self.ask(route, sent, Accept=rendering, **headers)
            assert (told.content_type, told.status >= 400) == (rendering, True), (route.name, told)


def _code(told: Told) -> str:
    if told.status < 400:
        return ""
    return str(told.body["code"] if "problem" in told.content_type else told.body["error"]["code"])


async def test_every_documented_answer_that_takes_an_assessment_is_given(web: Web) -> None:
    document = OpenApi((await web.ask("GET", "/openapi.json")).body)
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {web.token(role=Role.ADMIN)}"}) as session:
        caller = Caller(web, session, document)
        await _successes(caller)
        await _refusals(caller)

    codes = {"ASSESSMENT_NOT_FOUND", "ASSESSMENT_TIMEOUT", "INVALID_STATE_TRANSITION", "ASSESSMENT_ALREADY_EXISTS",
             "OPTIMISTIC_LOCK_FAILED", "IDEMPOTENCY_MISMATCH", "WEBHOOK_NOT_FOUND"}  # fmt: skip
    promised = {(route.name, int(status), "") for route in ROUTES for status in route.replies if status < 400}
    promised |= {
        (route.name, status, code)
        for route in ROUTES
        for status, told in route.failures.items()
        for code in codes & set(told)
    }
    assert caller.seen == promised


async def _successes(caller: Caller) -> None:
    ids = {"startAssessment": "a-pending", "waitForAssessment": "a-completed", "retryAssessment": "a-failed"}
    for route in ROUTES:
        if route not in COMMANDS:
            await caller.ask(route, call(route, ids.get(route.name, "a-pending")))
        if "If-None-Match" in route.headers:
            tag = (await caller.ask(route)).headers["ETag"]
            assert (await caller.ask(route, If_None_Match=tag)).status == 304
    figures = await caller.ask(BY_NAME["getMetrics"], Accept="application/json")
    assert figures.content_type == "application/json"
    stream = BY_NAME["streamAssessmentEvents"]
    assert (await caller.ask(stream, call(stream, "a-completed"), Last_Event_ID="3")).status == 204
    for route in COMMANDS:
        await caller.ask(route, call(route, await _fresh(caller, route)), Idempotency_Key=f"first {route.name}")
        again = await caller.ask(route, call(route, await _fresh(caller, route)), Prefer="respond-async")
        assert again.status == 202
    await caller.ask(BY_NAME["createAssessment"], Prefer="respond-async")


async def _fresh(caller: Caller, route: Route) -> str:
    """A new assessment that the command of a route fits."""
    created = await caller.ask(BY_NAME["createAssessment"])
    assessment_id = str(created.body["assessmentId"])
    before = {"progress": ["start"], "complete": ["start"], "fail": ["start"], "retry": ["start", "fail"]}
    for name in before.get(route.path.rpartition("/")[2], []):
        told = await caller.ask(BY_NAME[f"{name}Assessment"], call(BY_NAME[f"{name}Assessment"], assessment_id))
        assert told.status == 200
    return assessment_id


async def _refusals(caller: Caller) -> None:
    for route in ROUTES:
        if route.has_id:
            await caller.refused(route, call(route, "none"))
        if "{webhook}" in route.path:
            path = route.path.replace("{webhook}", str(uuid4()))
            await caller.refused(route, replace(call(route), path=path))
    for route in COMMANDS:
        assessment_id = await _fresh(caller, route)
        await caller.refused(route, call(route, "a-completed"))
        stale = call(route, assessment_id).with_headers(Idempotency_Key=f"stale {route.name}")
        await caller.refused(route, stale.with_headers(If_Match='"99"'))
        # The same command again is the same refusal, now without a condition of the request.
        await caller.refused(route, stale)
    for route in KEYED:
        key = f"used {route.name}"
        other = call(route, "a-completed")
        if route in COMMANDS:
            await caller.ask(BY_NAME["createAssessment"], Idempotency_Key=key)
        else:
            await caller.ask(route, Idempotency_Key=key)
            if route.body:
                other = replace(other, data=_another(route))
            else:
                other = replace(other, path=other.path.replace(WEBHOOKS[""], WEBHOOKS["another"]))
        await caller.refused(route, other, Idempotency_Key=key)
    await caller.refused(BY_NAME["waitForAssessment"], call(BY_NAME["waitForAssessment"], "a-pending"))
    taken = replace(call(BY_NAME["createAssessment"]), data=orjson.dumps(REQUEST | {"assessmentId": "a-pending"}))
    await caller.refused(BY_NAME["createAssessment"], taken)


def _another(route: Route) -> bytes:
    """A body that is valid, and not that of `call`."""
    bodies = {
        "createAssessment": REQUEST | {"priority": 9},
        "createAssessments": [REQUEST | {"priority": 9}],
        "progressAssessments": [{"assessmentId": "none", "progress": 2}],
        "retryAssessments": {"maxRetries": 1},
        "cleanUp": {"retentionDays": 20_000},
        "registerWebhook": {"url": "https://example.com/another"},
    }
    return orjson.dumps(bodies[route.name])


async def test_every_record_on_the_topics_is_as_the_document_says(shared: Running, web: Web) -> None:
    settings, document = shared.installation.settings, AsyncApi((await web.ask("GET", "/asyncapi.json")).body)
    lives = [
        *_life("k-1", _COMPLETED),
        *_life("k-2", _CANCELLED),
        *_life("k-3", _COMPLETED, binary=True),
        *_life("k-4", _CANCELLED, binary=True),
        command("k-5 import", "import", "k-5", _IMPORTED),
        command("k-6 import", "import", "k-6", _IMPORTED, binary=True),
    ]
    refused = [
        command("stale", "start", "k-1", expectedversion=2, userid="ann"),
        command("unknown", "retry", "k-8", binary=True),
        *invalid("invalid", "k-9", large=False),
    ]
    dead = junk("junk", "k-9", large=False)
    async with open_sender(shared.installation) as sender:
        await sender.send(*lives, *refused, *dead)
    await _until(settings, settings.events_topic, len(lives))
    await _until(settings, settings.rejections_topic, len(refused))
    await _until(settings, settings.dead_letters_topic, len(dead))

    await _bridge(shared, len(lives) - 2)
    kinds = set()
    for channel, topic in (
        ("events", settings.events_topic),
        ("rejections", settings.rejections_topic),
        ("deadLetters", settings.dead_letters_topic),
        ("legacyEvents", settings.legacy_events_topic),
        ("legacyNotifications", settings.legacy_notifications_topic),
    ):
        for record in await _records(settings, topic):
            kinds.add(document.check(channel, record))
    valid = {(message.key, message.value) for message in [*lives, *refused[:2]]}
    for record in await _records(settings, settings.commands_topic):
        if (record.key, record.value) in valid or (
            record.header("ce_type") is None and b"/http" in (record.value or b"")
        ):
            kinds.add(document.check("commands", record))

    assert kinds == set(document.document["components"]["messages"])


def _life(assessment_id: str, commands: _Life, *, binary: bool = False) -> Iterator[Message]:
    yield create(f"{assessment_id} create", assessment_id, binary=binary, userid="ann")
    for name, data in commands:
        yield command(f"{assessment_id} {name}", name, assessment_id, data, binary=binary, userid="ann")


async def _bridge(shared: Running, changes: int) -> None:
    """Run the bridge until it has told of so many changes, and has taken in an event under each name of the name."""
    settings = shared.installation.settings
    async with open_bridge(settings), idempotent_producer(settings) as producer:
        for number, name in enumerate(EVENT_NAMES):
            event = {name: "assessmentUpdated", "assessment_id": "k-old", "time": number, "payload": {"progress": 1}}
            await producer.send_and_wait(settings.legacy_events_topic, orjson.dumps(event))
        await _until(settings, settings.legacy_notifications_topic, changes)


async def _until(settings: Settings, topic: str, count: int) -> None:
    """Wait until a topic has what comes of the records with keys of this test, or has no such key at all."""

    async def probe() -> bool:
        found = await _records(settings, topic)
        return sum(record.header("x-kind") is not None or _is_ours(record) for record in found) >= count

    await eventually(probe, f"{count} records on {topic}")


def _is_ours(record: TopicRecord) -> bool:
    return (record.key or b"").startswith(b"k")


async def _records(settings: Settings, topic: str) -> list[TopicRecord]:
    partitions = 1 if topic == settings.dead_letters_topic else settings.topic_partitions
    found = await read_topic(settings, topic, partitions)
    return [record for records in found.values() for record in records]


async def _schemathesis(web: Web, folder: Path, *arguments: str) -> None:
    sent = await web.ask("POST", "/assessments", REQUEST)
    known = {"KNOWN_IDS": ",".join(LIVES), "KNOWN_TOKEN": sent.headers["Consistency-Token"]}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIGURATION), "--no-color"),
        *("run", f"http://127.0.0.1:{web.port}/openapi.json"),
        *("--header", f"Authorization: Bearer {web.token('alice', Role.ADMIN)}"),
        *arguments,
        cwd=folder,  # it keeps notes wherever it runs
        env=os.environ | known | {"PYTHONPATH": str(_ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_both_ports_tell_how_many_commands_wait(shared: Running, web: Web) -> None:
    (worker,) = shared.cluster.workers

    async def lag(port: int) -> tuple[int | None, int | None]:
        """Nothing, where Postgres was too slow for this time."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health") as answer:
            queue = (await answer.json())["services"]["queue"]
        return queue.get("lag"), queue.get("maxPartitionLag")

    async def until(port: int, total: int) -> int | None:
        """Wait until so many commands wait, and tell how many do on one partition."""

        async def probe() -> tuple[int | None, ...]:
            found = await lag(port)
            return found if found[0] == total else ()

        return (await eventually(probe, f"{total} commands that wait"))[1]

    assert (await until(web.port, 0), await until(worker.port, 0)) == (0, 0)
    async with worker.frozen():
        async with open_sender(shared.installation) as sender:
            await sender.send(*(create(f"waiting {n}", key) for n, key in enumerate(["w-1", "w-1", "w-1", "w-2"])))
        most = await until(web.port, 4)
    await until(worker.port, 0)

    assert most in (3, 4), "four if both ids have one partition"


async def test_words_of_the_api_are_no_ids_over_http_and_on_kafka(shared: Running, web: Web) -> None:
    alone = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "search"})
    batch = await web.ask("POST", "/assessments/batch", [REQUEST | {"assessmentId": "stats"}])
    async with open_sender(shared.installation) as sender:
        await sender.send(create("reserved", "batch"))

    async def probe() -> str | None:
        async with shared.installation.database() as database:
            found: str | None = await database.fetchval(
                "SELECT code FROM command_rejections WHERE command_id = 'reserved'"
            )
            return found

    assert (alone.status, alone.body["error"]["details"]["errors"][0]["pointer"]) == (400, "/assessmentId")
    assert batch.body["errors"][0]["code"] == "VALIDATION_ERROR"
    assert await eventually(probe, "the refusal of a create") == "VALIDATION_ERROR"


async def test_schemathesis_finds_nothing(web: Web, tmp_path: Path) -> None:
    await _schemathesis(web, tmp_path, "--max-examples", "5")


@pytest.mark.soak
@pytest.mark.timeout(7200)
async def test_schemathesis_finds_nothing_in_many_examples(web: Web, tmp_path: Path) -> None:
    await _schemathesis(web, tmp_path, "--max-examples", "500", "--seed", str(os.getpid()))
