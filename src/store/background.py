"""Work that goes on beside everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

logger = logging.getLogger(__name__)

_RESTART_SECONDS = 1.0
_CANCEL_SECONDS = 0.1


@asynccontextmanager
async def background(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Keep something running meanwhile, and start it again where it fails."""
    task = asyncio.create_task(_again_and_again(work))
    try:
        yield
    finally:
        # A driver that connects just now may lose a cancellation (redis-py does on Python 3.11): ask until it is heard.
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_SECONDS)


async def _again_and_again(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:
            # A mistake in one piece of work must not end what everybody else does.
            logger.exception("Background work failed and starts again", extra={"action": "background_failed"})
        await asyncio.sleep(_RESTART_SECONDS)
