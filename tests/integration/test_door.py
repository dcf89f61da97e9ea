"""The door of the real API: who is let in where, how often, and what is remembered of those who are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr
from tests.harness.installation import Installation
from tests.harness.waiting import DEADLINE, eventually
from tests.harness.web import Web

from assessmentstore.settings import Settings
from assessmentstore.store import postgres as postgres_module
from assessmentstore.store.postgres import open_pools
from assessmentstore.store.refusals import RefusalStore
from assessmentstore.web import limits
from assessmentstore.web.admission import OPEN_ROUTES, STREAMS
from assessmentstore.web.app import build_app
from assessmentstore.web.auth import Role, mint_token
from assessmentstore.web.routes import ROUTES

Client = TestClient[web.Request, web.Application]

SECRET = "a-secret-that-is-long-enough-for-hs256"
NOWHERE = "127.0.0.1:1"
RENDERINGS = ["application/json", "application/problem+json"]
REQUEST = {"assessmentType": "health", "options": {}}


def bearer(user: str, role: Role = Role.USER, *permissions: str) -> dict[str, str]:
    minted = mint_token(SECRET, user, [role], timedelta(hours=1), permissions=permissions)
    return {"Authorization": f"Bearer {minted}"}


@asynccontextmanager
async def serving(settings: Settings, **changes: Any) -> AsyncIterator[Client]:
    update = {"jwt_secret": SecretStr(SECRET)} | changes
    server = TestServer(build_app(settings.model_copy(update=update)))
    await server.start_server(shutdown_timeout=2)
    async with TestClient(server) as client:
        yield client


def alone(address: str) -> Settings:
    """Settings of a web whose services are all at one address."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        redis_url=f"redis://{address}/0",
        database_url=f"postgresql://{address}/none",
        kafka_bootstrap=address,
        jwt_secret=SecretStr(SECRET),
        command_timeout=1.0,
    )


def closed_routes() -> list[tuple[str, str]]:
    """Method and path of each route that needs a token; whoever adds a route finds it tested here."""
    routes = build_app(alone(NOWHERE)).router.routes()
    patterns = [(route.method, route.resource.canonical) for route in routes if route.resource is not None]
    return [
        (method, pattern.replace("{id}", "a-1").replace("{webhook}", str(uuid4())))
        for method, pattern in patterns
        if method not in ("HEAD", "OPTIONS", "*") and pattern not in OPEN_ROUTES
    ]


def code_of(body: Any, rendering: str) -> str:
    told: str = (body if "problem" in rendering else body["error"])["code"]
    return told


@pytest.mark.parametrize("rendering", RENDERINGS)
async def test_no_route_lets_anybody_in_without_the_right(rendering: str) -> None:
    routes = closed_routes()
    assert ("POST", "/assessments") in routes
    async with serving(alone(NOWHERE)) as client:
        for method, path in routes:
            for headers, status, code in (
                ({}, 401, "UNAUTHENTICATED"),
                ({"Authorization": "Bearer x.y.z"}, 401, "UNAUTHENTICATED"),
                (bearer("eve", Role.USER, "something:else"), 403, "FORBIDDEN"),
            ):
                answer = await client.request(method, path, headers=headers | {"Accept": rendering})

                body = await answer.json(content_type=None)
                assert (method, path, answer.status, code_of(body, rendering)) == (method, path, status, code)
                assert answer.content_type == rendering
                assert ("WWW-Authenticate" in answer.headers) is (status == 401)
                assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
                assert answer.headers["Cache-Control"] == "no-store"


class Wire:
    """A connection to a service that passes everything on, until it is cut and passes nothing: not even an end."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._passing = asyncio.Event()
        self._passing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self.url = ""

    def cut(self) -> None:
        """Go silent."""
        self._passing.clear()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user, at, _ = self._target.netloc.rpartition("@")
        self.url = urlunsplit(self._target._replace(netloc=f"{user}{at}127.0.0.1:{port}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        if not self._passing.is_set():
            return
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._open.add(far_writer)
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._passing.wait()
            writer.write(data)


BODIES: dict[str, Any] = {
    "/assessments/batch": [REQUEST],
    "/assessments/batch/progress": [{"assessmentId": "a-1", "progress": 5}],
    "/assessments/batch/retry": {"maxRetries": 3},
    "/maintenance/cleanup": {"retentionDays": 30},
    "/assessments/a-1/progress": {"progress": 5},
    "/assessments/a-1/complete": {"result": {}},
    "/assessments/a-1/fail": {"error": "it broke"},
}
"""What a route takes, where it is no request of an assessment."""


async def ask_everything(client: Client) -> dict[str, ClientResponse]:
    """Every closed route at once, as an administrator who does not wait for long."""
    routes = closed_routes()
    asking = [
        client.request(
            method,
            path,
            json=None if method == "GET" else BODIES.get(path, REQUEST),
            headers=bearer("root", Role.ADMIN),
            params={"timeout": "100"} if path.endswith("/wait") else {"q": "x"} if path.endswith("/search") else {},
        )
        for method, path in routes
    ]
    answers = await asyncio.gather(*(asyncio.wait_for(each, DEADLINE) for each in asking), return_exceptions=True)
    hung = [route for route, answer in zip(routes, answers, strict=True) if isinstance(answer, BaseException)]
    assert not hung, hung
    return {
        f"{method} {path}": answer
        for (method, path), answer in zip(routes, answers, strict=True)
        if isinstance(answer, ClientResponse)
    }


async def test_no_route_hangs_when_services_hang_in_the_middle_of_their_work(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "_CONNECT_SECONDS", 1.0)  # a stop waits as long for connections that hang
    async with Wire(settings.database_url) as postgres, Wire(settings.redis_url) as redis, Wire("tcp://-") as kafka:
        kafka.cut()
        wired = {"database_url": postgres.url, "redis_url": redis.url, "kafka_bootstrap": urlsplit(kafka.url).netloc}
        async with serving(settings, command_timeout=1.0, **wired) as client:

            async def serves() -> bool:
                """A connection may take longer than it has here, on a machine that is busy."""
                before = await ask_everything(client)
                return (before["GET /assessments"].status, before["GET /assessments/a-1"].status) == (200, 404)

            await eventually(serves, "the web to serve as long as its services do")
            postgres.cut()
            redis.cut()

            answers = await ask_everything(client)

            told = {route: answer.status for route, answer in answers.items()}
            assert set(told.values()) <= {400, 404, 408, 503}, told
            assert told["GET /assessments"] == told["POST /assessments"] == told["GET /assessments/a-1"] == 503
            assert all(answer.headers["Retry-After"] for answer in answers.values() if answer.status == 503)


@pytest.mark.settings(rate_limit=0.5, rate_burst=4)
async def test_two_processes_share_one_limit_and_waiting_as_told_helps(installation: Installation) -> None:
    webs = [Web(installation), Web(installation)]
    try:
        await asyncio.gather(*(web.until_ready() for web in webs))

        started = time.monotonic()
        answers = await asyncio.gather(*(web.ask("GET", "/assessments/none") for web in webs * 12))
        came_free = (time.monotonic() - started) * 0.5

        statuses = [answer.status for answer in answers]
        assert 4 <= statuses.count(404) <= 4 + came_free + 1
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.body["error"]["code"] == "RATE_LIMITED"
        assert refused.headers["RateLimit-Policy"] == '"user";q=4;w=8'
        assert {(await web.ask("GET", "/health")).status for web in webs * 6} == {200}
        assert (await webs[0].ask("GET", "/assessments/none", user="bob")).status == 404

        async def told() -> str | None:
            return (await webs[0].ask("GET", "/assessments/none")).headers.get("Retry-After")

        seconds = await eventually(told, "a refusal, when what came free meanwhile is used up")
        await asyncio.sleep(int(seconds or 0))
        assert (await webs[1].ask("GET", "/assessments/none")).status == 404
    finally:
        for web in webs:
            web.destroy()


async def test_a_read_that_is_counted_while_it_is_made_is_refused_all_the_same(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(limits, "_REMEMBERED_SECONDS", DEADLINE)
    rare = {"rate_limit": 0.001, "rate_burst": 6}
    async with serving(settings, **rare) as client, serving(settings, **rare) as other:

        async def ask(one: Client) -> tuple[int, str]:
            answer = await one.get("/assessments/a-1", headers=bearer("ann"))
            return answer.status, answer.headers["RateLimit"].split(";")[1]

        assert [await ask(client) for _ in range(2)] == [(404, "r=5"), (404, "r=4")]
        assert [await ask(other) for _ in range(4)] == [(404, f"r={left}") for left in (3, 2, 1, 0)]
        assert await ask(client) == (429, "r=0")


def test_streams_are_known_to_the_door() -> None:
    assert {route.path for route in ROUTES if route.streams} == STREAMS


async def test_the_limit_holds_without_redis_and_nobody_waits_for_it() -> None:
    async with serving(alone(NOWHERE), rate_limit=0.01, rate_burst=3) as client:
        async with asyncio.timeout(DEADLINE):
            statuses = [(await client.get("/assessments/a-1", headers=bearer("ann"))).status for _ in range(6)]

        assert statuses == [503] * 3 + [429] * 3


async def test_a_limit_of_nothing_is_no_limit() -> None:
    async with serving(alone(NOWHERE), rate_limit=0.0) as client:
        answer = await client.get("/assessments/a-1", headers=bearer("ann"))

        assert "RateLimit" not in answer.headers


@pytest.mark.usefixtures("few_guesses")
async def test_whoever_guesses_tokens_is_stopped_and_others_are_not(settings: Settings) -> None:
    async with serving(settings, trusted_proxies="127.0.0.1") as client:
        guess = {"Authorization": "Bearer nonsense", "X-Forwarded-For": "6.6.6.6"}

        statuses = [(await client.get("/assessments/a-1", headers=guess)).status for _ in range(5)]

        assert statuses == [401] * 3 + [429] * 2
        other = {**guess, "X-Forwarded-For": "1.1.1.1"}
        assert (await client.get("/assessments/a-1", headers=other)).status == 401
        honest = bearer("ann") | {"X-Forwarded-For": "6.6.6.6"}
        assert (await client.get("/assessments/a-1", headers=honest)).status == 404


@pytest.fixture
def few_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let three guesses through, and no more."""
    monkeypatch.setattr(limits, "GUESSES", limits.Rate(0.001, 3, "address"))


async def test_each_refusal_is_kept_with_who_when_where_and_why(installation: Installation, settings: Settings) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with installation.database() as database:
        await database.execute(
            "INSERT INTO assessment_states (assessment_id, state, request_data) VALUES ('a-1', 'pending', $1)",
            '{"userId": "bob", "assessmentType": "health", "options": {}}',
        )
    async with serving(settings, trusted_proxies="127.0.0.1", rate_limit=0.001, rate_burst=3) as client:
        agent = {"User-Agent": "x" * 1000, "X-Forwarded-For": "6.6.6.6, 1.1.1.1", "traceparent": trace}
        await client.get("/assessments/a-1", headers=agent)
        await client.get("/assessments/a-1", headers=agent | bearer("ann"))
        await client.post("/assessments", data=b"x" * 1_100_000, headers=bearer("ann", Role.ADMIN))
        await client.post("/assessments/a-1/start", headers=bearer("ann", Role.HUMAN_OVERSIGHT))
        await client.get("/assessments/a-1", headers=bearer("ann"))
        await client.get("/assessments/none", headers=bearer("bob"))  # not found: no refusal
        await client.get("/%00%ff", headers=agent)

    async with installation.database() as database:  # the web has ended: all is written
        rows = await database.fetch("SELECT * FROM access_refusals ORDER BY refused_at")
    assert [(row["status"], row["code"], row["user_id"], row["roles"], row["method"]) for row in rows] == [
        (401, "UNAUTHENTICATED", None, [], "GET"),
        (403, "FORBIDDEN", "ann", ["USER"], "GET"),
        (413, "PAYLOAD_TOO_LARGE", "ann", ["ADMIN"], "POST"),
        (403, "FORBIDDEN", "ann", ["HUMAN_OVERSIGHT"], "POST"),
        (429, "RATE_LIMITED", "ann", ["USER"], "GET"),
    ]
    first, second = rows[0], rows[1]
    assert (first["route"], first["assessment_id"]) == ("/assessments/{id}", "a-1")
    assert second["message"] == "Assessment a-1 belongs to another user"
    assert (first["remote_address"], rows[2]["remote_address"]) == ("1.1.1.1", "127.0.0.1")
    assert (len(first["user_agent"]), first["trace_id"]) == (500, trace.split("-")[1])
    assert abs(first["refused_at"] - datetime.now(UTC)) < timedelta(minutes=5)


async def test_a_flood_of_refusals_is_kept_and_slows_nobody(installation: Installation, settings: Settings) -> None:
    async with serving(settings, rate_limit=0.0) as client, installation.database() as database:
        flood = [client.get("/assessments/a-1", headers={"User-Agent": f"\x80\xff{n}"}) for n in range(2000)]

        answers = await asyncio.gather(*flood)

        async def kept() -> bool:
            return bool(await database.fetchval("SELECT count(*) FROM access_refusals") == 2000)

        await eventually(kept, "2000 refusals in the audit")
        assert {answer.status for answer in answers} == {401}


async def test_old_refusals_go_and_young_ones_stay(installation: Installation, settings: Settings) -> None:
    columns = "id, refused_at, roles, method, route, status, code, message, remote_address, trace_id"
    async with installation.database() as database, open_pools(settings, application="test") as pools:
        await database.execute(
            f"INSERT INTO access_refusals ({columns}) SELECT gen_random_uuid(), now() - make_interval(days => n),"
            " '{}', 'GET', '/', 401, 'X', '', '', '' FROM generate_series(1, 10) AS n"
        )
        store, before = RefusalStore(pools.write), datetime.now(UTC) - timedelta(days=4, hours=12)

        assert [await store.forget(before, 4) for _ in range(3)] == [4, 2, 0]
        assert await database.fetchval("SELECT count(*) FROM access_refusals") == 4


async def test_raw_garbage_at_the_real_port_leaves_it_well(installation: Installation) -> None:
    web = Web(installation)
    try:
        await web.until_ready()
        for garbage in (b"\x00" * 100_000, b"GET / HTTP/1.1\r\n" * 100 + b"\r\n", b"\r\n" * 10 + b"x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(garbage)
            answer = await asyncio.wait_for(reader.read(), DEADLINE)
            writer.close()
            assert answer.startswith(b"HTTP/1.0 400 ")
            assert b"\r\nVary: Accept\r\n" in answer
            assert answer.endswith(
                b'{"error":{"code":"VALIDATION_ERROR","message":"This is not a valid HTTP request"}}'
            )
        assert (await web.ask("GET", "/health")).status == 200
    finally:
        web.destroy()
