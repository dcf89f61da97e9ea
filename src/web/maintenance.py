"""Cleanup: what ended long ago is deleted, and every cache forgets it."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from aiohttp import web

from ..models.base import JsonObject
from ..models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from ..store.cache import SharedCache
from ..store.maintenance import Maintenance
from ..store.reads import StateReader
from .auth import Permission, authorize
from .bodies import read_object, whole_member
from .deletions import Deletions
from .once import ONCE, Work
from .patience import promptly
from .requests import LARGEST_COUNT

logger = logging.getLogger(__name__)

# Longer requests are cut off by proxies: a cleanup of millions is several requests with one key.
_CLEANUP_SECONDS = 20.0

# One chunk takes some ten milliseconds.
_CHUNK_SECONDS = 10.0

# What ended just now stays until a worker notes that its events are published, a second or so later. Without Kafka that
# takes longer: then it stays for the next cleanup.
_PUBLISH_SECONDS = 3.0
_PUBLISH_PAUSE = 0.1


class Cleanup:
    """Deletes, and tells the caches."""

    def __init__(self, store: Maintenance, cache: SharedCache, reader: StateReader, deletions: Deletions) -> None:
        self._store = store
        self._deletions = deletions
        self._cache = cache
        self._reader = reader

    async def plan(self, days: int) -> JsonObject:
        """From when on assessments stay; the same for every repeat."""
        return {"before": (await promptly(self._store.retention_start(days))).isoformat(), "deleted": 0}

    async def run(self, user_id: str, key: str, plan: JsonObject) -> int:
        """Delete chunk after chunk, and tell how many assessments are gone.

        Raises:
            RejectedError: SERVICE_UNAVAILABLE, there is more than one request can delete.
            UnavailableError: Postgres is away.
        """
        started, before = _clock(), datetime.fromisoformat(plan["before"])
        try:
            deleted = await self._delete(user_id, key, before, started)
        finally:
            await self._deletions.tell()
        while not await promptly(self._store.forget_some(before), seconds=_CHUNK_SECONDS):
            _check_time(started, key, deleted)
        return deleted

    async def _delete(self, user_id: str, key: str, before: datetime, started: float) -> int:
        """Delete the assessments that ended before a time."""
        while True:
            # In this order: what is published in between is passed over by neither.
            some_stay = await promptly(self._store.unpublished(ended_before=before))
            chunk = await promptly(self._store.delete_some(user_id, key, ended_before=before), seconds=_CHUNK_SECONDS)
            if chunk.deleted:
                await self._evict(chunk.deleted)
            if chunk.last:
                if not some_stay or _clock() > started + _PUBLISH_SECONDS:
                    return chunk.total
                await asyncio.sleep(_PUBLISH_PAUSE)
            else:
                _check_time(started, key, chunk.total)

    async def _evict(self, assessment_ids: list[str]) -> None:
        self._reader.forget(assessment_ids)
        try:
            await self._cache.evict(assessment_ids)
        except UnavailableError as error:
            # What Redis has ends by itself within minutes; web processes that miss the news forget all they know when
            # they hear from Redis again; workers judge no command by a deleted state.
            logger.warning("Deleted assessments stay cached for now: %s", error, extra={"action": "evict_unavailable"})


CLEANUP = web.AppKey("cleanup", Cleanup)


async def cleanup(request: web.Request) -> web.Response:
    """`POST /maintenance/cleanup`."""
    user = authorize(request, Permission.MAINTAIN)
    days = whole_member(await read_object(request), "retentionDays", largest=LARGEST_COUNT)

    async def plan() -> JsonObject:
        return await request.app[CLEANUP].plan(days)

    async def do(key: str, plan: JsonObject) -> JsonObject:
        deleted = await request.app[CLEANUP].run(user.id, key, plan)
        logger.info(
            "%s deleted %d assessments that ended more than %d days ago",
            user.id,
            deleted,
            days,
            extra={"action": "cleanup", "deleted": deleted, "retention_days": days, "ended_before": plan["before"]},
        )
        return {"deleted": deleted}

    return await request.app[ONCE].answer(request, user.id, Work(name="cleanup", digest=b"%d" % days, plan=plan, do=do))


def _clock() -> float:
    return asyncio.get_running_loop().time()


def _check_time(started: float, key: str, deleted: int) -> None:
    """Go on, or let the caller ask again."""
    if _clock() <= started + _CLEANUP_SECONDS:
        return
    words = (
        f"{deleted} assessments are deleted, and there is more to delete:"
        f" send the same request again with the Idempotency-Key {key}"
    )
    details = {"idempotencyKey": key, "deleted": deleted}
    raise RejectedError(Rejection(ErrorCode.SERVICE_UNAVAILABLE, words, details))
