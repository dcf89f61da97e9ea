"""Batches of several partitions in one Postgres transaction: shared where all is well, and apart where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.harness.decoded import command

from assessmentstore.agents.committer import Committer, Share
from assessmentstore.agents.crash_points import CrashPoints
from assessmentstore.agents.fold import Decoded, Folded
from assessmentstore.settings import Settings
from assessmentstore.store.batch import BatchStore, FencedError
from assessmentstore.store.encryption import NO_KEYS
from assessmentstore.store.postgres import Pools, UnstorableError
from assessmentstore.store.table import StateTable

TOPIC = "assessment.commands"


@pytest.fixture
async def committer(pools: Pools, settings: Settings) -> Committer:
    return Committer(
        BatchStore(pools.write),
        keys=NO_KEYS,
        retries=settings.retry_policy,
        batch_size=1000,
        crash_points=CrashPoints(""),
    )


class Partitions:
    """Partitions with their claims and tables."""

    def __init__(self, store: BatchStore, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.shares: dict[int, Share] = {}

    async def claim(self, count: int = 3) -> None:
        for number in range(count):
            claim = await self.store.claim(TOPIC, number, owner="one", epoch=None)
            self.shares[number] = Share(claim, StateTable(self.folder / str(number)), [])

    def share(self, number: int, *batch: Decoded) -> Share:
        return self.shares[number]._replace(batch=batch)

    def committed(self, share: Share, folded: Folded) -> None:
        """What a lane does after the commit."""
        after = folded.changes.after
        values = {key: state.to_json() for key, state in after.items()}
        share.table.apply(values, position=share.end, records=after, heads=folded.heads)
        number = share.claim.partition
        self.shares[number] = share._replace(claim=replace(share.claim, next_offset=share.end))


@pytest.fixture
async def partitions(pools: Pools, tmp_path: Path) -> AsyncIterator[Partitions]:
    made = Partitions(BatchStore(pools.write), tmp_path)
    await made.claim()
    yield made
    for share in made.shares.values():
        share.table.close()


async def commit_all(committer: Committer, *shares: Share) -> list[Folded | BaseException]:
    """Commit as lanes do that are ready at the same time; the first in is alone in its transaction."""
    return await asyncio.gather(*(committer.commit(share) for share in shares), return_exceptions=True)


async def transactions(pools: Pools) -> list[int]:
    """How many partitions each transaction moved, of those that moved last."""
    rows = await pools.read.fetch("SELECT count(*) AS n FROM command_offsets GROUP BY xmin::text ORDER BY n")
    return [row["n"] for row in rows]


async def effects(pools: Pools) -> list[tuple[int, int, str, str]]:
    rows = await pools.read.fetch("SELECT * FROM assessment_audit_trail ORDER BY command_partition, command_offset")
    return [(row["command_partition"], row["command_offset"], row["assessment_id"], row["action"]) for row in rows]


async def test_what_waits_together_is_one_transaction(
    committer: Committer, partitions: Partitions, pools: Pools
) -> None:
    outcomes = await commit_all(
        committer,
        partitions.share(0, command(0, "create", "a"), command(1, "start", "a")),
        partitions.share(1, command(0, "create", "b"), command(1, "retry", "b")),
        partitions.share(2, command(0, "create", "c")),
    )

    assert [len(outcome.changes.accepted) for outcome in outcomes if isinstance(outcome, Folded)] == [2, 1, 1]
    assert await transactions(pools) == [3]
    assert await effects(pools) == [
        (0, 0, "a", "created"),
        (0, 1, "a", "started"),
        (1, 0, "b", "created"),
        (2, 0, "c", "created"),
    ]
    rows = await pools.read.fetch("SELECT command_partition, code FROM command_rejections")
    assert [tuple(row) for row in rows] == [(1, "INVALID_STATE_TRANSITION")]
    slots = await pools.read.fetch(
        "SELECT slot, sum(assessments)::int AS n FROM assessment_totals WHERE scope = '' GROUP BY slot"
    )
    assert {row["slot"]: row["n"] for row in slots} == {0: 3}


async def test_a_partition_that_was_taken_holds_up_no_other(
    committer: Committer, partitions: Partitions, pools: Pools
) -> None:
    await partitions.store.claim(TOPIC, 1, owner="heir", epoch=None)

    outcomes = await commit_all(
        committer,
        partitions.share(0, command(0, "create", "a")),
        partitions.share(1, command(0, "create", "b")),
        partitions.share(2, command(0, "create", "c")),
    )

    assert [type(outcome) for outcome in outcomes] == [Folded, FencedError, Folded]
    assert await effects(pools) == [(0, 0, "a", "created"), (2, 0, "c", "created")]


async def test_a_stale_table_is_decided_again_and_holds_up_no_other(
    committer: Committer, partitions: Partitions, pools: Pools
) -> None:
    shares = [partitions.share(number, command(0, "create", key)) for number, key in enumerate("abc")]
    for share, outcome in zip(shares, await commit_all(committer, *shares), strict=True):
        assert isinstance(outcome, Folded)
        partitions.committed(share, outcome)
    await pools.write.execute("UPDATE assessment_states SET state = 'cancelled' WHERE assessment_id = 'b'")
    await pools.write.execute("UPDATE assessment_states SET version = 2 WHERE assessment_id = 'b'")

    outcomes = await commit_all(
        committer, *(partitions.share(number, command(1, "start", key)) for number, key in enumerate("abc"))
    )

    counts = [(len(each.changes.accepted), len(each.changes.refused)) for each in outcomes if isinstance(each, Folded)]
    assert counts == [(1, 0), (0, 1), (1, 0)]
    states = await pools.read.fetch("SELECT state FROM assessment_states ORDER BY assessment_id")
    assert [row["state"] for row in states] == ["processing", "cancelled", "processing"]


async def test_what_postgres_refuses_holds_up_no_other(
    committer: Committer, partitions: Partitions, pools: Pools
) -> None:
    """A state with a character that Postgres has not, as no rule of ours would let it in."""
    share = partitions.share(1, command(0, "create", "b"))
    (outcome,) = await commit_all(committer, share)
    assert isinstance(outcome, Folded)
    partitions.committed(share, outcome)
    wrong = outcome.changes.after["b"].model_copy(update={"message": "\x00"})
    share.table.apply({"b": wrong.to_json()}, position=1, records={"b": wrong}, heads=outcome.heads)

    outcomes = await commit_all(
        committer,
        partitions.share(0, command(0, "create", "a")),
        partitions.share(1, command(1, "start", "b")),
        partitions.share(2, command(0, "create", "c")),
    )

    assert [type(outcome) for outcome in outcomes] == [Folded, UnstorableError, Folded]
    assert [effect[0] for effect in await effects(pools)] == [0, 1, 2]


async def test_one_command_id_on_two_partitions_of_a_transaction_has_one_effect(
    committer: Committer, partitions: Partitions, pools: Pools
) -> None:
    outcomes = await commit_all(
        committer,
        partitions.share(0, command(0, "create", "a", command_id="same")),
        partitions.share(1, command(0, "create", "b", command_id="same")),
    )

    assert [each.duplicates for each in outcomes if isinstance(each, Folded)] == [0, 1]
    assert await effects(pools) == [(0, 0, "a", "created")]


async def test_one_assessment_on_two_partitions_of_a_transaction_is_changed_by_one_after_the_other(
    committer: Committer, partitions: Partitions, pools: Pools
) -> None:
    """A producer with another partitioner than Kafka's own may bring this about."""
    outcomes = await commit_all(
        committer,
        partitions.share(0, command(0, "create", "a")),
        partitions.share(1, command(0, "create", "a", command_id="other"), command(1, "start", "a")),
    )

    counts = [(len(each.changes.accepted), len(each.changes.refused)) for each in outcomes if isinstance(each, Folded)]
    assert counts == [(1, 0), (1, 1)]
    assert await pools.read.fetchval("SELECT version FROM assessment_states") == 2
