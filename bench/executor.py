"""How many assessments the executor has carried out: `python -m bench.executor`.

A worker and a compliance server that answers at once, so that what is measured is the store: to take on, start, call,
complete. The backlog stands on the topic before the clock starts with the first order.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time

from pydantic import SecretStr
from tests.harness.compliance import KEY, ScriptedServer, scripted_server
from tests.harness.installation import Installation
from tests.harness.worker import Cluster

from .installation import harnessed, running_services
from .workload import creates, produce

_POLL_SECONDS = 0.05


async def _measure(count: int, concurrency: int, rounds: int) -> list[float]:
    """Assessments a second, round by round."""
    async with (
        running_services() as (services, _),
        scripted_server() as server,
        harnessed(
            services,
            "executor",
            compliance_url=server.url,
            compliance_api_key=SecretStr(KEY),
            compliance_concurrency=concurrency,
        ) as installation,
    ):
        cluster = Cluster(installation)
        try:
            await cluster.until_owned_by(cluster.start())
            return [await _round(installation, server, count, number) for number in range(rounds + 1)][1:]
        finally:
            cluster.destroy()


async def _round(installation: Installation, server: ScriptedServer, count: int, number: int) -> float:
    """One backlog; the first round opens connections and warms up."""
    before = len(server.orders)
    server.hanging.clear()
    await produce(installation.settings, creates(count, name=f"round {number}"))
    async with installation.database() as database:
        while await database.fetchval("SELECT count(*) FROM assessment_states") < count * (number + 1):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        server.hanging.set()
        started = time.perf_counter()
        ended = "SELECT count(*) FROM assessment_states WHERE state = 'completed'"
        while await database.fetchval(ended) < count * (number + 1):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
    seconds = time.perf_counter() - started
    assert len(server.orders) - before == count, "each was ordered once"
    print(f"round {number}: {count / seconds:,.0f} assessments/s")
    return count / seconds


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.executor", description=__doc__)
    parser.add_argument("--assessments", type=int, default=2000, help="of a round (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=64, help="attempts at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    arguments = parser.parse_args()
    found = asyncio.run(_measure(arguments.assessments, arguments.concurrency, arguments.rounds))
    print(f"median: {statistics.median(found):,.0f} assessments/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
