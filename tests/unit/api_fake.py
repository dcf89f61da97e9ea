"""An HTTP server that gives prepared answers, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

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


@dataclass
class FakeApi:
    """Answers in order, the last one again and again."""

    answers: list[web.Response] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def will_answer(self, body: Any, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str):
            self.answers.append(web.Response(text=body, status=status, headers=named))
        else:
            self.answers.append(web.json_response(body, status=status, headers=named))

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        headers = dict(request.headers)
        self.asked.append(Asked(request.method, request.raw_path.split("?")[0], dict(request.query), headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


@asynccontextmanager
async def serving(api: FakeApi, port: int = 0) -> AsyncIterator[str]:
    """Serve on this machine, and yield the URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    async with TestServer(app, port=port or None) as server:
        yield f"http://127.0.0.1:{server.port}"
