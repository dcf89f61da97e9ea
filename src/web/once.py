"""Whole requests that are answered once: the same key and body have one effect, and get one answer.

What a request is going to do is kept before it does anything, so that a repeat, even after a crash in the middle, does
the same. A request without a key gets one made up, which is told where it could not be finished.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

import orjson
from aiohttp import web

from ..models.base import JsonObject
from ..models.errors import RejectedError, Rejection, UnavailableError
from ..models.sealed import is_same_content
from ..store.batches import BatchRequests, BegunRequest
from ..store.encryption import NO_KEYS, KeyRing
from .freshness import promise, promised
from .headers import REPLAYED, idempotency_key
from .patience import promptly

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a request comes to."""

    name: str
    """Of the route: the same body means something else elsewhere."""
    digest: bytes
    """Of the body."""
    plan: Callable[[], Awaitable[JsonObject]]
    """Decide what depends on the moment."""
    do: Callable[[str, JsonObject], Awaitable[JsonObject]]
    """Do it, given the key and the plan, which is the same for every repeat, and answer."""
    is_secret: bool = False
    """Whether plan and answer are kept sealed, where there are keys."""

    def fingerprint(self, keys: KeyRing) -> bytes:
        """What tells this request from another with the same key."""
        return keys.fingerprint(self.name.encode() + b"\n" + self.digest)


class Once:
    """Answers whole requests."""

    def __init__(self, requests: BatchRequests, keys: KeyRing = NO_KEYS) -> None:
        self._requests = requests
        self._keys = keys

    async def answer(self, request: web.Request, user_id: str, work: Work) -> web.Response:
        """Do the work of a request, or tell what was answered before.

        Raises:
            RejectedError: IDEMPOTENCY_MISMATCH, or what the work raises.
            UnavailableError: Postgres is away.
        """
        told = idempotency_key(request.headers.getall("Idempotency-Key", []))
        key = told or uuid4().hex
        fingerprint = work.fingerprint(self._keys)
        kept = _Kept(self._keys if work.is_secret else NO_KEYS, f"{user_id}\n{key}")
        begun = await self._begun(user_id, key, work, fingerprint, kept)
        if not is_same_content(begun.fingerprint, fingerprint):
            raise RejectedError(Rejection.idempotency_mismatch(key))
        answer = None if begun.answer is None else kept.read(begun.answer)
        if answer is not None and begun.promised is not None:
            promise(begun.promised)
        if answer is None:
            answer = orjson.dumps(await work.do(key, kept.opened(begun.plan)))
            known = told is not None or begun.repeated
            answer = kept.read(await self._keep(user_id, key, kept.written(answer), known=known))
        headers = REPLAYED if begun.repeated else {}
        return web.Response(body=answer, headers={"Content-Type": "application/json", **headers})

    async def _begun(self, user_id: str, key: str, work: Work, fingerprint: bytes, kept: _Kept) -> BegunRequest:
        found = await promptly(self._requests.find(user_id, key))
        if found is not None:
            return found
        plan = kept.sealed(await work.plan())
        return await promptly(self._requests.begin(user_id, key, fingerprint, plan))

    async def _keep(self, user_id: str, key: str, answer: bytes, *, known: bool) -> bytes:
        try:
            if known:
                return await promptly(self._requests.finish(user_id, key, answer, promised()))
            await promptly(self._requests.forget(user_id, key))
        except UnavailableError as error:
            # A repeat finds everything done, and makes the same answer of it.
            logger.warning("An answer was not kept: %s", error, extra={"action": "answer_not_kept"})
        return answer


class _Kept:
    """How plan and answer of one request rest: as they are, or sealed for it alone."""

    def __init__(self, keys: KeyRing, place: str) -> None:
        self._keys = keys
        self._place = place

    def sealed(self, plan: JsonObject) -> JsonObject:
        return self._keys.seal(self._place, plan)

    def opened(self, plan: JsonObject) -> JsonObject:
        return self._keys.open(self._place, plan)

    def written(self, answer: bytes) -> bytes:
        # Without keys it is not even parsed: that of a batch is long.
        return orjson.dumps(self.sealed(orjson.loads(answer))) if self._keys else answer

    def read(self, answer: bytes) -> bytes:
        return orjson.dumps(self.opened(orjson.loads(answer))) if self._keys else answer


ONCE = web.AppKey("once", Once)
