"""How many messages a worker sends to webhooks: `python -m bench.webhooks`.

The receiver takes everything at once. Each assessment is one event, of which each webhook is told; the worker applies
the commands meanwhile, as it does in use.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from uuid import uuid4

from tests.harness.installation import Installation
from tests.harness.receivers import Receiver, receiving
from tests.harness.worker import Cluster

from assessmentstore.models.webhooks import WebhookRequest, new_secret
from assessmentstore.store.postgres import open_pools
from assessmentstore.store.webhooks import WebhookStore

from .installation import harnessed, running_services
from .workload import creates, produce

_POLL_SECONDS = 0.05


async def _measure(count: int, hooks: int, rounds: int) -> list[float]:
    """Messages a second, round by round."""
    async with (
        running_services() as (services, _),
        receiving() as receiver,
        harnessed(services, "webhooks", webhook_allowed_networks="127.0.0.0/8") as installation,
    ):
        await _register(installation, receiver, hooks)
        cluster = Cluster(installation)
        try:
            await cluster.until_owned_by(cluster.start())
            return [await _round(installation, receiver, count, hooks, number) for number in range(rounds + 1)][1:]
        finally:
            cluster.destroy()


async def _register(installation: Installation, receiver: Receiver, hooks: int) -> None:
    request = WebhookRequest(url=receiver.url)
    async with open_pools(installation.settings, application="bench") as pools:
        for _ in range(hooks):
            await WebhookStore(pools.write).put(uuid4(), "bench-user", request, new_secret(), sees_everything=True)


async def _round(installation: Installation, receiver: Receiver, count: int, hooks: int, number: int) -> float:
    """From the first command on to the last message; the first round opens connections and warms up."""
    expected = len(receiver.taken) + count * hooks
    started = time.perf_counter()
    await produce(installation.settings, creates(count, name=f"round {number}"))
    while len(receiver.taken) < expected:  # noqa: ASYNC110 - the worker is another process
        await asyncio.sleep(_POLL_SECONDS)
    rate = count * hooks / (time.perf_counter() - started)
    print(f"round {number}: {rate:,.0f} messages/s")
    return rate


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhooks", description=__doc__)
    parser.add_argument("--assessments", type=int, default=1000, help="of a round (default: %(default)s)")
    parser.add_argument("--webhooks", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    arguments = parser.parse_args()
    found = asyncio.run(_measure(arguments.assessments, arguments.webhooks, arguments.rounds))
    print(f"median: {statistics.median(found):,.0f} messages/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
