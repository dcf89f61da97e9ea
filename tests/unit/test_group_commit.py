"""Group commit: what waits goes together, each has its own outcome, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from assessmentstore.agents.group_commit import GroupCommit
from assessmentstore.models.errors import UnavailableError


class Commits:
    """Commits that wait until they are let go."""

    def __init__(self, *, held: bool = True) -> None:
        self.groups: list[list[str]] = []
        self.go_on = asyncio.Event()
        if not held:
            self.go_on.set()

    async def __call__(self, items: Sequence[str]) -> Sequence[str | Exception]:
        self.groups.append(list(items))
        await self.go_on.wait()
        if "all" in items:
            raise UnavailableError("away")
        return [ValueError(item) if item.startswith("bad") else item.upper() for item in items]


def submitted(group: GroupCommit[str, str], *items: str, alone: str = "") -> list[asyncio.Task[str]]:
    return [asyncio.create_task(group.submit(item, alone=item == alone)) for item in items]


async def turns() -> None:
    """Let whatever can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_comes_while_a_commit_is_under_way_goes_together() -> None:
    commits = Commits()
    group = GroupCommit(commits, most=100)
    first = submitted(group, "a")
    await turns()
    others = submitted(group, "b", "c", "d")
    await turns()
    commits.go_on.set()

    assert await asyncio.gather(*first, *others) == ["A", "B", "C", "D"]
    assert commits.groups == [["a"], ["b", "c", "d"]]


async def test_each_has_its_own_outcome() -> None:
    group = GroupCommit(Commits(held=False))

    told = await asyncio.gather(*submitted(group, "a", "bad b", "c"), return_exceptions=True)

    assert (told[0], str(told[1]), told[2]) == ("A", "bad b", "C")


async def test_a_commit_that_fails_fails_for_all_in_it_and_the_next_goes_on() -> None:
    group = GroupCommit(Commits(held=False))

    told = await asyncio.gather(*submitted(group, "a", "all"), return_exceptions=True)

    assert [type(each) for each in told] == [UnavailableError, UnavailableError]
    assert await group.submit("b") == "B"


async def test_a_full_group_takes_no_more_and_who_goes_alone_goes_alone() -> None:
    commits = Commits()
    group = GroupCommit(commits, weigh=len, most=4)
    tasks = submitted(group, "first")
    await turns()
    tasks += submitted(group, "aa", "bb", "cc", "d", "e", alone="d")
    await turns()
    commits.go_on.set()
    await asyncio.gather(*tasks)

    assert commits.groups == [["first"], ["aa", "bb"], ["cc"], ["d"], ["e"]]


async def test_no_more_commits_than_wanted_are_under_way() -> None:
    commits = Commits()
    group = GroupCommit(commits, side_by_side=2)
    tasks = submitted(group, "a", "b", "c", alone="a")
    await turns()

    assert commits.groups == [["a"], ["b", "c"]]
    commits.go_on.set()
    await asyncio.gather(*tasks)


async def test_who_is_cancelled_while_waiting_is_left_out_and_harms_nobody() -> None:
    commits = Commits()
    group = GroupCommit(commits)
    under_way, *others = submitted(group, "a")
    await turns()
    others = submitted(group, "b", "c")
    await turns()
    under_way.cancel()
    others[0].cancel()
    await turns()
    commits.go_on.set()

    assert await others[1] == "C"
    assert commits.groups == [["a"], ["c"]]


async def test_after_the_end_everybody_hears_why() -> None:
    commits = Commits()
    group = GroupCommit(commits)
    tasks = submitted(group, "a")
    await turns()
    tasks += submitted(group, "b")
    await turns()

    await group.close(UnavailableError("closed"))

    for task in tasks:
        with pytest.raises(UnavailableError, match="closed"):
            await task
    with pytest.raises(UnavailableError, match="closed"):
        await group.submit("c")
    assert commits.groups == [["a"]]
