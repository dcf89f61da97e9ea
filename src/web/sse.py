"""Server-Sent Events on one response: the texts, the heartbeat, and the end of who does not read."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import orjson
from aiohttp import web

from ..telemetry import STREAM_EVENTS, STREAMS_CUT
from .middleware import begin_answer

# Proxies close what is silent, often after 30 s or more.
HEARTBEAT_SECONDS = 15.0

# A reader that takes nothing for so long is gone or stuck; what it holds in buffers is wanted elsewhere.
WRITE_SECONDS = 30.0

_CLOSE_SECONDS = 1.0

# Milliseconds until a client comes back, a number of its own for each: a restart must not bring all in one moment.
_RETRY = range(1_000, 4_000)

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    # nginx would keep events until a buffer is full.
    "X-Accel-Buffering": "no",
}


class CutOffError(ConnectionError):
    """The reader was too slow, and its connection was aborted."""


def event_text(event_id: str, kind: str, data: str) -> bytes:
    """One event; JSON has no line break outside of its texts, and none inside."""
    return f"id: {event_id}\nevent: {kind}\ndata: {data}\n\n".encode()


def position_only(event_id: str) -> bytes:
    """Move a client's position without an event: it keeps an id that comes alone, and tells nobody."""
    return f"id: {event_id}\n\n".encode()


def reset_text(event_id: str, reason: str) -> bytes:
    """Tell a client that events were lost to it, and from where on it gets all."""
    return event_text(event_id, "reset", orjson.dumps({"reason": reason, "position": event_id}).decode())


def abort(request: web.Request) -> None:
    """End a connection without waiting for its other side."""
    if request.transport is not None:
        request.transport.abort()


class Stream:
    """The answer to one request, for as long as it goes on."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(headers=_HEADERS)
        self._written = time.monotonic()

    @property
    def patience(self) -> float:
        """Seconds that a stream may be silent."""
        return HEARTBEAT_SECONDS

    async def begin(self, event_id: str | None) -> None:
        """Send the headers, and where the stream begins."""
        begin_answer(self._request, self.response)
        await self.response.prepare(self._request)
        retry = f"retry: {random.choice(_RETRY)}\n".encode()  # noqa: S311 - nothing depends on a guess
        await self._write(retry + (position_only(event_id) if event_id else b"\n"))

    async def send(self, texts: Sequence[bytes]) -> None:
        """Send events.

        Raises:
            ConnectionError: the client is gone, or cut off.
        """
        if texts:
            await self._write(b"".join(texts))
            STREAM_EVENTS.inc(len(texts))

    async def move(self, event_id: str) -> None:
        """Send a position alone."""
        await self._write(position_only(event_id))

    async def beat(self, event_id: str | None = None) -> None:
        """Show that the stream is alive where it was silent, and where it is by now."""
        if time.monotonic() - self._written >= HEARTBEAT_SECONDS:
            await self._write(b": heartbeat\n" + (position_only(event_id) if event_id else b"\n"))

    async def close(self) -> None:
        """End the answer in good order, or at once where the client does not take it."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.response.write_eof()
        except (TimeoutError, ConnectionError):
            abort(self._request)

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self.response.write(data)
        except TimeoutError as error:
            STREAMS_CUT.labels("stalled").inc()
            abort(self._request)
            raise CutOffError(f"a reader took nothing for {WRITE_SECONDS:g} s") from error
        self._written = time.monotonic()
