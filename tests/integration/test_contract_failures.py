"""Every error that the OpenAPI document tells of and that takes no assessment, in both renderings, as documented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from tests.harness.calls import Call, call, invalid, of_another_type, too_large
from tests.harness.documented import OpenApi, Told

from assessmentstore.models.errors import UnavailableError
from assessmentstore.settings import Settings
from assessmentstore.web import admission, app, bodies
from assessmentstore.web.admission import is_open
from assessmentstore.web.auth import Role, mint_token
from assessmentstore.web.openapi import openapi_document
from assessmentstore.web.route import Route
from assessmentstore.web.routes import ROUTES

SECRET = "a-secret-that-is-long-enough-for-hs256"
NOWHERE = "127.0.0.1:1"
RENDERINGS = ("application/json", "application/problem+json")
CLOSED = [route for route in ROUTES if route.permission]
STRICT = [route for route in ROUTES if not route.is_probe]
DOCUMENT = OpenApi(openapi_document(ROUTES, "1.2.3"))

ELSEWHERE = {"ASSESSMENT_NOT_FOUND", "ASSESSMENT_TIMEOUT", "INVALID_STATE_TRANSITION", "ASSESSMENT_ALREADY_EXISTS",
             "OPTIMISTIC_LOCK_FAILED", "IDEMPOTENCY_MISMATCH", "WEBHOOK_NOT_FOUND"}  # fmt: skip
"""What takes an assessment, or a command that was sent before: the acceptance test of the contracts has these."""


class Broken:
    """A part of the application that does nothing but fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


def alone(**changes: Any) -> Settings:
    """Settings of a web without any service."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        redis_url=f"redis://{NOWHERE}/0",
        database_url=f"postgresql://{NOWHERE}/none",
        kafka_bootstrap=NOWHERE,
        jwt_secret=SecretStr(SECRET),
        command_timeout=0.5,
        **changes,
    )


@asynccontextmanager
async def serving(application: web.Application) -> AsyncIterator[str]:
    server = TestServer(application)
    await server.start_server(shutdown_timeout=1)
    yield str(server.make_url("")).rstrip("/")
    await server.close()


def broken(error: Exception) -> web.Application:
    """The application, with nothing in it that works."""
    application = app.build_app(alone())
    application.cleanup_ctx.clear()
    application.on_shutdown.clear()
    for name in ("SOURCE", "COMMANDS", "WAITING", "READS", "HEALTH", "METRICS", "FEED", "TRAIL", "MEMORY", "BULK",
                 "BULK_READER", "ONCE", "CLEANUP", "WEBHOOKS", "ROLLOUT", "INTAKE", "NOTIFICATIONS"):  # fmt: skip
        application[getattr(app, name)] = Broken(error)
    return application


def bearer(user: str = "ann", *permissions: str, role: Role = Role.ADMIN) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint_token(SECRET, user, [role], timedelta(hours=1), permissions=permissions)}"}


def code_of(told: Told) -> str:
    assert isinstance(told.body, dict), told
    found: str = told.body["code"] if "problem" in told.content_type else told.body["error"]["code"]
    return found


async def produced(base: str, calls: Mapping[str, Call], headers: Mapping[str, str]) -> set[tuple[str, int, str]]:
    """Send each route's request in both renderings, and tell what it was answered, if that is as documented."""
    found: list[set[tuple[str, int, str]]] = []
    async with ClientSession(headers=headers) as session:
        for rendering in RENDERINGS:
            found.append(set())
            for route in ROUTES:
                if route.name in calls:
                    told = await calls[route.name].with_headers(Accept=rendering).ask(session, base)
                    DOCUMENT.check(route, told)
                    assert told.content_type == rendering, (route.name, told)
                    found[-1].add((route.name, told.status, code_of(told)))
    assert found[0] == found[1]
    return found[0]


def documented(*codes: str) -> set[tuple[str, int, str]]:
    """Every route, status and code of the table, with these codes only."""
    return {
        (route.name, status, code)
        for route in ROUTES
        for status, told in route.failures.items()
        for code in told
        if code in codes
    }


def test_the_errors_are_all_tested_here_or_elsewhere() -> None:
    here = {"VALIDATION_ERROR", "UNAUTHENTICATED", "FORBIDDEN", "RATE_LIMITED", "INTERNAL_ERROR", "SERVICE_UNAVAILABLE",
            "REQUEST_TIMEOUT", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"}  # fmt: skip

    assert {code for route in ROUTES for codes in route.failures.values() for code in codes} == here | ELSEWHERE


def test_routes_without_a_permission_are_the_ones_that_need_no_token() -> None:
    class Request:
        def __init__(self, route: Route) -> None:
            self.match_info = type(
                "", (), {"route": type("", (), {"resource": type("", (), {"canonical": route.path})})}
            )

    assert [route.name for route in ROUTES if is_open(Request(route))] == [  # type: ignore[arg-type]
        route.name for route in ROUTES if not route.permission
    ]


async def test_who_has_no_token_or_not_the_right() -> None:
    calls = {route.name: call(route) for route in CLOSED}
    async with serving(app.build_app(alone())) as base:
        without = await produced(base, calls, {})
        with_another = await produced(base, calls, bearer("eve", "something:else"))

    assert without == documented("UNAUTHENTICATED")
    assert with_another == documented("FORBIDDEN")


async def test_who_asks_too_often() -> None:
    calls = {route.name: call(route) for route in CLOSED}
    async with serving(app.build_app(alone(rate_limit=0.001, rate_burst=1))) as base, ClientSession() as session:
        await Call("GET", "/assessments/%00", headers=bearer()).ask(session, base)
        found = await produced(base, calls, bearer())

    assert found == documented("RATE_LIMITED")


async def test_what_is_broken_and_what_is_away() -> None:
    calls = {route.name: call(route) for route in ROUTES if route.can_fail}
    away = calls.keys() - {"getHealth", "getReadiness"}
    async with serving(broken(ZeroDivisionError("secret"))) as base:
        failed = await produced(base, calls, bearer())
    async with serving(broken(UnavailableError("Postgres is away"))) as base:
        unavailable = await produced(base, {name: calls[name] for name in away}, bearer())

    assert failed == documented("INTERNAL_ERROR")
    assert unavailable == documented("SERVICE_UNAVAILABLE")


async def test_readiness_has_a_503_of_its_own() -> None:
    (ready,) = [route for route in ROUTES if route.name == "getReadiness"]
    async with serving(app.build_app(alone())) as base, ClientSession() as session:
        told = await call(ready).ask(session, base)

    DOCUMENT.check(ready, told)
    assert (told.status, told.body["ready"]) == (503, False)


async def test_what_is_no_valid_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_BATCH_BYTES", 2**20)
    with_body = [route for route in CLOSED if route.body]
    async with serving(app.build_app(alone())) as base:
        wrong = await produced(base, {route.name: invalid(route) for route in STRICT}, bearer())
        large = await produced(base, {route.name: too_large(route, 2**20) for route in with_body}, bearer())
        other = await produced(base, {route.name: of_another_type(route) for route in with_body}, bearer())

    assert wrong == documented("VALIDATION_ERROR")
    assert large == documented("PAYLOAD_TOO_LARGE")
    assert other == documented("UNSUPPORTED_MEDIA_TYPE")


async def test_the_body_of_a_delete_is_read_and_documented() -> None:
    (delete,) = [route for route in ROUTES if route.name == "deleteAssessment"]
    calls = [too_large(delete, 2**20), of_another_type(delete), invalid(delete)]
    async with serving(app.build_app(alone())) as base, ClientSession(headers=bearer()) as session:
        answers = [await made.ask(session, base) for made in calls]

    assert [told.status for told in answers] == [413, 415, 400]
    for told in answers:
        DOCUMENT.check(delete, told)


async def test_no_route_but_a_probe_ignores_a_parameter_that_it_does_not_have() -> None:
    found, probed = {}, {}
    async with serving(app.build_app(alone())) as base, ClientSession(headers=bearer()) as session:
        for route in ROUTES:
            good = call(route)
            path = f"{good.path}{'&' if '?' in good.path else '?'}limits=3"
            told = await replace(good, path=path).ask(session, base)
            DOCUMENT.check(route, told)
            if route.is_probe:
                probed[route.path] = told.status
            else:
                found[route.name] = told.status, told.body["error"]["details"]["parameter"]

    assert found == {route.name: (400, "limits") for route in STRICT}
    assert probed == {"/health": 200, "/ready": 503, "/metrics": 200}


async def test_a_body_that_does_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_BODY_SECONDS", 0.05)
    found = set()
    async with serving(app.build_app(alone())) as base, ClientSession(headers=bearer()) as session:
        for route in CLOSED:
            if route.body:
                for rendering in RENDERINGS:
                    told = await _half(session, base, route, rendering)
                    DOCUMENT.check(route, told)
                    found.add((route.name, told.status, code_of(told)))

    assert found == documented("REQUEST_TIMEOUT")


async def _half(session: ClientSession, base: str, route: Route, rendering: str) -> Told:
    """A request of which half the body comes."""
    answered = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b"{"
        await answered.wait()

    headers = {"Content-Type": "application/json", "Content-Length": "1000", "Accept": rendering}
    async with session.request(route.method, base + call(route).path, data=half(), headers=headers) as answer:
        told = Told(answer.status, answer.content_type, answer.headers.copy(), await answer.json(content_type=None))
        answered.set()
        return told
