"""A canary in every member of requests and results is told to whoever may see it, and rests nowhere."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import SecretStr
from tests.harness.documented import AsyncApi
from tests.harness.installation import Installation
from tests.harness.load import open_sender
from tests.harness.resting import everything
from tests.harness.shared import Running, running
from tests.harness.streams import Streams, serving_streams
from tests.harness.waiting import eventually
from tests.harness.web import Web
from tests.harness.worker import Cluster

from assessmentstore.agents.bridge import open_bridge
from assessmentstore.chaos.messages import command, request
from assessmentstore.chaos.topics import TopicRecord, read_topic
from assessmentstore.client.kafka import KafkaSubscriber
from assessmentstore.models.sealed import MEMBER, UNREADABLE
from assessmentstore.settings import Settings
from assessmentstore.store.encryption import KeyRing, generate
from assessmentstore.web.auth import Role

CANARY = f"canary{uuid.uuid4().hex[:12]}"
K1, K2 = generate("k1"), generate("k2")

REQUEST: dict[str, Any] = {
    "assessmentType": "security",
    "source": "installer",
    "priority": 8,
    "timeout": 120,
    "serverName": f"{CANARY}.example",
    "options": {"serverFilter": [CANARY], "customOptions": {CANARY: [CANARY]}, "own": CANARY, "timeout": 4000},
    "metadata": {CANARY: {"deep": [CANARY, 1.5]}},
    CANARY: {"own": CANARY},
}
RESULT: dict[str, Any] = {
    "overallScore": 61.5,
    "missingServers": [CANARY],
    "configurationIssues": [{"id": CANARY, "severity": "high", "description": CANARY, "details": {CANARY: CANARY}}],
    "serverStatuses": [{"name": CANARY, "status": "online", "env": {CANARY: CANARY}, "error": CANARY}],
    "report": {"format": "html", "content": f"<p>{CANARY}</p>", "downloadUrl": f"https://{CANARY}/"},
    "metadata": {CANARY: CANARY},
    CANARY: CANARY,
}
PLANTED = REQUEST | {"assessmentId": "?"}


@dataclass
class Heard:
    """What went over the channels of Redis meanwhile."""

    messages: list[bytes] = field(default_factory=list)


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("encryption")
    with running(services, template_database, folder, encryption_keys=SecretStr(K1)) as made:
        yield made


def with_keys(installation: Installation, keys: str) -> Installation:
    """The same, for processes that have other keys."""
    return replace(installation, settings=installation.settings.model_copy(update={"encryption_keys": SecretStr(keys)}))


def run(installation: Installation, *arguments: str) -> str:
    """Run a command of the command line."""
    done = subprocess.run(
        [sys.executable, "-m", "assessmentstore", *arguments], env=installation.environment(), capture_output=True,
        cwd=installation.settings.data_dir, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def counted(installation: Installation) -> dict[str | None, tuple[int, int, int]]:
    """What `encryption status` tells: states, events and secrets of webhooks by key."""
    rows = [json.loads(line) for line in run(installation, "encryption", "status").splitlines()]
    counts = {row["keyId"]: (row["states"], row["events"], row["webhooks"]) for row in rows}
    return {key: found for key, found in counts.items() if any(found)}


async def live(web: Web, key: str) -> None:
    """A whole life over HTTP, with the canary at both ends."""
    created = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": key}, Idempotency_Key=f"create {key}")
    assert (created.status, created.body["estimatedTime"]) == (201, 4000), created.body
    await web.ask("POST", f"/assessments/{key}/start", {})
    ended = await web.ask("POST", f"/assessments/{key}/complete", {"result": RESULT})
    assert ended.status == 200, ended.body
    assert seen(ended.body) == (told(key), RESULT)


def told(key: str) -> dict[str, Any]:
    return REQUEST | {"assessmentId": key, "userId": "alice"}


def seen(record: dict[str, Any]) -> tuple[Any, Any]:
    """Request and result, as an answer has them."""
    asked = {name: value for name, value in record["requestData"].items() if name != "timestamp"}
    assert record["metadata"] == asked.get("metadata")
    return asked, record["resultData"]


async def test_the_canary_is_told_to_whoever_may_see_it_and_rests_nowhere(shared: Running) -> None:
    web, installation = shared.web, shared.installation
    heard = Heard()
    listening = asyncio.create_task(_listen(installation, heard))
    await live(web, "http")
    batch = await web.ask("POST", "/assessments/batch", [REQUEST | {"assessmentId": "bulk"}], Idempotency_Key="b")
    again = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "http"}, Idempotency_Key="create http")
    secrets = await _register(web)
    await _over_kafka(installation, "kafka")
    await _from_now(web, "kafka")

    assert batch.body == {"assessmentIds": ["bulk"], "errors": []}
    assert (again.status, again.body["version"]) == (201, 1)
    for key in ("http", "kafka"):
        await _is_told(web, shared, key)
    await _is_not_found(web)
    await _is_consumed(installation)
    # The second worker dies between commit and publish; the third publishes out of Postgres.
    await shared.cluster.workers[0].stop()
    victim = shared.cluster.start(crash_point="committed")
    await shared.cluster.until_owned_by(victim)
    accepted = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "late"}, Prefer="respond-async")
    assert accepted.status == 202
    await victim.ended()
    heir = shared.cluster.start()
    await _published(installation, "late")
    await heir.stop()
    listening.cancel()

    rests = await everything(installation) | {"channels": b"\n".join(heard.messages)}
    missing = [place for place in ("table assessment_states", "table assessment_audit_trail", "Redis", "channels",
               f"topic {installation.settings.events_topic}", f"topic {installation.settings.commands_topic}",
               "table assessment_search") if b"bulk" not in rests[place]]  # fmt: skip
    assert not missing, "what is clear is found there, or else nothing is proved"
    assert any(b"bulk" in content for place, content in rests.items() if place.startswith("RocksDB"))
    assert {place for place, content in rests.items() if CANARY.encode() in content.lower()} == set()
    assert {place for place, content in rests.items() if any(secret in content for secret in secrets)} == set()
    shared.cluster.start()


async def test_sealed_records_fit_the_asyncapi_document(shared: Running) -> None:
    web, settings, keys = shared.web, shared.installation.settings, KeyRing.of(shared.installation.settings)
    await shared.cluster.until_owned_by(shared.cluster.workers[-1])
    document = AsyncApi((await web.ask("GET", "/asyncapi.json")).body)
    record = {"state": "completed", "request": REQUEST, "result": RESULT, "createdAt": "2024-03-02T01:00:00Z",
              "updatedAt": "2024-03-02T02:00:00Z", "completedAt": "2024-03-02T02:00:00Z"}  # fmt: skip
    async with open_sender(shared.installation) as sender:
        for binary in (False, True):
            key = f"doc-{binary}"
            await sender.send(
                command(f"{key} create", "create", key, keys.seal(key, REQUEST), binary=binary),
                command(f"{key} start", "start", key, binary=binary),
                command(f"{key} end", "complete", key, keys.seal(key, {"result": RESULT}), binary=binary),
                command(f"{key} import", "import", f"{key}-i", keys.seal(f"{key}-i", record), binary=binary),
            )
    async with open_bridge(settings):
        for key in ("doc-False", "doc-True"):
            await _published(shared.installation, f"{key}-i")
            await _published(shared.installation, key, topic=settings.legacy_notifications_topic, count=3)

    found: dict[str, list[TopicRecord]] = {}
    for channel, topic in (
        ("commands", settings.commands_topic),
        ("events", settings.events_topic),
        ("rejections", settings.rejections_topic),
        ("legacyNotifications", settings.legacy_notifications_topic),
    ):
        for records in (await read_topic(settings, topic, settings.topic_partitions)).values():
            for item in records:
                found.setdefault(document.check(channel, item), []).append(item)
    sealed = {name for name, items in found.items() if any(MEMBER.encode() in (item.value or b"") for item in items)}
    assert sealed >= {
        *(
            f"assessment.{name}.{mode}"
            for name in ("create", "complete", "import")
            for mode in ("structured", "binary")
        ),
        *(f"assessment.{name}" for name in ("created", "completed", "imported")),
        *(f"legacy.assessment.{name}" for name in ("created", "completed")),
    }


async def _register(web: Web) -> list[bytes]:
    """Register a webhook, and take another secret; both are told again to whoever repeats that."""
    request = {"url": "https://example.com/", "assessmentId": "of nobody"}
    made, again = [(await web.ask("POST", "/webhooks", request, Idempotency_Key="hook")).body for _ in range(2)]
    path = f"/webhooks/{made['id']}/rotate"
    rotated, once = [(await web.ask("POST", path, Idempotency_Key="rotate")).body for _ in range(2)]

    assert (made["secret"], rotated["secret"]) == (again["secret"], once["secret"])
    assert made["secret"] != rotated["secret"]
    return [told["secret"].removeprefix("whsec_").encode() for told in (made, rotated)]


async def _listen(installation: Installation, heard: Heard) -> None:
    async with installation.redis() as redis, redis.pubsub() as channels:
        await channels.psubscribe(f"{installation.settings.topic_prefix}*")
        while True:
            message = await channels.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                heard.messages.append(message["data"])


async def _over_kafka(installation: Installation, key: str) -> None:
    """A producer elsewhere that has the keys."""
    keys = KeyRing.of(installation.settings)
    async with open_sender(installation) as sender:
        await sender.send(
            command(f"{key} 1", "create", key, keys.seal(key, REQUEST), userid="alice"),
            command(f"{key} 2", "start", key, userid="alice"),
            command(f"{key} 3", "complete", key, keys.seal(key, {"result": RESULT}), binary=True, userid="alice"),
        )


async def _from_now(web: Web, key: str) -> None:
    async def probe() -> bool:
        return bool((await web.ask("GET", f"/assessments/{key}/status")).body.get("status") == "completed")

    await eventually(probe, f"the end of {key}")


async def _is_told(web: Web, shared: Running, key: str) -> None:
    """By everything that the API has."""
    expected = told(key)
    record = (await web.ask("GET", f"/assessments/{key}")).body
    listed = (await web.ask("GET", "/assessments?type=security&source=installer&minPriority=8")).body
    found = (await web.ask("GET", f"/assessments/search?q={key}")).body["assessments"]
    history = (await web.ask("GET", f"/assessments/{key}/history")).body["history"]
    first = (await web.ask("GET", f"/assessments/{key}?atVersion=1")).body
    diff = (await web.ask("GET", f"/assessments/{key}/diff?from=1&to=3")).body["changes"]
    waited = (await web.ask("GET", f"/assessments/{key}/wait")).body
    stream = (await web.ask("GET", f"/assessments/{key}/events")).body
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
    worker = Web.__new__(Web)
    worker.__dict__ |= web.__dict__ | {"port": shared.cluster.workers[-1].port}
    by_worker = (await worker.ask("GET", f"/assessments/{key}")).body

    assert seen(record) == (expected, RESULT)
    assert next(item for item in listed["assessments"] if item["assessmentId"] == key) == record == by_worker
    assert {name: value for name, value in found[0].items() if name != "highlights"} == record
    assert history[0]["details"]["request"] == record["requestData"] == first["requestData"]
    assert history[2]["details"]["result"] == waited["result"] == RESULT
    assert any(change["to"] == RESULT for change in diff if change["field"] == "/resultData")
    assert [event["type"] for event in events] == [f"assessment.{it}" for it in ("created", "started", "completed")]
    assert (events[0]["request"], events[2]["result"]) == (record["requestData"], RESULT)


async def _is_not_found(web: Web) -> None:
    """What cannot be looked for while it is encrypted is refused, or found nowhere."""
    search = await web.ask("GET", f"/assessments/search?q={CANARY}")
    assert (search.body["total"], search.body["assessments"]) == (0, [])
    for path in ("/assessments", "/assessments/stats"):
        filtered = await web.ask("GET", f"{path}?serverName={CANARY}*")
        assert (filtered.status, filtered.body["error"]["details"]["parameter"]) == (400, "serverName")
    stats = (await web.ask("GET", "/assessments/stats")).body
    assert stats["topServers"] == []
    assert (await web.ask("GET", "/assessments/http", user="mallory")).status == 403


async def _is_consumed(installation: Installation) -> None:
    """Consumers with the keys get events opened; those without get them as they are."""
    rings = (KeyRing.of(installation.settings), KeyRing({}), KeyRing.parse(generate("k1")))
    opened, sealed, failed = await asyncio.gather(*(_consumed(installation, ring) for ring in rings))

    assert [item["serverName"] for item in opened] == [REQUEST["serverName"]] * 3
    assert all(MEMBER in item and item["options"] == {} for item in sealed)
    assert all("is another key" in item for item in failed)


async def _consumed(installation: Installation, keys: KeyRing) -> list[Any]:
    """What a consumer makes of the three requests."""
    settings, got = installation.settings, list[Any]()

    async def take(event: Any) -> None:
        got.append(event.request)

    async def fail(error: Any) -> None:
        got.append(str(error))

    async def probe() -> bool:
        return len(got) == 3

    group = uuid.uuid4().hex
    async with KafkaSubscriber(
        settings.kafka_bootstrap, group, topic_prefix=settings.topic_prefix, keys=keys
    ) as consumer:
        await consumer.subscribe(["assessment.created"], take, fail)
        await eventually(probe, "three events")
    return got


async def _published(installation: Installation, key: str, *, topic: str = "", count: int = 1) -> None:
    settings = installation.settings

    async def probe() -> bool:
        found = await read_topic(settings, topic or settings.events_topic, settings.topic_partitions)
        return sum(record.key == key.encode() for records in found.values() for record in records) >= count

    await eventually(probe, f"{count} events of {key}")


async def test_a_rotation_goes_on_beside_the_load_and_the_audit_trail_stays_as_it_was(shared: Running) -> None:
    old = shared.installation
    both, new = with_keys(old, f"{K2},{K1}"), with_keys(old, K2)
    await shared.cluster.until_owned_by(shared.cluster.workers[-1])
    many = [REQUEST | {"assessmentId": f"r{number}"} for number in range(400)]
    assert len((await shared.web.ask("POST", "/assessments/batch", many)).body["assessmentIds"]) == 400
    before = json.loads(run(old, "audit", "export", "http"))
    updated = await _updated(old)
    await shared.cluster.workers[-1].stop()
    cluster, web = Cluster(both), Web(both)
    try:
        cluster.start()
        await web.until_ready()
        await cluster.until_owned_by(*cluster.workers)
        stop = asyncio.Event()
        load = asyncio.create_task(_load(web, stop))
        rotated = json.loads(await asyncio.to_thread(run, both, "encryption", "rotate"))
        stop.set()
        made = await load
        repeated = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "http"},
                                 Idempotency_Key="create http")  # fmt: skip
        mismatch = await web.ask("POST", "/assessments", PLANTED, Idempotency_Key="create http")
        late = await web.ask("GET", "/assessments/late")

        assert rotated.pop("resealed") >= 2 * 404
        assert rotated == {"keyId": "k2", "unreadable": 0, "passedOver": 0}
        assert made > 0, "there was load beside the rotation"
        counts = counted(both)
        assert (list(counts), counts["k2"][2]) == (["k2"], 2), "of the webhook the secret, and the one before"
        assert (repeated.status, repeated.body["version"]) == (201, 1)
        assert (mismatch.status, mismatch.body["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")
        assert seen(late.body) == (told("late"), None)
        loaded = {f"r{number}" for number in range(made)}
        after_all = await _updated(old)
        assert {key: after_all[key] for key in updated if key not in loaded} == {
            key: at for key, at in updated.items() if key not in loaded
        }
        assert "as it was written" in run(both, "audit", "check")
        # Redis, tables and topics have cipher texts under the old key yet: what is meant is the same.
        verified = json.loads(run(both, "verify").splitlines()[-1])
        assert (verified["differences"], verified["notComparable"]) == (0, 0)
        after = json.loads(run(new, "audit", "export", "http"))
        assert [row["entry"] for row in after["rows"]] == [row["entry"] for row in before["rows"]]
        assert CANARY not in json.dumps(after)
        await _is_read_with_the_new_key_alone(new)
        await _is_not_read_with_a_wrong_key(with_keys(old, generate("k2")), web)
    finally:
        web.destroy()
        cluster.destroy()


async def _updated(installation: Installation) -> dict[str, Any]:
    async with installation.database() as database:
        rows = await database.fetch("SELECT assessment_id, updated_at FROM assessment_states")
    return {row["assessment_id"]: row["updated_at"] for row in rows}


async def _load(web: Web, stop: asyncio.Event) -> int:
    """Whole lives, one after the other."""
    made = 0
    while not stop.is_set():
        await live(web, f"load{made}")
        started = await web.ask("POST", f"/assessments/r{made}/start", {})
        moved = await web.ask("POST", f"/assessments/r{made}/progress", {"progress": 3})
        assert made >= 60 or (started.status, moved.status) == (200, 200), (started, moved)
        made += 1
    return made


async def _ask(streams: Streams, session: Any, path: str) -> Any:
    headers = {"Authorization": f"Bearer {streams.token('alice', Role.USER)}"}
    async with session.get(streams.url + path, headers=headers) as answer:
        return answer.status, await answer.json()


async def _is_read_with_the_new_key_alone(new: Installation) -> None:
    """Whatever Redis has from before."""
    async with serving_streams(new.settings) as streams:
        for key in ("http", "late", "r0", "r59"):
            status, record = await _ask(streams, streams._session, f"/assessments/{key}")
            assert (status, seen(record)[0]) == (200, told(key))


async def _is_not_read_with_a_wrong_key(wrong: Installation, web: Web) -> None:
    """Each value says so, and everything else is as ever; nothing that is done then harms it."""
    async with serving_streams(wrong.settings) as streams:
        status, record = await _ask(streams, streams._session, "/assessments/http")
        listed = await _ask(streams, streams._session, "/assessments?limit=1000")
        history = await _ask(streams, streams._session, "/assessments/http/history")
    truth = (await web.ask("GET", "/assessments/http")).body
    assert (status, listed[0], history[0]) == (200, 200, 200)
    assert record["requestData"][UNREADABLE]["keyId"] == "k2"
    assert "is another key" in record["requestData"][UNREADABLE]["reason"]
    assert record["resultData"].keys() == {UNREADABLE}
    assert {name for name in record if record[name] != truth[name]} == {"requestData", "resultData", "metadata"}
    assert (record["requestData"]["priority"], record["requestData"]["userId"]) == (8, "alice")
    assert len(listed[1]["assessments"]) == listed[1]["total"] > 60
    assert history[1]["history"][2]["details"]["result"].keys() == {UNREADABLE}


async def test_a_worker_without_the_key_changes_no_payload(shared: Running) -> None:
    """Its commands go through, and what it cannot open waits in the dead letters for the key."""
    strange = with_keys(shared.installation, K1.replace("k1:", "k9:"))
    cluster = Cluster(strange)
    try:
        cluster.start()
        await cluster.until_owned_by(*cluster.workers)
        async with open_sender(strange) as sender:
            keys = KeyRing.parse(K2)
            await sender.send(command("w1", "start", "r58"), command("w2", "create", "w", keys.seal("w", request())))

        async def probe() -> Any:
            async with shared.installation.database() as database:
                letter = await database.fetchval("SELECT reason FROM dead_letters WHERE reason LIKE '%encrypted%'")
                state = await database.fetchval("SELECT state FROM assessment_states WHERE assessment_id = 'r58'")
            return letter if state == "processing" else None

        reason = await eventually(probe, "the start and the dead letter")
    finally:
        cluster.destroy()
    assert "its data cannot be opened: The payload is encrypted under the key 'k2', which is not configured" in reason
    async with serving_streams(with_keys(shared.installation, f"{K2},{K1}").settings) as streams:
        status, record = await _ask(streams, streams._session, "/assessments/r58")
    assert (status, record["state"], seen(record)[0]) == (200, "processing", told("r58"))
