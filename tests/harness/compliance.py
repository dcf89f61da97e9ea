"""A compliance server that does as each request's `serverName` says: well, badly, late or never."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiohttp import web
from pydantic import SecretStr

from assessmentstore.chaos.listener import Listener
from assessmentstore.services.processes import free_ports
from assessmentstore.settings import Settings

from .installation import Installation, create_installation, database_name, drop_database

KEY = "a key for tests"

RESULT = {"overallScore": 90, "totalServers": 3, "note": "kept"}

_PORTS = range(20_000, 24_000)

_STEPS = 2
"""Questions until what is done later is done."""


class Order(NamedTuple):
    """A POST that came."""

    assessment_id: str
    attempt: int
    headers: Mapping[str, str]
    request: dict[str, Any]


class ScriptedServer(Listener):
    """It remembers attempts by their Idempotency-Key until it is told to forget them, or all of it is lost."""

    def __init__(self) -> None:
        (port,) = free_ports(1, among=_PORTS)
        routes = [
            web.post("/assessments", self._order),
            web.get("/assessments/{id}/status", self._status),
            web.delete("/assessments/{id}", self._forget),
        ]
        super().__init__(port, routes)
        self.orders: list[Order] = []
        self.questions: Counter[str] = Counter()
        self.forgotten: list[tuple[str, str]] = []
        self.known: dict[str, Order] = {}
        self.calls: Counter[str] = Counter()
        """POSTs of each attempt that came, whatever became of them."""
        self.hanging = asyncio.Event()
        """While it is clear, nothing is answered."""
        self.hanging.set()
        self.most_at_once = 0
        self._steps: dict[str, int] = defaultdict(int)

    def lose_everything(self) -> None:
        """Forget all attempts, as a restart would."""
        self.known.clear()
        self._steps.clear()

    async def _order(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        order = Order(body["assessmentId"], body["attempt"], dict(request.headers), body["request"])
        key = request.headers["Idempotency-Key"]
        assert key == f"{order.assessment_id}:{order.attempt}"
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return _refusal(401, "UNAUTHORIZED", "who are you?")
        self.calls[key] += 1
        await self.hanging.wait()
        if key not in self.known:
            self.orders.append(order)
        self.known[key] = order
        self.most_at_once = max(self.most_at_once, len(self.known))
        return await self._answer(request, key, order)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        await self.hanging.wait()
        assessment_id = request.match_info["id"]
        self.questions[assessment_id] += 1
        key = f"{assessment_id}:{request.query['attempt']}"
        if key not in self.known:
            return _refusal(404, "NOT_FOUND", "never heard of it")
        self._steps[key] += 1
        return await self._answer(request, key, self.known[key])

    async def _forget(self, request: web.Request) -> web.StreamResponse:
        await self.hanging.wait()
        key = f"{request.match_info['id']}:{request.query['attempt']}"
        self.forgotten.append((request.match_info["id"], request.query["attempt"]))
        return web.Response(status=204 if self.known.pop(key, None) else 404)

    async def _answer(self, request: web.Request, key: str, order: Order) -> web.StreamResponse:
        script = order.request.get("serverName", "at once")
        if script in _ODD:
            return await _ODD[script](request)
        name, _, until = script.partition(" until ")
        if name == "later" and self._steps[key] < _STEPS:
            told = {"progress": 100 * self._steps[key] // _STEPS, "message": f"step {self._steps[key]}"}
            return _json(_report(order, "processing", **told), status=202)
        if until and self.calls[key] >= int(until):
            name = "at once"
        return _CANNED.get(name, _CANNED["at once"])(order)


def _report(order: Order, status: str, **members: Any) -> dict[str, Any]:
    return {"assessmentId": order.assessment_id, "status": status, **members}


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    """A server that listens until the block is left."""
    server = ScriptedServer()
    await server.start()
    try:
        yield server
    finally:
        server.hanging.set()
        await server.stop()


@asynccontextmanager
async def served_by(
    server: ScriptedServer, services: Settings, template: str, folder: Path, **settings: Any
) -> AsyncIterator[Installation]:
    """An installation whose assessments this server carries out, until the block is left."""
    access = {"compliance_url": server.url, "compliance_api_key": SecretStr(KEY)}
    made = await create_installation(services, template, folder, **access, **settings)
    try:
        yield made
    finally:
        await drop_database(services, database_name(made.settings))


def _json(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(content), status=status, content_type="application/json", headers=dict(headers or {})
    )


def _refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return _json({"error": {"code": code, "message": message}}, status=status, headers=headers)


async def _endlessly(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    try:
        while True:
            await answer.write(b" " * 1_000_000)
    except ConnectionError:
        return answer


async def _half_closed(request: web.Request) -> web.StreamResponse:
    """Close the sending side without an answer, and go on listening."""
    assert request.transport is not None
    number = request.transport.get_extra_info("socket").fileno()
    with socket.socket(fileno=os.dup(number)) as connection:
        connection.shutdown(socket.SHUT_WR)
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def _cut_off(request: web.Request) -> web.StreamResponse:
    """Promise more than is sent."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b'{"assessmentId":')
    assert request.transport is not None
    request.transport.abort()
    return answer


async def _hang(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


_ODD: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
    "endless": _endlessly,
    "half closed": _half_closed,
    "cut off": _cut_off,
    "hangs": _hang,
}

_CANNED: dict[str, Callable[[Order], web.Response]] = {
    "at once": lambda order: _json(_report(order, "completed", result=RESULT)),
    "fails": lambda order: _json(_report(order, "failed", error="the disk is gone")),
    "never": lambda order: _json(_report(order, "processing", progress=10), status=202),
    "500": lambda _: _refusal(500, "BROKEN", "a bug"),
    "502": lambda _: web.Response(status=502, text="<html>oh</html>"),
    "429": lambda _: _refusal(429, "BUSY", "not now", {"Retry-After": "1"}),
    "400": lambda _: _refusal(400, "NO_SUCH_CHECK", "deepScan is not sold here"),
    "401": lambda _: _refusal(401, "UNAUTHORIZED", "who are you?"),
    "redirect": lambda _: web.Response(status=302, headers={"Location": "/login"}),
    "not JSON": lambda _: web.Response(text="<html>fine</html>"),
    "another shape": lambda _: _json({"ok": True}),
    "another id": lambda order: _json(_report(order, "completed", result=RESULT) | {"assessmentId": "somebody-else"}),
    "no result": lambda order: _json(_report(order, "completed")),
    "null byte": lambda order: _json(_report(order, "completed", result={"note": "a\x00b"})),
    "wrong result": lambda order: _json(_report(order, "completed", result={"overallScore": "high"})),
    "too large": lambda order: _json(_report(order, "completed", result={"note": "x" * 2_000_000})),
}
"""`<name> until 3` is so until the third POST of the attempt, which goes well."""
