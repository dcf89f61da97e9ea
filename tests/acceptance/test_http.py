"""The API with a worker behind it: commands are answered when they are applied, over HTTP and Kafka alike."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.harness.installation import Installation
from tests.harness.judge import assert_exactly_once
from tests.harness.load import open_sender
from tests.harness.waiting import eventually
from tests.harness.web import Answer, Web, running_web
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import command, create
from assessmentstore.web.auth import Role

_CREATED = "assessmentstore_total_assessments_total 1.0"

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {"timeout": 5000}, "serverName": "web-1"}


@pytest.fixture
async def web(cluster: Cluster) -> AsyncIterator[Web]:
    """The API, and a worker that has its partitions."""
    worker = cluster.start()
    async with running_web(cluster.installation) as running:
        await cluster.until_owned_by(worker)
        yield running


async def test_an_assessment_from_its_creation_to_its_end(web: Web) -> None:
    created = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1", "userId": "mallory"})
    assert created.status == 201
    assert created.body == {
        "assessmentId": "a-1",
        "status": "created",
        "message": "Assessment created successfully",
        "estimatedTime": 5000,
        "version": 1,
    }

    started = await web.ask("POST", "/assessments/a-1/start", If_Match=created.headers["ETag"])
    assert (started.status, started.body["state"], started.headers["ETag"]) == (200, "processing", '"2"')
    await web.ask("POST", "/assessments/a-1/progress", {"progress": 40, "message": "forty"})
    done = await web.ask("POST", "/assessments/a-1/complete", {"result": {"overallScore": 97}})

    read = await web.ask("GET", "/assessments/a-1?minVersion=4")
    assert read.body == done.body
    assert read.body["requestData"]["userId"] == "alice"
    assert read.body["resultData"] == {"overallScore": 97}
    status = await web.ask("GET", "/assessments/a-1/status")
    assert (status.body["status"], status.body["progress"], status.body["message"]) == ("completed", 100, "forty")
    unchanged = await web.ask("GET", "/assessments/a-1", If_None_Match='"4"')
    assert (unchanged.status, unchanged.body) == (304, "")
    waited = await web.ask("GET", "/assessments/a-1/wait")
    assert waited.body == {
        "assessmentId": "a-1",
        "status": "completed",
        "result": {"overallScore": 97},
        "error": None,
        "duration": read.body["duration"],
    }


async def test_refusals_have_the_codes_of_the_contract(web: Web) -> None:
    async def refusal(answer: Answer) -> tuple[int, str, dict[str, Any]]:
        return answer.status, answer.body["error"]["code"], answer.body["error"].get("details", {})

    await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"})

    again = await refusal(await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"}))
    too_early = await refusal(await web.ask("POST", "/assessments/a-1/progress", {"progress": 1}))
    stale = await refusal(await web.ask("POST", "/assessments/a-1/start", If_Match='"7"'))
    unknown = await refusal(await web.ask("POST", "/assessments/a-2/start"))
    foreign = await refusal(await web.ask("POST", "/assessments/a-1/cancel", user="bob"))
    out_of_range = await web.ask("POST", "/assessments/a-1/progress", {"progress": 101})

    assert again[:2] == (409, "ASSESSMENT_ALREADY_EXISTS")
    assert too_early == (
        409,
        "INVALID_STATE_TRANSITION",
        {"from": "pending", "to": "processing", "allowed": ["processing", "cancelled"]},
    )
    assert stale == (412, "OPTIMISTIC_LOCK_FAILED", {"expectedVersion": 7, "actualVersion": 1})
    assert unknown[:2] == (404, "ASSESSMENT_NOT_FOUND")
    assert foreign[:2] == (403, "FORBIDDEN")
    assert (out_of_range.status, out_of_range.body["error"]["message"]) == (400, "Progress must be between 0 and 100")
    assert (await web.ask("GET", "/assessments/a-1", user="eve", role=Role.ADMIN)).status == 200


async def test_the_same_key_gives_the_same_answer_even_much_later(web: Web) -> None:
    first = await web.ask("POST", "/assessments", REQUEST, Idempotency_Key="k-1")
    path = f"/assessments/{first.body['assessmentId']}"
    started = await web.ask("POST", f"{path}/start", Idempotency_Key="k-2")
    await web.ask("POST", f"{path}/fail", {"error": "x"})

    again = await web.ask("POST", "/assessments", REQUEST, Idempotency_Key="k-1")
    started_again = await web.ask("POST", f"{path}/start", Idempotency_Key="k-2")
    other = await web.ask("POST", "/assessments", REQUEST | {"priority": 9}, Idempotency_Key="k-1")

    assert (again.status, again.body) == (201, first.body)
    assert (started_again.status, started_again.body) == (200, started.body)
    assert (other.status, other.body["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")


async def test_many_requests_with_one_key_at_once_have_one_effect_and_one_answer(web: Web) -> None:
    answers = await asyncio.gather(*(web.ask("POST", "/assessments", REQUEST, Idempotency_Key="k") for _ in range(20)))

    assert {answer.status for answer in answers} == {201}
    assert len({str(answer.body) for answer in answers}) == 1


async def test_a_key_and_a_command_id_are_one_space(web: Web, installation: Installation) -> None:
    async with open_sender(installation) as sender:
        await sender.send(create("shared", "a-1", userid="alice"), command("start", "start", "a-1"))
        await eventually(lambda: _is(web, "a-1", "processing"), "the command from Kafka")

        answer = await web.ask("POST", "/assessments/a-1/start", Idempotency_Key="start", user="alice")

    assert answer.status in (200, 422), "never a second effect"
    assert (await web.ask("GET", "/assessments/a-1")).body["version"] == 2


async def test_who_does_not_wait_is_answered_as_soon_as_kafka_has_it(web: Web) -> None:
    answer = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"}, Prefer="respond-async")

    assert (answer.status, answer.headers["Location"]) == (202, "/assessments/a-1")
    await eventually(lambda: _is(web, "a-1", "pending"), "the assessment")


async def test_hundreds_who_wait_are_each_told_once_how_it_ended(web: Web) -> None:
    ids = [f"a-{number}" for number in range(20)]
    await asyncio.gather(*(web.ask("POST", "/assessments", REQUEST | {"assessmentId": key}) for key in ids))
    waits = [asyncio.create_task(web.ask("GET", f"/assessments/{key}/wait?timeout=50000")) for key in ids * 10]

    await asyncio.gather(*(web.ask("POST", f"/assessments/{key}/cancel", {"reason": key}) for key in ids))

    answers = await asyncio.gather(*waits)
    assert {(answer.status, answer.body["status"]) for answer in answers} == {(200, "cancelled")}


async def test_a_wait_that_runs_out_says_so(web: Web) -> None:
    await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"})

    answer = await web.ask("GET", "/assessments/a-1/wait?timeout=50")

    assert (answer.status, answer.body["error"]["code"]) == (408, "ASSESSMENT_TIMEOUT")


@pytest.mark.settings(redis_url="redis://127.0.0.1:1/0")
async def test_commands_reads_and_waits_work_without_redis(web: Web) -> None:
    await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"})
    waiting = asyncio.create_task(web.ask("GET", "/assessments/a-1/wait"))

    cancelled = await web.ask("POST", "/assessments/a-1/cancel")

    assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")
    assert (await waiting).body["status"] == "cancelled"
    assert (await web.ask("GET", "/assessments/a-1")).body["version"] == 2
    assert (await web.ask("GET", "/health")).body["overall"] == "degraded"
    assert (await web.ask("GET", "/ready")).status == 200


async def test_two_webs_and_a_killed_worker_answer_as_one(web: Web, cluster: Cluster) -> None:
    """Whoever asks on one web while the other's worker dies is still told the truth."""
    heir = cluster.start()
    async with running_web(cluster.installation) as other:
        await cluster.until_owned_by(*cluster.workers)
        asking = [
            asyncio.create_task(one.ask("POST", "/assessments", REQUEST, Idempotency_Key=f"k-{number}"))
            for number in range(60)
            for one in (web, other)
        ]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        cluster.workers[0].kill9()
        answers = await asyncio.gather(*asking)
        await cluster.until_owned_by(heir)

    assert {answer.status for answer in answers} <= {201, 503}
    for one, twin in zip(answers[::2], answers[1::2], strict=True):
        if one.status == twin.status == 201:
            assert one.body == twin.body
    await assert_exactly_once(cluster.installation)


async def test_a_stop_ends_waits_at_once_with_an_answer(web: Web) -> None:
    await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"})
    waiting = asyncio.create_task(web.ask("GET", "/assessments/a-1/wait?timeout=50000"))
    await eventually(lambda: _waits(web), "the wait to have begun")

    web.process.send_signal(signal.SIGTERM)
    answer = await waiting

    # One that ran out would be a 408.
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    await eventually(lambda: _ended(web), "the end of the web")
    assert web.process.returncode == 0


async def test_the_worker_answers_from_its_table(web: Web, cluster: Cluster) -> None:
    await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"})
    worker_port, web.port = cluster.workers[0].port, cluster.workers[0].port

    own = await web.ask("GET", "/assessments/a-1")
    foreign = await web.ask("GET", "/assessments/a-1", user="bob")
    # The answer comes before the event is published, and what is published is counted.
    metrics = await eventually(lambda: _metrics_with(web, _CREATED), "the create in the worker's metrics")

    assert worker_port == web.port
    assert (own.status, own.body["version"], own.headers["ETag"]) == (200, 1, '"1"')
    assert foreign.status == 403
    assert "a-1" not in metrics


async def _is(web: Web, assessment_id: str, state: str) -> bool:
    answer = await web.ask("GET", f"/assessments/{assessment_id}")
    return answer.status == 200 and answer.body["state"] == state


async def _metrics_with(web: Web, line: str) -> str:
    metrics: str = (await web.ask("GET", "/metrics")).body
    return metrics if line in metrics else ""


async def _waits(web: Web) -> bool:
    return "assessmentstore_waiters 1.0" in (await web.ask("GET", "/metrics")).body


async def _ended(web: Web) -> bool:
    return web.process.poll() is not None
