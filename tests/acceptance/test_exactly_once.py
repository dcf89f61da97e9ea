"""Commands in, events out: the whole of a worker, judged by what the commands topic alone says."""

from __future__ import annotations

from tests.harness.judge import assert_exactly_once
from tests.harness.load import open_sender
from tests.harness.messages import Traffic
from tests.harness.worker import Cluster


async def test_every_command_has_one_outcome_whatever_comes_with_it(cluster: Cluster) -> None:
    """A random walk with duplicates, borrowed ids and junk among the commands, on two workers."""
    cluster.start()
    cluster.start()
    traffic = Traffic(seed=7, duplicates=0.25, mismatches=0.05, rubbish=0.15)

    async with open_sender(cluster.installation) as sender:
        for _ in range(30):
            await sender.send(*traffic.take(100))

    await assert_exactly_once(cluster.installation, sent=sender.sent)
