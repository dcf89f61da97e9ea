"""The audit of refusals: noted at once, written in the background, and never in a request's way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol
from uuid import uuid4

from aiohttp import web

from ..models.base import MAX_ID_LENGTH
from ..models.errors import UnavailableError
from ..store.patience import within
from ..store.refusals import Refusal
from ..telemetry import REFUSALS, REFUSALS_LOST
from .auth import USER
from .middleware import TRACEPARENT, route_pattern
from .proxies import remote_address, safe_text, user_agent

logger = logging.getLogger(__name__)

AUDITED = frozenset({401, 403, 413, 415, 422, 429})
"""The statuses of refusals. A command that the state machine refuses is kept with the commands."""

# What a flood, or a Postgres that is away, may hold: some ten megabytes.
_MOST_HELD = 20_000

_BATCH = 500
_WRITE_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
_LAST_SECONDS = 2.0

_LONGEST_TEXT = 500

_KEPT = timedelta(days=90)
_CLEAN_SECONDS = 3600.0
_CLEAN_AT_ONCE = 1000


class Store(Protocol):
    """Where refusals are kept."""

    async def write(self, refusals: Sequence[Refusal]) -> None:
        """Keep refusals; twice does no harm.

        Raises:
            UnavailableError: try again later.
        """

    async def forget(self, before: datetime, at_most: int) -> int:
        """Delete some of the refusals from before a time, and say how many.

        Raises:
            UnavailableError: try again later.
        """


class Refusals:
    """The refusals of this process on their way to the audit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: deque[Refusal] = deque()
        self._lost = 0
        self._noted = asyncio.Event()
        self._cleaned = float("-inf")

    def note(self, refusal: Refusal) -> None:
        """Take a refusal; where too many are held, this one is lost, and counted."""
        REFUSALS.labels(refusal.code).inc()
        if len(self._held) >= _MOST_HELD:
            self._lost += 1
            REFUSALS_LOST.inc()
            return
        self._held.append(refusal)
        self._noted.set()

    async def run(self) -> None:
        """Write what was noted, until cancelled."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            try:
                await self._write_all()
                await self._clean()
            except (UnavailableError, TimeoutError) as error:
                logger.warning("Refusals wait for Postgres: %s", error, extra={"action": "refusals_wait"})
                self._noted.set()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        """Write what is held, while there is time."""
        try:
            await within(_LAST_SECONDS, self._write_all())
        except (UnavailableError, TimeoutError) as error:
            REFUSALS_LOST.inc(len(self._held))
            words = "%s refusals are not in the audit, only in this log: %s"
            logger.error(words, len(self._held), error, extra={"action": "refusals_lost"})  # noqa: TRY400 - no bug

    async def _write_all(self) -> None:
        while self._held:
            batch = list(islice(self._held, _BATCH))
            await within(_WRITE_SECONDS, self._store.write(batch))
            for _ in batch:
                self._held.popleft()
        if self._lost:
            words = "%s refusals came too fast for the audit; they are only in this log"
            logger.warning(words, self._lost, extra={"action": "refusals_lost"})
            self._lost = 0

    async def _clean(self) -> None:
        """Forget what is too old, a little at a time."""
        if time.monotonic() - self._cleaned < _CLEAN_SECONDS:
            return
        deleted = await within(_WRITE_SECONDS, self._store.forget(datetime.now(UTC) - _KEPT, _CLEAN_AT_ONCE))
        if deleted < _CLEAN_AT_ONCE:
            self._cleaned = time.monotonic()
        else:
            self._noted.set()


AUDIT = web.AppKey("refusals", Refusals)


def note_refusal(request: web.Request, *, status: int, code: str, message: str, assessment_id: str | None) -> None:
    """Put a refused request into the audit, where the application keeps one."""
    if status not in AUDITED or AUDIT not in request.app:
        return
    user = request.get(USER)
    refusal = Refusal(
        id=uuid4(),
        at=datetime.now(UTC),
        user_id=None if user is None else user.id,
        roles="" if user is None else " ".join(sorted(_text(role.replace(" ", "_")) for role in user.roles)),
        method=_text(request.method),
        route=route_pattern(request),
        assessment_id=None if assessment_id is None else _text(assessment_id[:MAX_ID_LENGTH]),
        status=status,
        code=code,
        message=_text(message),
        remote_address=remote_address(request),
        user_agent=user_agent(request),
        trace_id=request[TRACEPARENT].split("-")[1],
    )
    request.app[AUDIT].note(refusal)


def _text(text: str) -> str:
    return safe_text(text, _LONGEST_TEXT)
