"""Faust without its rests: a second at the start for tables that it has none of here, and one at the end.

A worker that starts or stops in the middle of work is one that partitions wait for.
"""

from __future__ import annotations

import asyncio
from typing import Any

import faust
from faust.tables import TableManager

_END_SECONDS = 1.0


class NoTables(TableManager):
    """Faust's own tables, of which there are none: the states have RocksDB tables of their own."""

    async def on_start(self) -> None:
        """Begin at once: nobody is going to declare one."""
        await self._update_channels()
        await self.recovery.start()


class PromptWorker(faust.Worker):
    """What runs the app until a signal comes."""

    def __init__(self, *apps: Any, **options: Any) -> None:
        super().__init__(*apps, **options)
        self.spinner = None  # it would write escape codes among the log lines

    async def _sentinel_task(self) -> None:
        """Wait for the tasks that were cancelled just now, and no longer than for them."""
        if cancelled := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(cancelled, timeout=_END_SECONDS)
