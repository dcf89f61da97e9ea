"""One worker and two workers over the same partitions, in turns: how much of a second worker arrives.

python -m bench.workers --commands 40000 --rounds 3

Two workers can be faster than one only where there are cores for the second, and for what it asks of Kafka and
Postgres; so the busy share of the machine stands beside the rates. Where it is too small for that, `--cores 0.25` lets
each worker use no more than a quarter of a core: then one leaves room for another.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from assessmentstore.services import Services
from assessmentstore.settings import Settings

from .contenders import WORKER, Running, running, until_ready
from .events import reading
from .installation import fresh_installation, running_services
from .measure import Throughput, warm_up, work_off
from .tables import row
from .targets import Verdict, judge
from .usage import CONTENDER, CORES

PARTITIONS = 4
WORKERS = (1, 2)
TARGET = 1.6
"""How many times the rate of one worker two have to reach, where cores are free."""

# With one worker there is work for all cores from this share on: a second one can only share what there is.
_NOTHING_FREE = 0.8

_SHARED_SECONDS = 60.0
_POLL_SECONDS = 0.1


async def _measure(arguments: argparse.Namespace) -> dict[int, list[Throughput]]:
    results: dict[int, list[Throughput]] = {workers: [] for workers in WORKERS}
    async with running_services() as (settings, present):
        shared = settings.model_copy(update={"topic_partitions": PARTITIONS})
        for number in range(1, arguments.rounds + 1):
            for workers in WORKERS:
                each = await _work(workers, arguments, shared, present)
                results[workers].append(each)
                told = f"round {number}: {workers} of {WORKER.name}: {each.rate:,.0f} transitions/s"
                print(told, file=sys.stderr, flush=True)
    return results


async def _work(workers: int, arguments: argparse.Namespace, settings: Settings, present: Services) -> Throughput:
    async with (
        fresh_installation(settings, f"workers-{workers}") as own,
        _together(workers, own) as processes,
        reading(own) as events,
    ):
        await warm_up(own, events, *processes)
        return await work_off(WORKER, processes, own, events, arguments.commands, present, cores=arguments.cores)


@asynccontextmanager
async def _together(workers: int, settings: Settings) -> AsyncIterator[Sequence[Running]]:
    """Workers that have the same number of partitions each."""
    async with AsyncExitStack() as stack:
        folders = [settings.data_dir / f"{number}" for number in range(workers)]
        apart = [settings.model_copy(update={"data_dir": folder}) for folder in folders]
        processes = [await stack.enter_async_context(running(WORKER, each)) for each in apart]
        await until_ready(*processes)
        async with asyncio.timeout(_SHARED_SECONDS):
            while not all([await _owned(process) == PARTITIONS / workers for process in processes]):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
        yield processes


async def _owned(process: Running) -> float:
    """The partitions that a worker has."""
    process.check()
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{process.port}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("assessmentstore_owned_partitions "))


def report(results: dict[int, list[Throughput]], cores: int) -> tuple[str, Verdict]:
    """The figures for people, and what they come to."""
    rate = {workers: statistics.median(each.rate for each in found) for workers, found in results.items()}
    busy = {workers: statistics.median(each.busy for each in found) for workers, found in results.items()}
    names = list(results[WORKERS[0]][0].cpu)
    titles = ("workers" if name == CONTENDER else name for name in names)
    rounds = len(results[WORKERS[0]])
    lines = [
        f"Transitions a second over {PARTITIONS} partitions, medians of {rounds} rounds; cores in use, of {cores}",
        row("workers", "rate", *titles, "others"),
    ]
    for workers, found in results.items():
        used = [statistics.median(each.cpu[name] / each.seconds for each in found) for name in names]
        others = statistics.median(each.others for each in found)
        lines.append(row(workers, f"{rate[workers]:,.0f}", *(f"{each:.2f}" for each in [*used, others])))
    if busy[1] >= _NOTHING_FREE:
        lines.append(
            f"With one worker {busy[1]:.0%} of the cores are busy already: none is free for a second one here, and the"
            " target is for machines where one is."
        )
    return "\n".join(lines), Verdict("two workers / one", rate[2] / rate[1], ">=", TARGET)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--commands", type=int, default=40_000, help="the backlog (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--cores", type=float, help="the most that each worker may use (default: all there are)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the target is missed")
    arguments = parser.parse_args()
    told, verdict = report(asyncio.run(_measure(arguments)), CORES)
    print(told)
    return judge([verdict], check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
