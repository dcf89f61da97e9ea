"""The same work for many partitions, some of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

# Each keeps a batch in memory and a connection busy; more than Postgres has cores for brings nothing.
_AT_ONCE = 4

T = TypeVar("T")


async def for_each(partitions: Iterable[int], work: Callable[[int], Awaitable[T]]) -> dict[int, T]:
    """Do the work for each partition; where one fails the others are broken off, and its error is raised."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(partition: int) -> T:
        async with turns:
            return await work(partition)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {partition: group.create_task(one(partition)) for partition in sorted(partitions)}
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return {partition: task.result() for partition, task in tasks.items()}
