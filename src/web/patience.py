"""Waiting no longer than promised, and not keeping others waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..models.errors import UnavailableError
from ..store.patience import within

T = TypeVar("T")

# Postgres answers within milliseconds; whoever asks a Postgres that hangs is told so, and may try elsewhere.
_PROMPT_SECONDS = 5.0

# Other requests wait no longer than this for their turn.
_TURN_SECONDS = 0.002


async def promptly(work: Coroutine[Any, Any, T], *, seconds: float = _PROMPT_SECONDS) -> T:
    """Await what Postgres answers, no longer than a client should wait for it.

    Raises:
        UnavailableError: it takes longer, or Postgres is away.
    """
    try:
        return await within(seconds, work)
    except TimeoutError as error:
        raise UnavailableError(f"Postgres does not answer: {error}") from error


class Turns:
    """Long work in short turns, so that other requests go on meanwhile."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def give_way(self) -> None:
        """Let others go first where this turn has lasted long enough."""
        if time.perf_counter() - self._since > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
