"""A worker's peak memory by the size of the backlog that it finds: does it have a bound?

python -m bench.memory --backlogs 20000 80000 320000

Each backlog is for a worker of its own, in an installation of its own. The memory is the resident one of its process:
Python, what was fetched and waits, the batches under way, RocksDB's buffers and block caches.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from .contenders import WORKER
from .installation import running_services
from .measure import Throughput, measure_throughput
from .tables import MEBI, row
from .targets import Verdict, judge, judge_growth

BACKLOGS = (20_000, 80_000, 320_000)


async def _measure(backlogs: Sequence[int]) -> list[Throughput]:
    results = []
    async with running_services() as (settings, present):
        for backlog in backlogs:
            each = await measure_throughput(WORKER, backlog, settings, present)
            results.append(each)
            told = f"{backlog:,} commands: {each.peak_memory / MEBI:,.0f} MiB at the peak"
            print(told, file=sys.stderr, flush=True)
    return results


def report(results: Sequence[Throughput]) -> tuple[str, list[Verdict]]:
    """The figures for people, and what they come to."""
    lines = ["A worker's resident memory in MiB", row("backlog", "at rest", "peak", "seconds", "commands/s")]
    for each in results:
        memory = (f"{each.resting_memory / MEBI:,.0f}", f"{each.peak_memory / MEBI:,.0f}")
        lines.append(row(f"{each.commands:,}", *memory, f"{each.seconds:,.1f}", f"{each.rate:,.0f}"))
    return "\n".join(lines), judge_growth([(each.commands, each.peak_memory) for each in results])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--backlogs", type=int, nargs="+", default=BACKLOGS, help="commands (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the target is missed")
    arguments = parser.parse_args()
    told, verdicts = report(asyncio.run(_measure(arguments.backlogs)))
    print(told)
    return judge(verdicts, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
