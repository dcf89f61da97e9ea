"""The HTTP API on real Kafka, Postgres and Redis, with a worker of a few lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiohttp import ClientConnectionError, ClientResponse, ClientSession, TCPConnector, web
from aiohttp.test_utils import TestClient, TestServer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from prometheus_client import REGISTRY
from pydantic import SecretStr
from tests.harness.waiting import DEADLINE, eventually

from assessmentstore.agents.fold import decode, fold
from assessmentstore.models.envelope import MAX_COMMAND_BYTES, encode_command
from assessmentstore.settings import Settings, SettingsError
from assessmentstore.store.batch import BatchStore
from assessmentstore.store.cache import SharedCache, changes_message
from assessmentstore.store.postgres import Pools, open_pools
from assessmentstore.store.redis import open_redis
from assessmentstore.store.replies import reply_message
from assessmentstore.web import waiters
from assessmentstore.web.app import build_app, serve
from assessmentstore.web.auth import Role, mint_token
from assessmentstore.web.kafka_probe import KafkaProbe

Client = TestClient[web.Request, web.Application]

SECRET = "a-secret-that-is-long-enough-for-hs256"
REQUEST = {"assessmentType": "health", "options": {"timeout": 1234}}
NOWHERE = "127.0.0.1:1"


class Worker:
    """Applies commands as they come, one at a time, and refreshes Redis unless that is away."""

    def __init__(self, settings: Settings, pools: Pools, cache: SharedCache) -> None:
        self._topic = settings.commands_topic
        self._servers = settings.kafka_bootstrap
        self._partitions = range(settings.topic_partitions)
        self._store = BatchStore(pools.write)
        self._cache = cache

    async def run(self) -> None:
        claims = {
            number: await self._store.claim(self._topic, number, owner="test", epoch=None)
            for number in self._partitions
        }
        consumer = AIOKafkaConsumer(self._topic, bootstrap_servers=self._servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async for record in consumer:
                claim = claims[record.partition]
                if record.offset >= claim.next_offset:
                    await self._apply(record, claim)
                    claims[record.partition] = replace(claim, next_offset=record.offset + 1)
        finally:
            await consumer.stop()

    async def _apply(self, record: Any, claim: Any) -> None:
        decoded = decode(record)
        assert decoded.header is not None
        async with self._store.transaction({claim: record.offset + 1}) as transaction:
            known = await transaction.known([decoded.header.id])
            states = await transaction.load([decoded.header.assessment_id])
            folded = fold([decoded], states, known, transaction.now)
            await transaction.write({claim.partition: folded.changes})
        after = folded.changes.after
        messages = [reply_message(*reply) for reply in folded.replies]
        await self._cache.reflect(
            record.partition,
            start=claim.next_offset,
            end=record.offset + 1,
            states={key: (state.version, state.to_json()) for key, state in after.items()},
            messages=[*messages, changes_message(after.values())],
        )


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    async with open_pools(settings, application="test worker") as pools, open_redis(settings) as redis:
        task = asyncio.create_task(Worker(settings, pools, SharedCache(redis, settings.topic_prefix)).run())
        try:
            yield
        finally:
            # A library may lose a cancellation that meets its last answer.
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=1)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    server = TestServer(build_app(settings.model_copy(update={"jwt_secret": SecretStr(SECRET)})))
    await server.start_server(shutdown_timeout=2)
    async with TestClient(server, headers=token("ann")) as client:
        yield client


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    async with working(settings), serving(settings) as client:
        await eventually(lambda: ready(client), "the web is ready")
        yield client


def token(user: str, role: Role = Role.USER) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint_token(SECRET, user, [role], timedelta(hours=1))}"}


async def ready(client: Client) -> bool:
    return (await client.get("/ready")).status == 200


async def waiting(count: int) -> None:
    """Return once exactly so many requests wait."""

    async def reached() -> bool:
        return waiting_now() == count

    await eventually(reached, f"{count} waiters")


def waiting_now() -> int:
    return int(REGISTRY.get_sample_value("assessmentstore_waiters") or 0)


async def error(answer: ClientResponse) -> tuple[int, str]:
    return answer.status, (await answer.json())["error"]["code"]


async def created(client: Client, **changes: Any) -> str:
    answer = await client.post("/assessments", json=REQUEST | changes)
    assert answer.status == 201, await answer.text()
    assessment_id: str = (await answer.json())["assessmentId"]
    return assessment_id


async def command(client: Client, assessment_id: str, name: str, body: Any = None, **headers: str) -> ClientResponse:
    return await client.post(f"/assessments/{assessment_id}/{name}", json=body, headers=headers)


async def test_a_create_is_answered_once_it_is_applied(client: Client) -> None:
    answer = await client.post("/assessments", json={**REQUEST, "assessmentId": "a/1", "userId": 7})

    assert answer.status == 201
    assert (answer.headers["Location"], answer.headers["ETag"]) == ("/assessments/a%2F1", '"1"')
    assert await answer.json() == {
        "assessmentId": "a/1",
        "status": "created",
        "message": "Assessment created successfully",
        "estimatedTime": 1234,
        "version": 1,
    }
    state = await (await client.get("/assessments/a%2F1")).json()
    assert (state["state"], state["requestData"]["userId"]) == ("pending", "ann")


async def test_a_lifecycle_over_http(client: Client) -> None:
    key = await created(client)

    assert (await command(client, key, "start")).headers["ETag"] == '"2"'
    answer = await command(client, key, "progress", {"progress": 40, "message": "half"})
    assert (await answer.json())["progress"] == 40
    status = await (await client.get(f"/assessments/{key}/status")).json()
    assert status.keys() == {
        "assessmentId", "status", "progress", "message", "createdAt", "updatedAt", "completedAt"
    }  # fmt: skip
    assert (status["status"], status["progress"], status["message"]) == ("processing", 40, "half")
    answer = await command(client, key, "complete", {"result": {"overallScore": 90}})
    state = await answer.json()
    assert (state["state"], state["version"], state["progress"]) == ("completed", 4, 100)
    assert await (await client.get(f"/assessments/{key}")).json() == state
    ended = await (await client.get(f"/assessments/{key}/wait")).json()
    assert ended == {
        "assessmentId": key,
        "status": "completed",
        "result": {"overallScore": 90},
        "error": None,
        "duration": state["duration"],
    }


async def test_a_failed_one_can_be_retried_and_a_pending_one_deleted(client: Client) -> None:
    key = await created(client)
    await command(client, key, "start")

    assert (await (await command(client, key, "fail", {"error": "broken"})).json())["errorMessage"] == "broken"
    assert (await (await command(client, key, "retry")).json())["retryCount"] == 1
    answer = await client.delete(f"/assessments/{key}")
    assert (answer.status, (await answer.json())["state"]) == (200, "cancelled")


async def test_refusals_have_their_codes(client: Client) -> None:
    key = await created(client)

    assert await error(await client.post("/assessments", json={**REQUEST, "assessmentId": key})) == (
        409,
        "ASSESSMENT_ALREADY_EXISTS",
    )
    answer = await command(client, key, "complete", {"result": {}})
    assert await error(answer) == (409, "INVALID_STATE_TRANSITION")
    assert (await answer.json())["error"]["details"] == {
        "from": "pending",
        "to": "completed",
        "allowed": ["processing", "cancelled"],
    }
    assert await error(await command(client, "none", "start")) == (404, "ASSESSMENT_NOT_FOUND")
    assert await error(await command(client, key, "start", None, **token("bob"))) == (403, "FORBIDDEN")
    assert await error(await command(client, key, "start", None, **token("bob", Role.HUMAN_OVERSIGHT))) == (
        403,
        "FORBIDDEN",
    )
    assert (await command(client, key, "cancel", None, **token("bob", Role.HUMAN_OVERSIGHT))).status == 200


async def test_if_match_is_a_precondition(client: Client) -> None:
    key = await created(client)

    late = await command(client, key, "start", None, **{"If-Match": '"7"'})
    assert await error(late) == (412, "OPTIMISTIC_LOCK_FAILED")
    assert (await late.json())["error"]["details"] == {"expectedVersion": 7, "actualVersion": 1}
    assert await error(await command(client, key, "start", None, **{"If-Match": "1"})) == (400, "VALIDATION_ERROR")
    assert (await command(client, key, "start", None, **{"If-Match": '"1"'})).status == 200
    assert (await command(client, key, "progress", {"progress": 1}, **{"If-Match": "*"})).status == 200


async def test_the_same_key_and_body_give_the_same_answer(client: Client) -> None:
    headers = {"Idempotency-Key": '"k-1"'}
    first = await client.post("/assessments", json=REQUEST, headers=headers)
    again = await client.post("/assessments", json=REQUEST, headers={"Idempotency-Key": "k-1"})
    other = await client.post("/assessments", json=REQUEST | {"priority": 9}, headers=headers)

    assert (again.status, await again.json()) == (first.status, await first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await error(other) == (422, "IDEMPOTENCY_MISMATCH")
    assert "Idempotency-Replayed" not in other.headers


async def test_the_key_of_another_user_gives_his_command_away_in_nothing(client: Client) -> None:
    name, headers = f"secret-{uuid4().hex}", {"Idempotency-Key": "k-of-ann"}
    named = REQUEST | {"assessmentId": name}
    first = await client.post("/assessments", json=named, headers=headers)

    by_guess = await client.post("/assessments", json=named, headers=headers | token("bob"))
    by_key = await client.post("/assessments", json=REQUEST, headers=headers | token("bob"))
    again = await client.post("/assessments", json=named, headers=headers)

    assert (first.status, again.status, await again.json()) == (201, 201, await first.json())
    for answer in (by_guess, by_key):
        assert await error(answer) == (422, "IDEMPOTENCY_MISMATCH")
        assert (await answer.json())["error"]["details"] == {"commandId": "k-of-ann"}
        assert answer.headers.keys().isdisjoint({"ETag", "Location", "Idempotency-Replayed"})
    assert name not in await by_key.text()


async def test_a_repeated_command_gets_the_state_of_then_and_a_repeated_refusal_the_refusal(client: Client) -> None:
    key = await created(client)
    refused = await command(client, key, "retry", None, **{"Idempotency-Key": "k-0"})
    first = await command(client, key, "start", None, **{"Idempotency-Key": "k-1"})
    await command(client, key, "cancel")

    again = await command(client, key, "start", None, **{"Idempotency-Key": "k-1"})
    refused_again = await command(client, key, "retry", None, **{"Idempotency-Key": "k-0"})

    assert (again.status, await again.json()) == (200, await first.json())
    assert (refused_again.status, await refused_again.json()) == (409, await refused.json())
    marked = [answer.headers.get("Idempotency-Replayed") for answer in (first, again, refused, refused_again)]
    assert marked == [None, "true", None, "true"]


async def test_a_key_is_one_and_the_same_over_kafka_and_over_http(settings: Settings, client: Client) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap)
    await producer.start()
    body = {**REQUEST, "assessmentId": "a-1", "userId": "ann"}
    value = encode_command(
        command_id="k-1",
        command_type="assessment.create",  # type: ignore[arg-type]
        assessment_id="a-1",
        source="/test",
        time="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
        data=body,
        userid="ann",
    )
    await producer.send_and_wait(settings.commands_topic, value, b"a-1")
    await producer.stop()

    answer = await client.post("/assessments", json=body, headers={"Idempotency-Key": "k-1"})

    assert (answer.status, (await answer.json())["version"]) == (201, 1)
    assert answer.headers["Idempotency-Replayed"] == "true"


async def test_respond_async_answers_as_soon_as_kafka_has_it(client: Client) -> None:
    headers = {"Prefer": "respond-async", "Idempotency-Key": "k-1"}
    answer = await client.post("/assessments", json=REQUEST, headers=headers)

    body = await answer.json()
    assert (answer.status, answer.headers["Preference-Applied"]) == (202, "respond-async")
    assert (body["status"], body["commandId"]) == ("accepted", "k-1")
    url = answer.headers["Location"]
    await eventually(lambda: _is_at(client, url, 1), "the assessment")
    answer = await command(client, body["assessmentId"], "start", None, Prefer="respond-async")
    assert (answer.status, answer.headers["Location"]) == (202, url)
    await eventually(lambda: _is_at(client, url, 2), "its start")


async def _is_at(client: Client, url: str, version: int) -> bool:
    """Whether that version is told; it is waited for, but not for long."""
    return (await client.get(f"{url}?minVersion={version}")).headers.get("ETag") == f'"{version}"'


@pytest.mark.parametrize(
    ("body", "content_type", "expected", "message"),
    [
        (b"{}", "application/json", (400, "VALIDATION_ERROR"), "Assessment type is required"),
        (b"", None, (400, "VALIDATION_ERROR"), "Assessment type is required"),
        (b'{"assessmentType":"health"}', None, (400, "VALIDATION_ERROR"), "Assessment options are required"),
        (b"[]", "application/json", (400, "VALIDATION_ERROR"), "JSON object"),
        (b"null", "application/json", (400, "VALIDATION_ERROR"), "JSON object"),
        (b"{", "application/json", (400, "VALIDATION_ERROR"), "not JSON"),
        (b'{"a":"\xff"}', "application/json", (400, "VALIDATION_ERROR"), "not JSON"),
        (b'{"a":"\\u0000"}', "application/json", (400, "VALIDATION_ERROR"), "null byte"),
        (b'{"a":1e400}', "application/json", (400, "VALIDATION_ERROR"), ""),
        (b'{"a":99999999999999999999}', "application/json", (400, "VALIDATION_ERROR"), "out of the range"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "application/json", (400, "VALIDATION_ERROR"), "nested deeper"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "application/json", (400, "VALIDATION_ERROR"), ""),
        (b'{"assessmentId":7}', "application/json", (400, "VALIDATION_ERROR"), ""),
        (b'{"a":"' + b"x" * 1024 * 1024 + b'"}', "application/json", (413, "PAYLOAD_TOO_LARGE"), "limit"),
        (b'{"a":"' + b"x" * 1024 * 1023 + b'"}', "text/plain", (415, "UNSUPPORTED_MEDIA_TYPE"), "application/json"),
    ],
)
async def test_a_wrong_body_is_refused(
    settings: Settings, body: bytes, content_type: str | None, expected: tuple[int, str], message: str
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    async with serving(settings) as client:
        answer = await client.post("/assessments", data=body, headers=headers, skip_auto_headers=["Content-Type"])

        assert await error(answer) == expected
        assert message in (await answer.json())["error"]["message"]


async def test_the_largest_command_that_fits_is_taken(client: Client) -> None:
    for envelope in range(400, 800, 10):
        metadata = {"x": "y" * (MAX_COMMAND_BYTES - envelope)}
        answer = await client.post("/assessments", json=REQUEST | {"metadata": metadata})
        if answer.status != 413:
            break

    assert answer.status == 201
    state = await client.get(answer.headers["Location"])
    assert (await state.json())["metadata"] == metadata


@pytest.fixture
def no_slow_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave waits to the news; to be asked for before the web starts."""
    monkeypatch.setattr(waiters, "_SLOW_POLL", 3600)


async def test_waits_by_the_hundred_end_when_their_assessments_do(no_slow_polls: None, client: Client) -> None:
    urls = [client.make_url(f"/assessments/{await created(client)}") for _ in range(10)]
    before = waiting_now()
    async with ClientSession(headers=token("ann"), connector=TCPConnector(limit=0)) as session:
        waits = [asyncio.create_task(session.get(url / "wait" % {"timeout": "120000"})) for url in urls * 50]
        await waiting(before + 500)
        await asyncio.gather(*(session.delete(url) for url in urls))

        answers = await asyncio.wait_for(asyncio.gather(*waits), DEADLINE)
        assert {(answer.status, (await answer.json())["status"]) for answer in answers} == {(200, "cancelled")}
    assert waiting_now() == before


async def test_a_wait_that_is_too_short_says_how_it_stands(client: Client) -> None:
    key = await created(client)

    answer = await client.get(f"/assessments/{key}/wait?timeout=0")

    assert answer.status == 408
    failure = (await answer.json())["error"]
    assert (failure["code"], failure["assessmentId"]) == ("ASSESSMENT_TIMEOUT", key)
    assert failure["details"] == {"timeout": 0, "state": "pending", "progress": 0, "version": 1}
    assert await error(await client.get("/assessments/none/wait")) == (404, "ASSESSMENT_NOT_FOUND")
    assert await error(await client.get(f"/assessments/{key}/wait?timeout=1.5")) == (400, "VALIDATION_ERROR")
    assert await error(await client.get(f"/assessments/{key}/wait", headers=token("bob"))) == (403, "FORBIDDEN")


async def test_a_client_that_leaves_takes_its_wait_along(client: Client) -> None:
    key = await created(client)
    before = waiting_now()
    async with ClientSession(headers=token("ann")) as session:
        task = asyncio.create_task(session.get(client.make_url(f"/assessments/{key}/wait")))
        await waiting(before + 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await waiting(before)


async def test_a_stop_answers_those_who_wait(settings: Settings) -> None:
    async with working(settings), ClientSession(headers=token("ann")) as session:
        async with serving(settings) as client:
            await eventually(lambda: ready(client), "the web is ready")
            url = client.make_url(f"/assessments/{await created(client)}/wait")
            before = waiting_now()
            waits = [asyncio.create_task(session.get(url)) for _ in range(20)]
            await waiting(before + 20)

        answers = await asyncio.gather(*waits)
        assert {(answer.status, answer.headers["Retry-After"]) for answer in answers} == {(503, "1")}
        with pytest.raises(ClientConnectionError):
            await session.get(url)


async def test_a_stop_answers_commands_under_way(settings: Settings) -> None:
    async with ClientSession(headers=token("ann")) as session:
        async with serving(settings.model_copy(update={"command_timeout": 1.0})) as client:
            await eventually(lambda: ready(client), "the web is ready")
            before = waiting_now()

            async def under_way() -> asyncio.Task[ClientResponse] | None:
                """On a machine that stands still its time may be over before it was seen to wait."""
                asked = asyncio.create_task(session.post(client.make_url("/assessments"), json=REQUEST))
                while not asked.done() and waiting_now() == before:
                    await asyncio.wait({asked}, timeout=0.01)
                return None if asked.done() else asked

            create = await eventually(under_way, "a command under way")
            assert create is not None

        answer = await create
        assert await error(answer) == (503, "SERVICE_UNAVAILABLE")
        assert "may still be applied" in await answer.text()


async def test_an_outcome_that_does_not_come_is_unknown_until_it_does(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"command_timeout": 1.0})) as client:
        headers = {"Idempotency-Key": str(uuid4())}
        answer = await client.post("/assessments", json=REQUEST, headers=headers)
        assert await error(answer) == (503, "SERVICE_UNAVAILABLE")
        failure = (await answer.json())["error"]
        assert failure["details"] == {"commandId": headers["Idempotency-Key"]}
        assert "may still be applied" in failure["message"]

        async with working(settings):

            async def answered() -> bool:
                return (await client.post("/assessments", json=REQUEST, headers=headers)).status == 201

            await eventually(answered, "the first answer")
        assert (await client.get(f"/assessments/{failure['assessmentId']}")).headers["ETag"] == '"1"'


async def test_without_redis_everything_works_all_the_same(settings: Settings) -> None:
    blind = settings.model_copy(update={"redis_url": f"redis://{NOWHERE}/0"})
    async with working(settings), serving(blind) as client:
        await eventually(lambda: ready(client), "the web is ready")
        key = await created(client)
        wait = asyncio.create_task(client.get(f"/assessments/{key}/wait"))
        assert (await command(client, key, "cancel")).status == 200

        assert (await (await asyncio.wait_for(wait, DEADLINE)).json())["status"] == "cancelled"

        async def degraded() -> bool:
            return bool((await (await client.get("/health")).json())["overall"] == "degraded")

        await eventually(degraded, "the web to be degraded and no worse")


async def test_with_everything_away_it_runs_and_says_so(settings: Settings) -> None:
    alone = settings.model_copy(
        update={
            "redis_url": f"redis://{NOWHERE}/0",
            "database_url": f"postgresql://{NOWHERE}/none",
            "kafka_bootstrap": NOWHERE,
        }
    )
    async with serving(alone) as client:
        health = await (await client.get("/health")).json()
        assert health["overall"] == "unhealthy"
        assert {name: item["status"] for name, item in health["services"].items()} == {
            "database": "unhealthy",
            "cache": "unhealthy",
            "queue": "unhealthy",
        }
        assert (await client.get("/ready")).status == 503
        assert "assessmentstore_waiters" in await (await client.get("/metrics")).text()
        assert await error(await client.get("/assessments/a-1")) == (503, "SERVICE_UNAVAILABLE")
        assert await error(await client.get("/assessments/a-1/wait?timeout=10")) == (503, "SERVICE_UNAVAILABLE")
        assert await error(await client.post("/assessments", json=REQUEST)) == (503, "SERVICE_UNAVAILABLE")


async def test_health_tells_versions_and_metrics_count(client: Client) -> None:
    key = await created(client)

    async def told() -> bool:
        services = (await (await client.get("/health", headers={"Authorization": ""})).json())["services"]
        versions = [services[name].get("version") for name in ("database", "cache")]
        return all(versions) and services["queue"].get("brokers") == 1

    async def counted() -> str:
        """A count that Postgres does not give in time is told by one of the next answers."""
        text = await (await client.get("/metrics")).text()
        return text if "assessmentstore_active_assessments 1.0" in text else ""

    await eventually(told, "the versions and the number of brokers")
    metrics = await eventually(counted, "the one that is active")
    assert 'assessmentstore_pool_connections{pool="read",use="idle"}' in metrics
    assert 'route="/assessments"' in metrics
    assert key not in metrics


async def test_the_figures_of_the_store_come_as_json_too(client: Client) -> None:
    keys = [await created(client) for _ in range(4)]
    for key, ends in zip(keys, ([], ["complete"], ["fail"], ["fail", "retry"]), strict=True):
        for name in ["start", *ends] if ends else []:
            data = {"complete": {"result": {}}, "fail": {"error": "it broke"}}.get(name, {})
            assert (await client.post(f"/assessments/{key}/{name}", json=data)).status == 200

    answer = await client.get("/metrics", headers={"Accept": "application/json", "Authorization": ""})
    figures = await answer.json()

    assert answer.headers["Content-Type"] == "application/json"
    assert figures["averageProcessingTime"] > 0
    assert {name: value for name, value in figures.items() if name not in ("averageProcessingTime", "timestamp")} == {
        "totalAssessments": 4,
        "activeAssessments": 2,
        "completedAssessments": 1,
        "failedAssessments": 1,
        "cancelledAssessments": 0,
        "throughputPerMinute": 2,
        "errorRate": 25.0,
        "retryRate": 25.0,
        "successRate": 25.0,
    }


async def test_a_missing_schema_and_missing_topics_are_not_ready(settings: Settings) -> None:
    bare = settings.model_copy(
        update={"topic_prefix": "nothing-", "database_url": settings.database_url.rpartition("/")[0] + "/postgres"}
    )
    async with serving(bare) as client:

        async def checks() -> bool:
            """A service that does not answer in time is unhealthy until the next look."""
            answer = await client.get("/ready")
            assert (answer.status, (await answer.json())["ready"]) == (503, False)
            told = (await answer.json())["checks"]
            return bool(told == {"database": "degraded", "cache": "healthy", "queue": "degraded"})

        await eventually(checks, "what is missing to be told apart from what is well")
        assert await error(await client.post("/assessments", json=REQUEST)) == (503, "SERVICE_UNAVAILABLE")


async def test_a_topic_that_a_process_cannot_do_without_is_named_where_it_is_missing(settings: Settings) -> None:
    probe = KafkaProbe(settings, settings.events_topic, "lost.rejections")
    try:
        details, _ = await probe.ping()
    finally:
        await probe.close()

    assert details["status"] == "degraded"
    assert details["error"] == "the topic lost.rejections is missing: run assessmentstore migrate"


async def test_what_goes_to_kafka_is_a_cloud_event_with_the_requests_trace(settings: Settings) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = {"Prefer": "respond-async", "Idempotency-Key": "k-1", "traceparent": trace}
    async with serving(settings) as client:
        await eventually(lambda: ready(client), "the web is ready")
        await client.post("/assessments", json={**REQUEST, "assessmentId": "a-1"}, headers=headers)
    consumer = AIOKafkaConsumer(
        settings.commands_topic, bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()

    record = await asyncio.wait_for(consumer.getone(), DEADLINE)
    await consumer.stop()

    assert (record.key, dict(record.headers)["content-type"]) == (b"a-1", b"application/cloudevents+json")
    event = orjson.loads(record.value)
    assert event.items() >= {"id": "k-1", "subject": "a-1", "userid": "ann", "traceparent": trace}.items()


def test_without_a_secret_nothing_starts() -> None:
    with pytest.raises(SettingsError, match="ASSESSMENTSTORE_JWT_SECRET"):
        build_app(Settings(jwt_secret=None))


async def test_a_port_that_is_taken_is_named(settings: Settings) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(SettingsError, match=f"ASSESSMENTSTORE_HTTP_PORT={port}"):
            await serve(settings.model_copy(update={"http_port": port, "http_host": "127.0.0.1"}))
