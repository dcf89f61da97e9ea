"""Deleted assessments leave the tables of this worker.

A message that is lost leaves a deleted state in a table until RocksDB drops what nobody touched for a week. No command
is judged by it: refusals are decided again on Postgres' own rows, and changes fit no row. Only a read on the worker's
own port would still find it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import cast

import orjson
import structlog

from ..models.errors import UnavailableError
from ..store.background import background
from ..store.cache import DELETED, Message, SharedCache

log = structlog.get_logger(__name__)

Evict = Callable[[Collection[str]], None]


def evicting(cache: SharedCache, evict: Evict) -> AbstractAsyncContextManager[None]:
    """Evict what is told to be deleted, meanwhile."""
    return background(partial(_listen_while_told, cache, evict))


async def _listen_while_told(cache: SharedCache, evict: Evict) -> None:
    try:
        await _listen(cache, evict)
    except UnavailableError as error:
        log.debug("deletions are not heard of", why=str(error))


async def _listen(cache: SharedCache, evict: Evict) -> None:
    async with aclosing(cast("AsyncGenerator[Message]", cache.messages(DELETED))) as stream:
        async for _, message in stream:
            if message:
                evict(orjson.loads(message))
