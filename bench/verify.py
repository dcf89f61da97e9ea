"""How much memory and time `assessmentstore verify` takes, by the number of events that it folds.

python -m bench.verify --events 100000 1000000

A worker applies commands until there are so many events; then it is verified, and all has to be equal. The worker runs
on meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from assessmentstore.settings import Settings

from .contenders import WORKER, Contender, running
from .events import reading
from .installation import fresh_installation, running_services
from .measure import whole_lives
from .tables import MEBI, row
from .targets import Verdict, judge, judge_growth
from .usage import PeakMemory
from .workload import commands, produce

EVENTS = (100_000, 1_000_000)

_VERIFY = Contender("verify", ("-m", "assessmentstore", "verify", "--json"))

# A backlog is made and written in pieces: this process is not what is measured, but it has to live, too.
_PIECE = 100_000


class Verified(NamedTuple):
    """One run of the command."""

    events: int
    seconds: float
    peak_memory: int
    """Bytes."""


async def _measure(sizes: Sequence[int]) -> list[Verified]:
    results = []
    async with (
        running_services() as (settings, _),
        fresh_installation(settings, "verify") as own,
        running(WORKER, own) as worker,
        reading(own) as events,
    ):
        for size in sorted(sizes):
            while events.count < size:
                piece = whole_lives(min(_PIECE, size - events.count))
                made = await produce(own, commands(piece, name=f"after {events.count}"))
                await events.wait_for(events.count + made, worker)
            results.append(await _verify(own, events.count))
            told = f"{events.count:,} events: {results[-1].peak_memory / MEBI:,.0f} MiB at the peak"
            print(told, file=sys.stderr, flush=True)
    return results


async def _verify(settings: Settings, events: int) -> Verified:
    """Run the command, and see that everything is equal."""
    started = time.perf_counter()
    async with running(_VERIFY, settings) as process:
        memory = PeakMemory(process.pid)
        async with memory.watching():
            code = await process.process.wait()
    seconds = time.perf_counter() - started
    if code != 0:
        raise AssertionError(f"verify ended with {code}:\n{process.log.read_text()[-4000:]}")
    return Verified(events, seconds, memory.bytes)


def report(results: Sequence[Verified]) -> tuple[str, list[Verdict]]:
    """The figures for people, and what they come to."""
    lines = ["`assessmentstore verify`: resident memory and time", row("events", "peak MiB", "seconds", "events/s")]
    for each in results:
        rate = each.events / each.seconds
        lines.append(row(f"{each.events:,}", f"{each.peak_memory / MEBI:,.0f}", f"{each.seconds:,.1f}", f"{rate:,.0f}"))
    return "\n".join(lines), judge_growth([(each.events, each.peak_memory) for each in results])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.verify", description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=EVENTS, help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the target is missed")
    arguments = parser.parse_args()
    told, verdicts = report(asyncio.run(_measure(arguments.events)))
    print(told)
    return judge(verdicts, check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
