"""An HTTP server that gives prepared answers, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from aiohttp.test_utils import TestServer

from assessmentstore.services.processes import free_ports

_PORTS = range(24_000, 28_000)

STATE: dict[str, Any] = {
    "assessmentId": "a-1",
    "state": "processing",
    "version": 2,
    "progress": 40,
    "message": "half way [not really]",
    "createdAt": "2026-01-02T03:04:05Z",
    "updatedAt": "2026-01-02T03:04:06Z",
    "requestData": {"assessmentType": "health", "options": {}},
}


def refusal(code: str, message: str = "no", **details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details}}


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Streamed:
    """An answer that comes in pieces, and then ends, is cut off in the middle, or stays open."""

    pieces: tuple[bytes, ...]
    then: Literal["end", "cut", "stay"] = "end"


def event(version: int, kind: str = "progress", assessment_id: str = "a-1", **members: Any) -> dict[str, Any]:
    """A change event as the API tells it."""
    state = {"progress": "processing", "created": "pending", "started": "processing"}.get(kind, kind)
    return {
        "assessmentId": assessment_id,
        "type": f"assessment.{kind}",
        "version": version,
        "state": state,
        "previousState": "processing",
        "progress": 50,
        "message": None,
        "commandId": f"c-{version}",
        "userId": "alice",
        "occurredAt": "2026-01-02T03:04:07Z",
        **members,
    }


def sse(data: dict[str, Any], event_id: str | None = None, kind: str | None = None) -> bytes:
    """An event of a stream."""
    name, place = kind or data["type"], event_id or data["version"]
    return f"id: {place}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


@dataclass
class FakeApi:
    """Answers in order, the last one again and again."""

    answers: list[web.Response | Streamed] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    at: dict[str, Any] = field(default_factory=dict)
    """Answers by their path, whenever that is asked; they go before the others."""

    def will_answer(self, body: Any, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str):
            self.answers.append(web.Response(text=body, status=status, headers=named))
        else:
            self.answers.append(web.json_response(body, status=status, headers=named))

    def will_stream(self, *pieces: bytes, then: Literal["end", "cut", "stay"] = "end") -> None:
        self.answers.append(Streamed((b"retry: 1\n\n", *pieces), then))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        headers = dict(request.headers)
        self.asked.append(Asked(request.method, request.raw_path.split("?")[0], dict(request.query), headers, body))
        if request.path in self.at:
            return web.json_response(self.at[request.path])
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Streamed):
            return await _stream(request, answer)
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


async def _stream(request: web.Request, answer: Streamed) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for piece in answer.pieces:
        await response.write(piece)
    if answer.then == "cut":
        assert request.transport is not None
        request.transport.close()
    if answer.then == "stay":
        await asyncio.Event().wait()
    return response


def free_port() -> int:
    """A port for a server that is to be away for a while: none that outgoing connections get meanwhile."""
    return free_ports(1, among=_PORTS)[0]


@asynccontextmanager
async def serving(api: FakeApi, port: int = 0) -> AsyncIterator[str]:
    """Serve on this machine, and yield the URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    server = TestServer(app, port=port or None)
    # Who streams for ever is not waited for.
    await server.start_server(shutdown_timeout=0.05)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.close()
