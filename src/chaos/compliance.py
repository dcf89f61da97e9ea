"""A compliance server that remembers all it said: well, slow, failing, stumbling or silent, by the assessment's number.

It serves the executor of the workers under test, from the process of the run. What is not meant for it is taken up all
the same, and left to its client for a while: so both drive it at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from ..services.processes import free_ports
from .listener import FaultyListener
from .lives import is_served, number_of

_PORTS = range(12_000, 13_000)

# Until then whoever else drives an assessment has it for himself.
_OTHERS_SECONDS = 2.5

# Questions until what is done later is done.
_STEPS = 3

_SILENT_SECONDS = 30.0


class Key(NamedTuple):
    """An attempt."""

    assessment: str
    attempt: int


@dataclass
class _Order:
    """An attempt that the server works on."""

    since: float
    questions: int = 0


@dataclass
class Said:
    """All that the server said, by the attempt."""

    orders: dict[Key, int] = field(default_factory=lambda: defaultdict(int))
    """How often each was ordered."""
    results: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The note in each result that was told."""
    failures: set[Key] = field(default_factory=set)
    forgotten: set[Key] = field(default_factory=set)


class Compliance(FaultyListener):
    """The server."""

    def __init__(self) -> None:
        (port,) = free_ports(1, among=_PORTS)
        routes = [
            web.post("/assessments", self._order),
            web.get("/assessments/{id}/status", self._status),
            web.delete("/assessments/{id}", self._forget),
        ]
        super().__init__(port, routes)
        self.said = Said()
        self.closing = False
        """Whether all is to come to an end at once."""
        self._known: dict[Key, _Order] = {}

    async def stop(self) -> None:
        """Be gone, with all that was under way."""
        await super().stop()
        self._known.clear()

    async def _order(self, request: web.Request) -> web.Response:
        body = await request.json()
        key = Key(body["assessmentId"], body["attempt"])
        self.said.orders[key] += 1
        await self._answering.wait()
        if is_served(key.assessment) and not self.closing and self.said.orders[key] == 1:
            match number_of(key.assessment) % 7:
                case 0:
                    return _json({"error": {"code": "BROKEN", "message": "a bug"}}, status=502)
                case 1:
                    await asyncio.sleep(_SILENT_SECONDS)
        self._known.setdefault(key, _Order(time.monotonic()))
        return self._report(key)

    async def _status(self, request: web.Request) -> web.Response:
        key = _key(request)
        await self._answering.wait()
        if key not in self._known:
            return _json({"error": {"code": "NOT_FOUND", "message": "never heard of it"}}, status=404)
        self._known[key].questions += 1
        return self._report(key)

    async def _forget(self, request: web.Request) -> web.Response:
        key = _key(request)
        await self._answering.wait()
        self.said.forgotten.add(key)
        return web.Response(status=204 if self._known.pop(key, None) else 404)

    def _report(self, key: Key) -> web.Response:
        order = self._known[key]
        if not self._is_done(key, order):
            told = {"progress": min(99, 100 * order.questions // _STEPS), "message": f"step {order.questions}"}
            return _json({"assessmentId": key.assessment, "status": "processing", **told}, status=202)
        if is_served(key.assessment) and number_of(key.assessment) % 3 == 0 and key.attempt == 0:
            self.said.failures.add(key)
            return _json({"assessmentId": key.assessment, "status": "failed", "error": f"attempt {key.attempt}"})
        note = f"{key.assessment}:{key.attempt}:{self.said.orders[key]}"
        self.said.results[key].add(note)
        result = {"overallScore": 50 + key.attempt, "totalServers": 1, "note": note}
        return _json({"assessmentId": key.assessment, "status": "completed", "result": result})

    def _is_done(self, key: Key, order: _Order) -> bool:
        if self.closing:
            return True
        if is_served(key.assessment):
            return order.questions >= number_of(key.assessment) % (_STEPS + 1)
        return time.monotonic() - order.since > _OTHERS_SECONDS


def _key(request: web.Request) -> Key:
    return Key(request.match_info["id"], int(request.query["attempt"]))


def _json(content: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")
