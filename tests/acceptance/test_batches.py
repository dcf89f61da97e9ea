"""Batches: one answer for each item, by its place, however the request is repeated and whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.harness.installation import Installation
from tests.harness.judge import assert_exactly_once
from tests.harness.shared import Running, running
from tests.harness.waiting import eventually
from tests.harness.web import Web, running_web
from tests.harness.worker import Cluster

from assessmentstore.chaos.topics import end_offsets
from assessmentstore.models.positions import Positions
from assessmentstore.settings import Settings
from assessmentstore.web.auth import Role

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {"timeout": 5000}, "serverName": "web-1"}
RETRY = "/assessments/batch/retry"
PROGRESS = "/assessments/batch/progress"


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(services, template_database, tmp_path_factory.mktemp("batches")) as made:
        yield made


@pytest.fixture
def web(shared: Running) -> Web:
    return shared.web


def requests(*ids: str) -> list[dict[str, Any]]:
    return [REQUEST | {"assessmentId": key} for key in ids]


async def create(web: Web, *ids: str, user: str = "alice") -> None:
    answer = await web.ask("POST", "/assessments/batch", requests(*ids), user=user)
    assert answer.body == {"assessmentIds": list(ids), "errors": []}


async def fail(web: Web, *ids: str, user: str) -> None:
    """Create, start and fail assessments, one after the other."""
    for key in ids:
        await create(web, key, user=user)
        await fail_again(web, key, user=user)


async def fail_again(web: Web, key: str, *, user: str) -> None:
    """Start and fail a pending assessment."""
    await web.ask("POST", f"/assessments/{key}/start", user=user)
    assert (await web.ask("POST", f"/assessments/{key}/fail", {"error": "x"}, user=user)).status == 200


async def count_commands(settings: Settings) -> int:
    return sum((await end_offsets(settings, settings.commands_topic, settings.topic_partitions)).values())


async def test_good_and_bad_items_are_answered_by_their_places(web: Web) -> None:
    await create(web, "m-taken")
    items: list[Any] = [
        REQUEST | {"assessmentId": "m-1", "userId": "mallory"},
        {"options": {}},
        REQUEST,
        7,
        REQUEST | {"assessmentId": "m-taken"},
        REQUEST | {"assessmentId": "m-1"},
        {"assessmentType": "health"},
        REQUEST | {"metadata": {"text": "x" * 1_100_000}},
        REQUEST | {"assessmentId": "m-2"},
    ]

    answer = await web.ask("POST", "/assessments/batch", items)

    assert answer.status == 200
    first, made_up, last = answer.body["assessmentIds"]
    assert (first, last) == ("m-1", "m-2")
    assert Positions.parse(answer.headers["Consistency-Token"]).needed
    assert (await web.ask("GET", f"/assessments/{made_up}")).status == 200
    assert [(error["index"], error["code"]) for error in answer.body["errors"]] == [
        (1, "VALIDATION_ERROR"),
        (3, "VALIDATION_ERROR"),
        (4, "ASSESSMENT_ALREADY_EXISTS"),
        (5, "ASSESSMENT_ALREADY_EXISTS"),
        (6, "VALIDATION_ERROR"),
        (7, "PAYLOAD_TOO_LARGE"),
    ]
    assert answer.body["errors"][0].keys() == {"index", "code", "message"}
    assert answer.body["errors"][0]["message"] == "Assessment type is required"
    assert (await web.ask("GET", "/assessments/m-1")).body["requestData"]["userId"] == "alice"


@pytest.mark.parametrize("body", [{}, [], None, "x", [{}] * 10_001])
async def test_what_is_no_list_or_too_long_a_one_is_refused_as_a_whole(web: Web, body: Any) -> None:
    answer = await web.ask("POST", "/assessments/batch", body, Content_Type="application/json")

    assert (answer.status, answer.body["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_ten_thousand_are_created_while_others_are_served(web: Web, shared: Running) -> None:
    ids = [f"t-{number}" for number in range(10_000)]
    batch = asyncio.create_task(web.ask("POST", "/assessments/batch", requests(*ids)))
    served = 0
    while not batch.done():
        assert (await web.ask("GET", "/health")).status == 200
        served += 1
    answer = await batch

    assert answer.body == {"assessmentIds": ids, "errors": []}
    assert served > 5, "others wait for their turn, not for the whole batch"
    async with shared.installation.database() as database:
        assert (
            await database.fetchval("SELECT count(*) FROM assessment_states WHERE assessment_id LIKE 't-%'") == 10_000
        )


async def test_the_same_key_and_body_have_one_effect_and_one_answer(web: Web, shared: Running) -> None:
    body = [REQUEST, {"options": {}}, REQUEST]
    several = await asyncio.gather(
        *(web.ask("POST", "/assessments/batch", body, Idempotency_Key="b-1") for _ in range(5))
    )
    before = await count_commands(shared.installation.settings)
    async with running_web(shared.installation) as restarted:
        again = await restarted.ask("POST", "/assessments/batch", body, Idempotency_Key="b-1")
        other = await restarted.ask("POST", "/assessments/batch", [REQUEST], Idempotency_Key="b-1")
        elsewhere = await restarted.ask("POST", PROGRESS, body, Idempotency_Key="b-1")
        of_bob = await restarted.ask("POST", "/assessments/batch", body, user="bob", Idempotency_Key="b-1")

    assert {answer.status for answer in several} == {200}
    assert {str(answer.body) for answer in (*several, again)} == {str(again.body)}
    assert len(again.body["assessmentIds"]) == 2
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Consistency-Token"] in {answer.headers["Consistency-Token"] for answer in several}
    assert Positions.parse(again.headers["Consistency-Token"]).needed
    assert await count_commands(shared.installation.settings) == before + 2, "only bob's"
    assert set(of_bob.body["assessmentIds"]).isdisjoint(again.body["assessmentIds"])
    for refused in (other, elsewhere):
        assert (refused.status, refused.body["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")


async def test_a_key_of_a_batch_is_free_for_a_single_request(web: Web) -> None:
    batch = await web.ask("POST", "/assessments/batch", [REQUEST], Idempotency_Key="both")
    single = await web.ask("POST", "/assessments", REQUEST, Idempotency_Key="both")

    assert (batch.status, single.status) == (200, 201)
    assert batch.body["assessmentIds"] != [single.body["assessmentId"]]


async def test_progress_is_told_item_by_item(web: Web) -> None:
    await create(web, "p-1", "p-2")
    await create(web, "p-foreign", user="bob")
    await web.ask("POST", "/assessments/p-1/start")
    items = [
        {"assessmentId": "p-1", "progress": 10, "message": "ten"},
        {"assessmentId": "p-1", "progress": 101},
        {"assessmentId": "p-foreign", "progress": 1},
        {"assessmentId": "p-unknown", "progress": 1},
        {"assessmentId": "p-2", "progress": 1},
        {"progress": 1},
        {"assessmentId": "p-1", "progress": 20},
    ]

    answer = await web.ask("POST", PROGRESS, items, Idempotency_Key="p")
    await create(web, "p-unknown")
    again = await web.ask("POST", PROGRESS, items, Idempotency_Key="p")
    overseen = await web.ask("POST", PROGRESS, items[2:3], user="root", role=Role.ADMIN)

    results = answer.body["results"]
    assert [(one["index"], one["assessmentId"], one.get("version", one.get("code"))) for one in results] == [
        (0, "p-1", 3),
        (1, "p-1", "VALIDATION_ERROR"),
        (2, "p-foreign", "FORBIDDEN"),
        (3, "p-unknown", "ASSESSMENT_NOT_FOUND"),
        (4, "p-2", "INVALID_STATE_TRANSITION"),
        (5, None, "VALIDATION_ERROR"),
        (6, "p-1", 4),
    ]
    assert results[1]["message"] == "Progress must be between 0 and 100"
    assert again.body == answer.body
    assert overseen.body["results"][0]["code"] == "INVALID_STATE_TRANSITION"
    assert (await web.ask("GET", "/assessments/p-1?minVersion=4")).body["message"] == "ten"


async def forget_answers(shared: Running) -> None:
    """Leave what a crash leaves after the commands were sent and before the answer was kept."""
    async with shared.installation.database() as database:
        await database.execute("UPDATE batch_requests SET answer = NULL")


async def test_a_repeat_after_a_crash_in_the_middle_does_the_same_and_answers_the_same(
    web: Web, shared: Running
) -> None:
    body = [REQUEST, {"options": {}}, REQUEST | {"assessmentId": "c-1"}, REQUEST | {"assessmentId": "c-1"}]
    created = await web.ask("POST", "/assessments/batch", body, Idempotency_Key="c")
    await fail(web, "c-failed", user="carl")
    retried = await web.ask("POST", RETRY, {"maxRetries": 5}, user="carl", Idempotency_Key="c")
    await fail_again(web, "c-failed", user="carl")
    await forget_answers(shared)

    assert (await web.ask("POST", "/assessments/batch", body, Idempotency_Key="c")).body == created.body
    assert (await web.ask("POST", RETRY, {"maxRetries": 5}, user="carl", Idempotency_Key="c")).body == retried.body
    assert retried.body == {"assessmentIds": ["c-failed"]}
    assert (await web.ask("GET", "/assessments/c-failed", user="carl")).body["state"] == "failed"


async def test_retry_takes_failed_ones_of_the_caller_once(web: Web) -> None:
    await fail(web, "r-1", "r-2", user="rita")
    await fail(web, "r-foreign", user="bob")
    nobody = await web.ask("POST", RETRY, {"maxRetries": 0}, user="rita")
    first = await web.ask("POST", RETRY, {"maxRetries": 1}, user="rita", Idempotency_Key="r")
    assert (nobody.body, first.body) == ({"assessmentIds": []}, {"assessmentIds": ["r-1", "r-2"]})

    await fail_again(web, "r-2", user="rita")
    again = await web.ask("POST", RETRY, {"maxRetries": 1}, user="rita", Idempotency_Key="r")
    exhausted = await web.ask("POST", RETRY, {"maxRetries": 1}, user="rita")
    both = await asyncio.gather(*(web.ask("POST", RETRY, {"maxRetries": 2}, user="rita") for _ in range(4)))
    everybody = await web.ask("POST", RETRY, {"maxRetries": 9}, user="olga", role=Role.HUMAN_OVERSIGHT)

    assert again.body == first.body
    assert exhausted.body == {"assessmentIds": []}
    assert sorted(str(one.body["assessmentIds"]) for one in both) == ["['r-2']", "[]", "[]", "[]"]
    assert "r-foreign" in everybody.body["assessmentIds"]
    assert (await web.ask("GET", "/assessments/r-2", user="rita")).body["retryCount"] == 2


@pytest.mark.parametrize("body", [{}, {"maxRetries": -1}, {"maxRetries": "1"}, {"maxRetries": True}, [1]])
async def test_retry_wants_a_whole_number(web: Web, body: Any) -> None:
    answer = await web.ask("POST", RETRY, body)

    assert (answer.status, answer.body["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_batches_need_their_permissions(web: Web) -> None:
    olga: dict[str, Any] = {"user": "olga", "role": Role.HUMAN_OVERSIGHT}

    assert (await web.ask("POST", "/assessments/batch", requests("n-1"), **olga)).status == 403
    assert (await web.ask("POST", PROGRESS, [{"assessmentId": "n-1", "progress": 1}], **olga)).status == 403
    assert (await web.ask("POST", RETRY, {"maxRetries": 1}, Authorization="")).status == 401


async def test_a_worker_killed_in_the_middle_is_not_noticed(cluster: Cluster, installation: Installation) -> None:
    dying = cluster.start()
    async with running_web(installation) as web:
        await cluster.until_owned_by(dying)
        ids = [f"k-{number}" for number in range(3000)]
        batch = asyncio.create_task(web.ask("POST", "/assessments/batch", requests(*ids), Idempotency_Key="k"))
        await eventually(lambda: _some_applied(installation), "a part of the batch applied")
        dying.kill9()
        heir = cluster.start()
        answer = await batch
        await cluster.until_owned_by(heir)
        if answer.status == 503:
            assert answer.body["error"]["details"] == {"idempotencyKey": "k"}
            answer = await web.ask("POST", "/assessments/batch", requests(*ids), Idempotency_Key="k")

    assert answer.body == {"assessmentIds": ids, "errors": []}
    await assert_exactly_once(installation)


async def _some_applied(installation: Installation) -> bool:
    async with installation.database() as database:
        return bool(await database.fetchval("SELECT count(*) FROM assessment_states"))


@pytest.fixture
async def alone(cluster: Cluster) -> AsyncIterator[Web]:
    """The API of an installation of the test's own, with a worker."""
    worker = cluster.start()
    async with running_web(cluster.installation) as web:
        await cluster.until_owned_by(worker)
        yield web


@pytest.mark.settings(redis_url="redis://127.0.0.1:1/0")
async def test_batches_work_without_redis(alone: Web) -> None:
    await create(alone, *(f"a-{number}" for number in range(100)))
    await fail(alone, "f-1", user="alice")

    assert (await alone.ask("POST", RETRY, {"maxRetries": 1})).body == {"assessmentIds": ["f-1"]}
    await alone.ask("DELETE", "/assessments/a-1")
    cleaned = await alone.ask("POST", "/maintenance/cleanup", {"retentionDays": 0}, role=Role.ADMIN)
    assert (cleaned.status, cleaned.body) == (200, {"deleted": 1})
    assert (await alone.ask("GET", "/assessments/a-1")).status == 404


@pytest.mark.settings(command_timeout=0.5)
async def test_what_is_not_known_in_time_is_asked_again_with_the_key_that_is_told(
    cluster: Cluster, installation: Installation
) -> None:
    async with running_web(installation) as web:
        unknown = await web.ask("POST", "/assessments/batch", [REQUEST, REQUEST])
        key = unknown.body["error"]["details"]["idempotencyKey"]
        await cluster.until_owned_by(cluster.start())

        answer = await eventually(lambda: _answered(web, key), "the answer")

    assert (unknown.status, "Retry-After" in unknown.headers, key in unknown.body["error"]["message"]) == (
        503,
        True,
        True,
    )
    assert len(answer["assessmentIds"]) == 2
    async with installation.database() as database:
        assert await database.fetchval("SELECT count(*) FROM assessment_states") == 2


async def _answered(web: Web, key: str) -> Any:
    answer = await web.ask("POST", "/assessments/batch", [REQUEST, REQUEST], Idempotency_Key=key)
    return answer.body if answer.status == 200 else None
