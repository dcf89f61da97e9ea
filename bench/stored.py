"""What a batch costs with an empty store, and with very many assessments stored, in turns.

python -m bench.stored --stored 1000000 --commands 20000 --rounds 3

The store is filled by COPY, which takes minutes for a million. The commands are those of `python -m bench`: whole lives
of new assessments. Point reads are of assessments of the store, from Postgres, where no cache has them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import NamedTuple

import asyncpg

from assessmentstore.output import progress
from assessmentstore.services import Services
from assessmentstore.settings import Settings

from .contenders import WORKER, Running, running, until_ready
from .events import Events, reading
from .fill import fill
from .installation import fresh_installation, running_services
from .measure import Throughput, warm_up, work_off
from .steps import Steps
from .tables import row
from .targets import Verdict, judge

TARGET = 1.2
"""How many times the time of a batch on an empty store one on a full store may take."""

_READS = 500
_SOME = "SELECT assessment_id FROM assessment_states ORDER BY random() LIMIT $1"
_READ = "SELECT * FROM assessment_states WHERE assessment_id = $1"


@dataclass(slots=True)
class Measured:
    """What was measured on one store."""

    stored: int
    rounds: list[Throughput] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    """Milliseconds."""

    @property
    def seconds(self) -> float:
        """Of the median round."""
        return statistics.median(each.seconds for each in self.rounds)

    @property
    def steps(self) -> Steps:
        """Of all rounds."""
        return reduce(add, (each.steps for each in self.rounds), Steps())


class Store(NamedTuple):
    """A store with a worker on it."""

    settings: Settings
    worker: Running
    events: Events
    measured: Measured


@asynccontextmanager
async def _store(settings: Settings, stored: int) -> AsyncIterator[Store]:
    async with fresh_installation(settings, f"stored-{stored}") as own:
        if stored:
            with progress(f"storing {stored:,} assessments") as report:
                await fill(own.database_url, stored, report=report)
        async with running(WORKER, own) as worker, reading(own) as events:
            await until_ready(worker)
            await warm_up(own, events, worker)
            yield Store(own, worker, events, Measured(stored))


async def _measure(arguments: argparse.Namespace) -> tuple[Measured, Measured]:
    async with (
        running_services() as (settings, present),
        _store(settings, 0) as empty,
        _store(settings, arguments.stored) as full,
    ):
        # The pages of the fill are written before, and not meanwhile.
        await _checkpoint(settings)
        for number in range(1, arguments.rounds + 1):
            for store in (empty, full):
                await _round(store, f"round {number}", arguments.commands, present)
        for store in (empty, full):
            store.measured.reads = await _point_reads(store.settings.database_url)
        return empty.measured, full.measured


async def _checkpoint(settings: Settings) -> None:
    connection = await asyncpg.connect(settings.database_url)
    await connection.execute("CHECKPOINT")
    await connection.close()


async def _round(store: Store, name: str, count: int, present: Services) -> None:
    settings, worker, events, measured = store
    each = await work_off(WORKER, [worker], settings, events, count, present, name=name)
    measured.rounds.append(each)
    print(f"{name}: {measured.stored:,} stored: {each.rate:,.0f} transitions/s", file=sys.stderr, flush=True)


async def _point_reads(database_url: str) -> list[float]:
    """Read assessments of all times by their ids, one after the other; milliseconds of each."""
    connection = await asyncpg.connect(database_url)
    try:
        chosen, taken = await connection.fetch(_SOME, _READS), []
        await connection.fetchrow(_READ, "")  # prepares the statement
        for row in chosen:
            started = time.perf_counter()
            await connection.fetchrow(_READ, row["assessment_id"])
            taken.append((time.perf_counter() - started) * 1000)
    finally:
        await connection.close()
    return taken


def report(empty: Measured, full: Measured) -> tuple[str, Verdict]:
    """The figures for people, and what they come to."""
    sides, count = (empty, full), empty.rounds[0].commands
    lines = [
        f"{count:,} commands of new assessments, medians of {len(empty.rounds)} rounds, by assessments stored before",
        row("stored", "seconds", "commands/s", "ms/batch", "read p50 ms", "read p95 ms", "others' cores"),
    ]
    for side in sides:
        reads = statistics.quantiles(side.reads, n=20, method="inclusive")
        others = statistics.median(each.others for each in side.rounds)
        figures = (side.seconds, count / side.seconds, _batch(side.steps), reads[9], reads[18], others)
        lines.append(row(f"{side.stored:,}", *(f"{figure:,.2f}" for figure in figures)))
    lines += ["", "Microseconds a command in the lanes, by step", row("step", *(f"{side.stored:,}" for side in sides))]
    for step in sorted(full.steps.seconds, key=full.steps.seconds.__getitem__, reverse=True):
        each = (f"{side.steps.seconds.get(step, 0) / side.steps.commands * 1e6:,.0f}" for side in sides)
        lines.append(row(step, *each))
    return "\n".join(lines), Verdict(
        "time for the same commands, full / empty", full.seconds / empty.seconds, "<=", TARGET
    )


def _batch(steps: Steps) -> float:
    """Milliseconds that a batch takes in its lane."""
    return sum(steps.seconds.values()) / steps.batches * 1000


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.stored", description=__doc__)
    parser.add_argument("--stored", type=int, default=1_000_000, help="default: %(default)s")
    parser.add_argument("--commands", type=int, default=20_000, help="of a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="exit with 1 where the target is missed")
    arguments = parser.parse_args()
    told, verdict = report(*asyncio.run(_measure(arguments)))
    print(told)
    return judge([verdict], check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
