"""Reads of one assessment over a fake source, through the routes that the worker mounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from unittest.mock import MagicMock
from urllib.parse import unquote

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.errors import UnavailableError
from assessmentstore.models.positions import Positions
from assessmentstore.settings import Settings
from assessmentstore.web import reads
from assessmentstore.web.auth import Authenticator, Role, mint_token
from assessmentstore.web.health import Health, Metrics
from assessmentstore.web.patience import promptly
from assessmentstore.web.worker_routes import add_worker_routes

Client = TestClient[web.Request, web.Application]

SECRET = "a-secret-that-is-long-enough-for-hs256"
NOW = datetime.now(UTC)


def state(version: int, assessment_id: str = "a-1") -> AssessmentRecord:
    return AssessmentRecord(
        assessment_id=assessment_id,
        state=AssessmentState.PROCESSING,
        version=version,
        created_at=NOW,
        updated_at=NOW,
        request_data={"userId": "ann"},
    )


class FakeSource:
    """Answers with one state after another; the last one stays."""

    def __init__(self, *states: AssessmentRecord | None) -> None:
        self.states = list(states)
        self.asked: list[tuple[str, int]] = []
        self.is_away = False
        self.hangs = False
        self.positions: Positions | None = None

    async def get(
        self, assessment_id: str, *, min_version: int = 0, positions: Positions | None = None
    ) -> AssessmentRecord | None:
        self.asked.append((assessment_id, min_version))
        self.positions = positions
        if self.is_away:
            raise UnavailableError("Postgres does not answer")
        if self.hangs:
            await asyncio.Event().wait()
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(state(3))


@pytest.fixture
async def client(source: FakeSource) -> AsyncIterator[Client]:
    app = web.Application()
    health, metrics = Health({}), Metrics(Settings(), MagicMock())
    add_worker_routes(app, source=source, authenticator=Authenticator(SECRET), health=health, metrics=metrics)
    async with TestClient(TestServer(app), headers=token("ann")) as client:
        yield client


def token(user: str, role: Role = Role.USER) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint_token(SECRET, user, [role], timedelta(hours=1))}"}


async def test_the_state_comes_with_its_version_as_etag(client: Client) -> None:
    answer = await client.get("/assessments/a-1")

    assert answer.status == 200
    assert answer.headers["ETag"] == '"3"'
    assert await answer.json() == state(3).model_dump(mode="json", by_alias=True)


async def test_a_known_version_is_not_sent_again(client: Client) -> None:
    answer = await client.get("/assessments/a-1", headers={"If-None-Match": '"3"'})

    assert (answer.status, answer.headers["ETag"], await answer.read()) == (304, '"3"', b"")


async def test_an_unknown_assessment_is_not_found(client: Client, source: FakeSource) -> None:
    source.states = [None]

    answer = await client.get("/assessments/a-1")

    assert (answer.status, len(source.asked)) == (404, 1)
    assert await answer.json() == {
        "error": {"code": "ASSESSMENT_NOT_FOUND", "message": "Assessment a-1 not found", "assessmentId": "a-1"}
    }


@pytest.mark.parametrize(
    ("user", "role", "status"),
    [("ann", Role.USER, 200), ("bob", Role.USER, 403), ("bob", Role.ADMIN, 200), ("bob", Role.HUMAN_OVERSIGHT, 200)],
)
async def test_only_the_owner_and_the_overseers_see_it(client: Client, user: str, role: Role, status: int) -> None:
    assert (await client.get("/assessments/a-1", headers=token(user, role))).status == status


async def test_a_token_without_the_permission_is_not_enough(client: Client, source: FakeSource) -> None:
    claims = {"sub": "ann", "permissions": ["create:assessment"], "exp": NOW + timedelta(hours=1)}
    headers = {"Authorization": "Bearer " + jwt.encode(claims, SECRET)}

    answer = await client.get("/assessments/a-1", headers=headers)

    assert (answer.status, (await answer.json())["error"]["code"]) == (403, "FORBIDDEN")
    assert source.asked == []


async def test_without_a_token_nothing_is_told(client: Client, source: FakeSource) -> None:
    answer = await client.get("/assessments/a-1", headers={"Authorization": "Bearer x"})

    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert source.asked == []


async def test_a_version_that_is_a_moment_away_is_waited_for(
    client: Client, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "_MIN_VERSION_SECONDS", 60.0)
    source.states = [None, state(2), state(4)]

    answer = await client.get("/assessments/a-1?minVersion=4")

    assert (answer.status, answer.headers["ETag"]) == (200, '"4"')
    assert source.asked == [("a-1", 4)] * 3


async def test_a_version_that_does_not_come_is_unavailable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "_MIN_VERSION_SECONDS", 0.1)

    answer = await client.get("/assessments/a-1?minVersion=4")

    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    error = (await answer.json())["error"]
    assert (error["code"], error["details"]) == ("SERVICE_UNAVAILABLE", {"minVersion": 4, "version": 3})


@pytest.mark.parametrize("text", ["", "-1", "2147483648", "1.0", "1e1", "1_0", "new", "٣", " 1", "9" * 100])
async def test_a_wrong_min_version_is_refused(client: Client, text: str) -> None:
    answer = await client.get("/assessments/a-1", params={"minVersion": text})

    assert (answer.status, (await answer.json())["error"]["details"]["parameter"]) == (400, "minVersion")


async def test_a_parameter_that_no_route_of_a_worker_has_is_refused(client: Client) -> None:
    answer = await client.get("/assessments/a-1", params={"verbose": "1"})

    assert (answer.status, (await answer.json())["error"]["details"]["parameter"]) == (400, "verbose")


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_what_a_probe_adds_takes_no_healthy_worker_out(client: Client, path: str) -> None:
    plain, probed = [await client.get(path, params=params) for params in ({}, {"_": "1", "format": "x"})]

    assert plain.status == probed.status == 200


async def test_a_source_that_hangs_is_given_up(
    client: Client, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "promptly", partial(promptly, seconds=0.01))
    source.hangs = True

    assert (await client.get("/assessments/a-1")).status == 503


async def test_a_source_that_is_away_is_unavailable(client: Client, source: FakeSource) -> None:
    source.is_away = True

    answer = await client.get("/assessments/a-1")

    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize("path", ["a%20b", "a%2Fb", "%C3%BC", "%7Bx%7D", "50%25"])
async def test_any_id_can_be_asked_for(client: Client, source: FakeSource, path: str) -> None:

    assert (await client.get(URL(f"/assessments/{path}", encoded=True))).status == 200
    assert source.asked == [(unquote(path), 0)]


@pytest.mark.parametrize("path", ["%00", "x" * 256])
async def test_an_id_that_nothing_can_have_is_not_found(client: Client, source: FakeSource, path: str) -> None:

    assert (await client.get(URL(f"/assessments/{path}", encoded=True))).status == 404
    assert source.asked == []


async def test_the_trace_context_comes_back(client: Client) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    answer = await client.get("/assessments/a-1", headers={"traceparent": trace})

    assert answer.headers["traceparent"] == trace
    assert answer.headers["Server"] == "assessmentstore"


async def test_a_worker_without_a_secret_serves_no_states(source: FakeSource) -> None:
    app = web.Application()
    health, metrics = Health({}), Metrics(Settings(), MagicMock())
    add_worker_routes(app, source=source, authenticator=None, health=health, metrics=metrics)

    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/assessments/a-1")).status == 404
        assert (await client.get("/ready")).status == 200
