"""Group commit: whatever comes while a commit is under way goes into the next one, together.

What a commit costs is mostly the same for one partition as for all of them; databases share the flush of their log in
the same way (D. DeWitt et al., Implementation Techniques for Main Memory Database Systems, 1984, section 5.2).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class _Waiting(NamedTuple, Generic[Item, Outcome]):
    item: Item
    outcome: asyncio.Future[Outcome]
    alone: bool


class GroupCommit(Generic[Item, Outcome]):
    """Gathers items while commits are under way, and gives each its own outcome."""

    def __init__(
        self,
        commit: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | Exception]]],
        *,
        side_by_side: int = 1,
        weigh: Callable[[Item], int] = lambda _: 0,
        most: int = 1,
    ) -> None:
        """Take what it needs.

        Args:
            commit: commits items together and returns the outcome of each, in order; what it raises is that of all.
            side_by_side: how many commits may be under way at a time.
            weigh: the weight of an item.
            most: the weight from which on a group is full.
        """
        self._commit = commit
        self._side_by_side = side_by_side
        self._weigh = weigh
        self._most = most
        self._waiting: deque[_Waiting[Item, Outcome]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._closed_by: Exception | None = None

    async def submit(self, item: Item, *, alone: bool = False) -> Outcome:
        """Commit an item with whatever else waits, or with nothing else.

        Whoever is cancelled meanwhile does not hear what became of it: a commit under way goes on for the others.
        """
        if self._closed_by is not None:
            raise self._closed_by
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, outcome, alone))
        self._begin()
        return await outcome

    async def close(self, reason: Exception) -> None:
        """Cut off what is under way; that, what waits and what comes later fails for this reason."""
        self._closed_by = reason
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        while self._waiting:
            _settle(self._waiting.popleft().outcome, reason)

    def _begin(self) -> None:
        if self._waiting and self._closed_by is None and len(self._under_way) < self._side_by_side:
            task = asyncio.create_task(self._run(), name="group commit")
            self._under_way.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._begin()

    async def _run(self) -> None:
        group = self._next_group()
        if not group:
            return
        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = await self._commit([each.item for each in group])
        except asyncio.CancelledError:
            if self._closed_by is None:
                raise
            outcomes = [self._closed_by] * len(group)
        except Exception as error:  # it is the outcome of each, who raises it
            outcomes = [error] * len(group)
        for each, outcome in zip(group, outcomes, strict=True):
            _settle(each.outcome, outcome)

    def _next_group(self) -> list[_Waiting[Item, Outcome]]:
        group: list[_Waiting[Item, Outcome]] = []
        weight = 0
        while self._waiting and weight < self._most:
            if group and (self._waiting[0].alone or group[0].alone):
                break
            following = self._waiting.popleft()
            if not following.outcome.done():
                group.append(following)
                weight += self._weigh(following.item)
        return group


def _settle(future: asyncio.Future[Outcome], outcome: Outcome | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
