"""Both renderings of every error, as a client sees them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY as METRICS

from assessmentstore.models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from assessmentstore.web.errors import MIDDLEWARES, REGISTRY

Client = TestClient[web.Request, web.Application]

PROBLEM = {"Accept": "application/problem+json"}

ERRORS: dict[str, Exception] = {
    **{code: RejectedError(Rejection(code, f"words of {code}"), assessment_id="a-1") for code in ErrorCode},
    "details": RejectedError(Rejection.invalid("wrong", errors=[1])),
    "away": UnavailableError("Postgres does not answer: 10.0.0.7"),
    "bug": ZeroDivisionError("secret"),
}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async def fail(request: web.Request) -> web.Response:
        raise ERRORS[request.match_info["error"]]

    app = web.Application(middlewares=MIDDLEWARES)
    app.router.add_get("/fail/{error}", fail)
    app.router.add_post("/assessments", fail)
    async with TestClient(TestServer(app)) as client:
        yield client


def counted(error_type: str) -> float:
    return METRICS.get_sample_value("assessmentstore_errors_total", {"error_type": error_type}) or 0.0


def test_every_code_has_a_status() -> None:
    assert set(REGISTRY) == set(ErrorCode)


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_the_envelope_has_code_and_words(client: Client, code: ErrorCode) -> None:
    answer = await client.get(f"/fail/{code}")

    assert answer.status == REGISTRY[code][0]
    assert answer.content_type == "application/json"
    assert answer.headers["Vary"] == "Accept"
    assert await answer.json() == {"error": {"code": code, "message": f"words of {code}", "assessmentId": "a-1"}}


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_the_problem_document_has_the_same_words(client: Client, code: ErrorCode) -> None:
    answer = await client.get(f"/fail/{code}", headers=PROBLEM)

    status, title = REGISTRY[code]
    assert answer.status == status
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Vary"] == "Accept"
    assert await answer.json(content_type=None) == {
        "type": f"urn:assessmentstore:problem:{code.lower().replace('_', '-')}",
        "title": title,
        "status": status,
        "detail": f"words of {code}",
        "instance": f"/fail/{code}",
        "code": code,
        "assessmentId": "a-1",
    }


@pytest.mark.parametrize("headers", [{}, PROBLEM])
async def test_details_are_told_where_there_are_some(client: Client, headers: dict[str, str]) -> None:
    body: dict[str, Any] = await (await client.get("/fail/details", headers=headers)).json(content_type=None)

    assert body.get("error", body)["details"] == {"errors": [1]}


async def test_a_bug_leaks_nothing_and_is_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    answer = await client.get("/fail/bug")

    assert answer.status == 500
    assert await answer.json() == {"error": {"code": "INTERNAL_ERROR", "message": "Internal server error"}}
    assert "ZeroDivisionError" in caplog.text


async def test_a_service_that_is_away_is_no_secret_but_its_address_is(client: Client) -> None:
    answer = await client.get("/fail/away")

    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert "10.0.0.7" not in await answer.text()


async def test_a_missing_token_is_asked_for(client: Client) -> None:
    answer = await client.get(f"/fail/{ErrorCode.UNAUTHENTICATED}")

    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_refusal_of_access_is_logged_with_its_route(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await client.get(f"/fail/{ErrorCode.FORBIDDEN}")

    (line,) = [entry for entry in caplog.records if getattr(entry, "action", "") == "access_refused"]
    assert line.route == "GET /fail/{error}"  # type: ignore[attr-defined]


async def test_a_lock_that_if_match_asked_for_fails_as_a_precondition(client: Client) -> None:
    answer = await client.get(f"/fail/{ErrorCode.OPTIMISTIC_LOCK_FAILED}", headers={"If-Match": '"1"'})

    assert answer.status == 412


async def test_an_unknown_route_and_a_wrong_method_have_the_same_shape(client: Client) -> None:
    unknown, wrong = await client.get("/nowhere"), await client.delete("/fail/bug")

    assert (unknown.status, (await unknown.json())["error"]["code"]) == (404, "NOT_FOUND")
    assert (wrong.status, (await wrong.json())["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["Allow"] == "GET,HEAD"


async def test_errors_are_counted_by_code_and_by_the_types_of_the_reference(client: Client) -> None:
    before = counted("INTERNAL_ERROR"), counted("create_assessment_error")

    await client.post("/assessments")

    assert (counted("INTERNAL_ERROR"), counted("create_assessment_error")) == (before[0] + 1, before[1] + 1)


async def test_requests_are_measured_by_route_not_by_path(client: Client) -> None:
    labels = {"route": "/fail/{error}", "status": "500"}
    before = METRICS.get_sample_value("assessmentstore_http_requests_total", labels) or 0.0

    await client.get("/fail/bug")

    assert METRICS.get_sample_value("assessmentstore_http_requests_total", labels) == before + 1
