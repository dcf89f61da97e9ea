"""The judge has teeth: each guard, broken on purpose in the worker, makes him find violations."""

from __future__ import annotations

import signal

from tests.harness.judge import assert_exactly_once, judge, settled
from tests.harness.load import open_sender
from tests.harness.waiting import DEADLINE
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import Message, command, create, junk

# Of a worker that is broken, and never gets where the judge waits for it.
_DEADLINE = 8.0


def _on_every_partition(label: str) -> list[Message]:
    """Assessments and junk on every partition: a dead letter has no id that a duplicate check could know."""
    return [
        message
        for number in range(40)
        for message in (
            create(f"{label}-c{number}", f"{label}-a{number}"),
            junk(label, f"{label}-a{number}", large=False)[0],
        )
    ]


async def _let_a_zombie_write(cluster: Cluster, sabotage: str, deadline: float = DEADLINE) -> list[str]:
    """Freeze a worker in the middle of a batch, let another take over and finish, and wake the first."""
    async with open_sender(cluster.installation) as sender:
        await sender.send(*_on_every_partition("z"))
    zombie = cluster.start(crash_point="decoded", sabotage=f"freeze{sabotage}")
    await zombie.until_frozen()
    heir = cluster.start()
    await cluster.until_owned_by(heir)
    await settled(cluster.installation)

    zombie.thaw()
    await cluster.until_owned_by(zombie, heir)

    return await judge(cluster.installation, deadline=deadline)


async def test_a_zombie_that_meets_the_fence_changes_nothing(cluster: Cluster) -> None:
    assert await _let_a_zombie_write(cluster, "") == []


async def test_without_the_fence_a_zombie_is_found_out(cluster: Cluster) -> None:
    violations = await _let_a_zombie_write(cluster, ",no-fence", _DEADLINE)

    assert any("dead_letters" in violation for violation in violations), violations


async def _crash_between_commit_and_publish(cluster: Cluster, sabotage: str, deadline: float = DEADLINE) -> list[str]:
    async with open_sender(cluster.installation) as sender:
        await sender.send(*_on_every_partition("r"))
    victim = cluster.start(crash_point="committed")
    assert await victim.ended() == -signal.SIGKILL

    await cluster.until_owned_by(cluster.start(sabotage=sabotage))

    return await judge(cluster.installation, deadline=deadline)


async def test_what_a_crash_left_unpublished_is_published_by_the_heir(cluster: Cluster) -> None:
    assert await _crash_between_commit_and_publish(cluster, "-") == []


async def test_without_the_resume_the_lost_events_are_found_out(cluster: Cluster) -> None:
    violations = await _crash_between_commit_and_publish(cluster, "no-resume", _DEADLINE)

    assert any("events of partition" in violation for violation in violations), violations


async def test_without_the_duplicate_check_a_second_effect_is_found_out(cluster: Cluster) -> None:
    """The unique key of the audit trail keeps the effect out even then, at the price of a batch that cannot pass."""
    cluster.start(sabotage="no-duplicate-check")
    progress = command("p", "progress", "a", {"progress": 5})
    async with open_sender(cluster.installation) as sender:
        await sender.send(create("c", "a"), command("s", "start", "a"), progress)
        await settled(cluster.installation)
        await assert_exactly_once(cluster.installation)

        await sender.send(progress)

    assert await judge(cluster.installation, deadline=_DEADLINE) != []
