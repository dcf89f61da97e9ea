"""Ways to break a worker on purpose, so that tests can show that they notice; applied inside the worker's process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection
from typing import Any

from assessmentstore.agents import commands, crash_points, publisher
from assessmentstore.recovery import rebuild, reseed
from assessmentstore.settings import Settings
from assessmentstore.store import batch
from assessmentstore.store.queries import QUERIES


def _no_fence() -> None:
    """A batch moves the applied position whoever owns the partition."""
    QUERIES["advance_partition"] = """
        UPDATE command_offsets SET next_offset = $5
        WHERE topic = $1 AND partition = $2 AND $3::bigint IS NOT NULL AND $4::bigint IS NOT NULL
        RETURNING NOW() AS now
    """


def _no_resume() -> None:
    """What was committed but not published is forgotten."""

    async def resume(self: Any) -> None:
        self._published = True

    commands.PartitionProcessor._resume = resume  # type: ignore[method-assign]


def _no_duplicate_check() -> None:
    """No command id has been seen before."""

    async def known(self: batch.BatchTransaction, command_ids: Collection[str]) -> dict[str, bytes]:
        return {}

    batch.BatchTransaction.known = known  # type: ignore[method-assign]


def _no_group_of_its_own() -> None:
    """The emitted watermark is kept where the consumer commits, as a plain transactional loop would do it."""
    Settings.emitted_group = property(lambda self: self.app_id)  # type: ignore[assignment,method-assign]


def _publish_before_refresh() -> None:
    """Events are out before Redis knows of them, by as much as a slow Redis takes."""
    refresh, publish = commands.PartitionProcessor._refresh, commands.PartitionProcessor._publish

    async def no_refresh(self: Any, folded: Any, end: int) -> None:
        return

    async def publish_then_refresh(self: Any, folded: Any, end: int) -> None:
        await publish(self, folded, end)
        await asyncio.sleep(0.05)
        await refresh(self, folded, end)

    commands.PartitionProcessor._refresh = no_refresh  # type: ignore[method-assign]
    commands.PartitionProcessor._publish = publish_then_refresh  # type: ignore[method-assign]


def _freeze() -> None:
    """At the armed crash point the worker stops as with SIGSTOP, instead of dying."""

    def reach(self: Any, point: crash_points.CrashPoint) -> None:
        if point is self._armed:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGSTOP)

    crash_points.CrashPoints.reach = reach  # type: ignore[method-assign]


def _small_batches() -> None:
    """A recovery commits little at a time, so that there is a middle to die in."""
    rebuild._ITEMS = reseed._EVENTS = 20


def _dying(owner: Any, name: str, count: int) -> Callable[[], None]:
    """Die, as with kill -9, when a method is called for so many times."""

    def sabotage() -> None:
        original, left = getattr(owner, name), count

        async def call(self: Any, *arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return await original(self, *arguments)

        setattr(owner, name, call)

    return sabotage


SABOTAGES: dict[str, Callable[[], None]] = {
    "no-fence": _no_fence,
    "no-resume": _no_resume,
    "no-duplicate-check": _no_duplicate_check,
    "no-group-of-its-own": _no_group_of_its_own,
    "publish-before-refresh": _publish_before_refresh,
    "freeze": _freeze,
    "small-batches": _small_batches,
    "dies-in-rebuild": _dying(rebuild.PartitionRebuild, "_write", 8),
    "dies-in-reseed": _dying(publisher.Publisher, "publish", 10),
}
