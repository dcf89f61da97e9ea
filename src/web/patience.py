"""Waiting no longer than promised, and not keeping others waiting."""

from __future__ import annotations

import asyncio
import time

from ..store.patience import within

__all__ = ["Turns", "within"]

# Other requests wait no longer than this for their turn.
_TURN_SECONDS = 0.005


class Turns:
    """Long work in short turns, so that other requests go on meanwhile."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def give_way(self) -> None:
        """Let others go first where this turn has lasted long enough."""
        if time.perf_counter() - self._since > _TURN_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
