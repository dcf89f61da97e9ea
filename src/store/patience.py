"""Waiting for somebody else's work no longer than promised."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


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
