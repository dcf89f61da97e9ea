"""Wait for a condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

DEADLINE = 60.0
"""Seconds that a condition may take on a machine that is busy with other things."""

_POLL_SECONDS = 0.05

T = TypeVar("T")


async def eventually(
    probe: Callable[[], Awaitable[T]],
    what: str,
    *,
    deadline: float = DEADLINE,
    tolerate: tuple[type[BaseException], ...] = (),
) -> T:
    """Ask again and again until the answer is true, and return it.

    Args:
        probe: what is asked.
        what: is waited for, for the message.
        deadline: seconds until that is a failure.
        tolerate: errors that count as a no.
    """
    end = time.monotonic() + deadline
    last: object = None
    while True:
        try:
            last = answer = await probe()
            if answer:
                return answer
        except tolerate as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline:g} s (last answer: {last!r})")
        await asyncio.sleep(_POLL_SECONDS)
