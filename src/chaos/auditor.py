"""An audit service that writes down what it takes; it refuses some at first, some for good, and is away at times."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import asyncpg
import orjson
from aiohttp import web

from ..services.processes import free_ports
from .listener import FaultyListener

_PORTS = range(14_000, 15_000)

# One record in so many is refused the first time, is taken although the answer says otherwise, or is refused for good.
_REFUSED = 13
_TAKEN_IN_SILENCE = 17
_UNWANTED = 29

_WANTED = """
SELECT (SELECT count(*) FROM assessment_audit_trail) - (SELECT count(DISTINCT event_id) FROM audit_dead_letters)
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A record that was taken."""

    id: str
    record: Any


class Auditor(FaultyListener):
    """The server that the workers forward events to."""

    def __init__(self) -> None:
        (port,) = free_ports(1, among=_PORTS)
        super().__init__(port, [web.post("/audit", self._take)])
        self.taken: list[Taken] = []
        """In their order."""
        self.closing = False
        """Whether everything is taken from now on, but for what is refused for good."""
        self._ids: set[str] = set()
        self._tries: dict[str, int] = defaultdict(int)

    async def missing(self, database: asyncpg.Connection) -> int:
        """How many events it has not, which are no dead letters either."""
        return max(0, int(await database.fetchval(_WANTED)) - len(self._ids))

    async def _take(self, request: web.Request) -> web.Response:
        record = orjson.loads(await request.read())
        name = str(record["id"])
        await self._answering.wait()
        self._tries[name] += 1
        if is_unwanted(name):
            return web.Response(status=422)
        first = not self.closing and self._tries[name] == 1
        if first and len(self._tries) % _REFUSED == 0:
            return web.Response(status=503)
        self.taken.append(Taken(name, record))
        self._ids.add(name)
        return web.Response(status=500 if first and len(self._tries) % _TAKEN_IN_SILENCE == 0 else 204)


def is_unwanted(name: str) -> bool:
    """Whether a record is refused for good, by its id."""
    return crc32(name.encode()) % _UNWANTED == 0
