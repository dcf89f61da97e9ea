"""Waiting for somebody else's work no longer than promised, and not keeping others waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# Other requests wait no longer than this for their turn.
_TURN_SECONDS = 0.005


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await work for so long; when that is over, or when the caller is cancelled, leave at once.

    `asyncio.timeout` would wait until the work has heard of its cancellation, and asyncpg, with a Postgres that hangs,
    hears of it half a minute later.

    Raises:
        TimeoutError: it is not done.
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise TimeoutError(f"no answer within {seconds:g} s")
        return task.result()
    finally:
        if not task.done():
            task.add_done_callback(_forget)
            task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    """Take note of how abandoned work ended: nobody else will, and asyncio would complain."""
    if not task.cancelled():
        task.exception()


class Turns:
    """Long work in short turns, so that other requests go on meanwhile."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def give_way(self) -> None:
        """Let others go first where this turn has lasted long enough."""
        if time.perf_counter() - self._since > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
