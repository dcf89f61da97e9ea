"""Somebody who is told things: a server that answers as a script says, and remembers what it was sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

Script = Callable[["Sent"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Sent:
    """One request, and how many with its body came before it."""

    body: Any
    raw: bytes
    headers: dict[str, str]
    before: int


async def well(_sent: Sent) -> web.StreamResponse:
    """Take everything."""
    return web.Response(status=204)


def answering(status: int, **headers: str) -> Script:
    """Answer everything with a status; _ in the names of headers for -."""

    async def answer(_sent: Sent) -> web.StreamResponse:
        return web.Response(
            status=status, text="as the script says", headers={name.replace("_", "-"): v for name, v in headers.items()}
        )

    return answer


async def hanging(_sent: Sent) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


@dataclass
class Receiver:
    """The server; `script` may be changed at any time."""

    script: Script = well
    sent: list[Sent] = field(default_factory=list)
    """Everything that came."""
    taken: list[Sent] = field(default_factory=list)
    """What was answered with 2xx."""
    at_once: int = 0
    most_at_once: int = 0
    url: str = ""
    _seen: Counter[bytes] = field(default_factory=Counter)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take a request."""
        raw = await request.read()
        sent = Sent(orjson.loads(raw), raw, {k.lower(): v for k, v in request.headers.items()}, self._seen[raw])
        self._seen[raw] += 1
        self.sent.append(sent)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = await self.script(sent)
        finally:
            self.at_once -= 1
        if answer.status < 300:
            self.taken.append(sent)
        return answer


@asynccontextmanager
async def receiving(receiver: Receiver | None = None, *, port: int = 0) -> AsyncIterator[Receiver]:
    """Run one."""
    receiver = receiver or Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    server = TestServer(app, port=port or None)
    await server.start_server(shutdown_timeout=0.1)
    receiver.url = str(server.make_url("/hook"))
    try:
        yield receiver
    finally:
        await server.close()
