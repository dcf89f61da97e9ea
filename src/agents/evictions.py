"""Deleted assessments leave the tables of this worker.

A message that is lost leaves a deleted state in a table until RocksDB drops what nobody touched for a week. No command
is judged by it: refusals are decided again on Postgres' own rows, and changes fit no row. Only a read on the worker's
own port would still find it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from typing import cast

import orjson
import structlog

from ..models.errors import UnavailableError
from ..store.cache import DELETED, Message, SharedCache

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 1.0
_CANCEL_SECONDS = 0.1

Evict = Callable[[Collection[str]], None]


@asynccontextmanager
async def evicting(cache: SharedCache, evict: Evict) -> AsyncIterator[None]:
    """Evict what is told to be deleted, meanwhile."""
    task = asyncio.create_task(_listen_on(cache, evict), name="evictions")
    try:
        yield
    finally:
        # A driver that connects just now may lose a cancellation (redis-py does on Python 3.11): ask until it is heard.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_SECONDS)


async def _listen_on(cache: SharedCache, evict: Evict) -> None:
    while True:
        try:
            await _listen(cache, evict)
        except UnavailableError as error:
            log.debug("deletions are not heard of", why=str(error))
        except Exception:
            # Nothing that is told of deletions may end a worker.
            log.exception("a deletion was not understood")
        await asyncio.sleep(_PAUSE_SECONDS)


async def _listen(cache: SharedCache, evict: Evict) -> None:
    async with aclosing(cast("AsyncGenerator[Message]", cache.messages(DELETED))) as stream:
        async for _, message in stream:
            if message:
                evict(orjson.loads(message))
