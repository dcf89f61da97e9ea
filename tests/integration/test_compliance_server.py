"""The compliance server as whoever calls it sees it: orders, outcomes, ends, and what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from tests.harness.waiting import eventually

from assessmentstore.compliance.app import build_app
from assessmentstore.compliance.assess import Assessor
from assessmentstore.compliance.modes import Mode
from assessmentstore.compliance.targets import Catalogue
from assessmentstore.models.compliance import ComplianceReport, ComplianceStatus

KEY = "a-key"
HANG = {"customOptions": {"complianceMode": "hanging"}}

Client = TestClient[web.Request, web.Application]
Open = Callable[..., Any]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Open a server that looks at a folder, and return a client of it."""
    (tmp_path / "app.env").write_text("DEBUG=true\n")
    async with AsyncExitStack() as stack:

        async def open_one(mode: Mode = Mode.NORMAL, *, allow_modes: bool = True, most_at_once: int = 10) -> Client:
            catalogue = Catalogue.of([f"files={tmp_path.as_uri()}"])
            assessor = Assessor(catalogue=catalogue, mode=mode, allow_modes=allow_modes)
            server = TestServer(build_app(assessor, KEY, most_at_once=most_at_once))
            client = TestClient(server, headers={"Authorization": f"Bearer {KEY}"})
            return await stack.enter_async_context(client)

        yield open_one


def order(assessment_id: str = "a-1", attempt: int = 0, **request: Any) -> dict[str, Any]:
    wanted = {"assessmentType": "security", "options": {}} | request
    return {"assessmentId": assessment_id, "attempt": attempt, "request": wanted}


async def posted(client: Client, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    async with client.post("/assessments", json=body, headers=headers) as response:
        return response.status, await response.json()


async def status(client: Client, assessment_id: str = "a-1", **query: Any) -> tuple[int, Any]:
    async with client.get(f"/assessments/{assessment_id}/status", params=query) as response:
        return response.status, await response.json()


async def stopped(client: Client, assessment_id: str = "a-1", **query: Any) -> int:
    async with client.delete(f"/assessments/{assessment_id}", params=query) as response:
        return response.status


async def ended(client: Client, assessment_id: str = "a-1") -> ComplianceReport:
    async def end() -> ComplianceReport | None:
        _, body = await status(client, assessment_id)
        report = ComplianceReport.model_validate(body)
        return report if report.has_ended else None

    report = await eventually(end, f"{assessment_id} ends")
    assert report is not None
    return report


async def test_an_order_is_carried_out_and_its_outcome_is_one_of_the_contract(opened: Open) -> None:
    client = await opened()

    code, body = await posted(client, order(), **{"Idempotency-Key": "a-1:0", "traceparent": "00-1-2-01"})

    assert code in {200, 202}
    assert body["assessmentId"] == "a-1"
    report = await ended(client)
    assert (report.status, report.progress) == (ComplianceStatus.COMPLETED, 100)
    assert report.result is not None
    assert [issue.id for issue in report.result.configuration_issues or []] == ["files:debug"]


async def test_the_same_order_again_is_the_same_run(opened: Open) -> None:
    client = await opened()
    body = order(options=HANG)

    answers = [await posted(client, body) for _ in range(3)]

    assert {code for code, _ in answers} == {202}
    assert await stopped(client) == 204
    code, late = await posted(client, body)
    assert (code, late["status"]) == (200, "failed")  # an order behind its own stop begins nothing
    assert (await status(client))[0] == 404


async def test_an_outcome_stays_for_whoever_orders_again(opened: Open) -> None:
    client = await opened()
    await posted(client, order())
    first = await ended(client)

    code, again = await posted(client, order())

    assert code == 200
    assert ComplianceReport.model_validate(again) == first


async def test_another_request_for_the_same_attempt_is_a_conflict(opened: Open) -> None:
    client = await opened()
    await posted(client, order())

    code, body = await posted(client, order(assessmentType="health"))

    assert (code, body["error"]["code"]) == (409, "IDEMPOTENCY_MISMATCH")


async def test_attempts_are_runs_of_their_own(opened: Open) -> None:
    client = await opened()
    await posted(client, order(options=HANG))
    await posted(client, order(attempt=1))

    report = await ended(client)

    assert report.status is ComplianceStatus.COMPLETED
    assert (await status(client, attempt=0))[1]["status"] == "processing"
    assert (await status(client, attempt=1))[1]["status"] == "completed"
    assert (await status(client, attempt=2))[0] == 404


async def test_a_stop_of_one_attempt_leaves_the_others(opened: Open) -> None:
    client = await opened()
    for attempt in (0, 1):
        await posted(client, order(attempt=attempt, options=HANG))

    assert await stopped(client, attempt=0) == 204

    assert (await status(client, attempt=0))[0] == 404
    assert (await status(client, attempt=1))[1]["status"] == "processing"
    assert await stopped(client, attempt=2) == 404
    assert await stopped(client, attempt="x") == 400


async def test_a_stop_makes_room(opened: Open) -> None:
    client = await opened(most_at_once=1)
    await posted(client, order("a-1", options=HANG))
    async with client.post("/assessments", json=order("a-2")) as refused:
        code, retry_after, body = refused.status, refused.headers.get("Retry-After"), await refused.json()

    assert await stopped(client, "a-1") == 204

    assert (code, retry_after, body["error"]["code"]) == (429, "1", "RATE_LIMITED")

    async def taken() -> bool:
        return (await posted(client, order("a-2")))[0] in {200, 202}

    await eventually(taken, "there is room")


async def test_what_is_unknown_is_not_found(opened: Open) -> None:
    client = await opened()

    code, body = await status(client)

    assert (code, body["error"]["code"]) == (404, "ASSESSMENT_NOT_FOUND")
    assert await stopped(client) == 404


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {KEY}", "Bearer", f"Bearer {KEY}x"])
async def test_nobody_comes_in_without_the_key(opened: Open, header: str | None) -> None:
    client = await opened()
    client.session.headers.clear()
    headers = {"Authorization": header} if header else {}

    code, body = await posted(client, order(), **headers)

    assert (code, body["error"]["code"]) == (401, "UNAUTHENTICATED")
    async with client.get("/health", headers=headers) as health:
        assert (health.status, await health.json()) == (200, {"overall": "healthy"})


@pytest.mark.parametrize(
    ("data", "headers", "expected"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 422),
        (b'{"assessmentId":"a","attempt":-1,"request":{}}', {}, 422),
        (b'{"assessmentId":"a","attempt":0,"request":{"options":{}}}', {}, 422),
        (
            b'{"assessmentId":"a","attempt":0,"request":{"assessmentType":"health","options":{}}}',
            {"Idempotency-Key": "b:0"},
            400,
        ),
        (b" " * 1_100_000, {}, 413),
    ],
    ids=["no-json", "no-object", "no-attempt", "no-type", "another-key", "too-large"],
)
async def test_what_is_not_understood_is_refused_with_a_reason(
    opened: Open, data: bytes, headers: dict[str, str], expected: int
) -> None:
    client = await opened()

    async with client.post("/assessments", data=data, headers=headers) as response:
        assert response.status == expected
        error = (await response.json())["error"]

    assert set(error) == {"code", "message"}
    assert error["message"]


@pytest.mark.parametrize(("path", "expected"), [("/nowhere", 404), ("/assessments", 405)])
async def test_other_paths_and_methods_are_refused_in_the_same_words(opened: Open, path: str, expected: int) -> None:
    client = await opened()

    async with client.get(path) as response:
        assert response.status == expected
        assert set((await response.json())["error"]) == {"code", "message"}


async def test_an_assessment_of_servers_that_nobody_knows_fails(opened: Open) -> None:
    client = await opened()

    await posted(client, order(serverName="http://169.254.169.254/"))

    report = await ended(client)
    assert (report.status, report.result) == (ComplianceStatus.FAILED, None)
    assert report.error == "No server is known here by the name of http://169.254.169.254/"


async def test_a_name_that_nobody_knows_is_missing_from_the_result(opened: Open) -> None:
    client = await opened()

    await posted(client, order(options={"serverFilter": ["files", "nobody"]}))

    report = await ended(client)
    assert report.result is not None
    assert (report.result.missing_servers, report.result.total_servers) == (["nobody"], 2)


async def test_a_failing_server_fails_and_a_hanging_one_does_not_end(opened: Open) -> None:
    failing, hanging = await opened(Mode.FAILING), await opened(Mode.HANGING)

    answers = [await posted(client, order()) for client in (failing, hanging)]

    assert [code for code, _ in answers] == [200, 202]
    assert (answers[0][1]["status"], answers[1][1]["status"]) == ("failed", "processing")
    assert "mode" in answers[0][1]["error"]


async def test_a_slow_server_tells_its_progress_on_the_way(opened: Open) -> None:
    client = await opened(Mode.SLOW)

    code, body = await posted(client, order())

    assert (code, body["status"], body["message"]) == (202, "processing", "files: files")
    assert (await ended(client)).status is ComplianceStatus.COMPLETED


@pytest.mark.parametrize(("mode", "allow_modes"), [("hanging", False), ("unheard-of", True), (["x"], True)])
async def test_a_request_chooses_no_mode_that_it_may_not_have(opened: Open, mode: Any, allow_modes: bool) -> None:
    client = await opened(allow_modes=allow_modes)

    code, body = await posted(client, order(options={"customOptions": {"complianceMode": mode}}))

    assert (code, body["error"]["code"]) == (422, "VALIDATION_ERROR")
    assert (await status(client))[0] == 404
