"""The result as text and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import reduce
from operator import add
from typing import Any

from .contenders import BARE, BARE_LANES, PER_MESSAGE, QUIX, WORKER
from .measure import Latency, Throughput
from .steps import Steps
from .tables import MEBI, row
from .targets import Verdict, all_met
from .usage import CONTENDER, CORES

RATIOS = {PER_MESSAGE.name: (">=", 8.0), BARE.name: (">=", 0.8), QUIX.name: (">", 1.0)}
"""How many times the rate of each other contender the worker has to reach."""

PACE = 1000
"""Commands a second at which latency has a target."""

LATENCIES = {50: 15.0, 99: 60.0}
"""Milliseconds from command to event that so many percent of the worker's commands have to stay below."""


@dataclass(slots=True)
class Result:
    """Everything that was measured."""

    rounds: list[dict[str, Throughput]] = field(default_factory=list)
    """By contender."""
    latencies: list[Latency] = field(default_factory=list)

    def of(self, contender: str) -> list[Throughput]:
        """All rounds of a contender."""
        return [measured[contender] for measured in self.rounds if contender in measured]

    def median(self, contender: str) -> float:
        """Transitions a second, in the median round."""
        return statistics.median(each.rate for each in self.of(contender))

    def ratio(self, contender: str) -> float:
        """The worker's rate as a multiple of another contender's, medians of all rounds."""
        return self.median(WORKER.name) / self.median(contender)

    @property
    def verdicts(self) -> list[Verdict]:
        """Every target that something was measured for."""
        ratios = [
            Verdict(f"worker / {name}", self.ratio(name), relation, target)
            for name, (relation, target) in RATIOS.items()
            if self.of(name) and self.of(WORKER.name)
        ]
        latencies = [
            Verdict(f"p{percent} at {PACE:,} commands/s", each.percentile(percent), "<", target, " ms")
            for each in self.latencies
            if (each.contender, each.pace) == (WORKER.name, PACE)
            for percent, target in LATENCIES.items()
        ]
        return ratios + latencies

    @property
    def met(self) -> bool:
        """Whether the worker reaches every target that something was measured for."""
        return all_met(self.verdicts)

    @property
    def steps(self) -> Steps:
        """The worker's batches of all rounds."""
        return reduce(add, (each.steps for each in self.of(WORKER.name)), Steps())


def text(result: Result) -> str:
    """The result for people."""
    parts = [_rates(result), _latencies(result.latencies), _targets(result), _cpu(result)]
    parts.append(_steps("Where a batch's time goes", result.steps))
    parts += [_steps(f"The same at {each.pace:,} commands a second", each.steps) for each in result.latencies]
    return "\n\n".join(part for part in parts if part)


def _names(result: Result) -> list[str]:
    return list(result.rounds[0]) if result.rounds else []


def _rates(result: Result) -> str:
    names = _names(result)
    if not names:
        return ""
    lines = [
        "Transitions a second, one process each, from the start on a backlog to the last event that a read_committed",
        f"consumer sees: {_sizes(result)}; the rate is what counts.",
    ]
    lines.append(row("round", *names))
    for number, measured in enumerate(result.rounds, start=1):
        lines.append(row(number, *(f"{measured[name].rate:,.0f}" for name in names)))
    lines.append(row("median", *(f"{result.median(name):,.0f}" for name in names)))
    memory = (max(each.peak_memory for each in result.of(name)) / MEBI for name in names)
    lines.append(row("peak MiB", *(f"{each:,.0f}" for each in memory)))
    others = (statistics.median(each.others for each in result.of(name)) for name in names)
    lines.append(row("others' cores", *(f"{each:.2f}" for each in others)))
    lines.append(
        f"Others' cores: of the machine's {CORES}, busy with what does not take part; it should be next to none."
    )
    return "\n".join(lines)


def _sizes(result: Result) -> str:
    return ", ".join(f"{each.contender} on {each.commands:,} commands" for each in result.rounds[0].values())


def _targets(result: Result) -> str:
    lines = [str(verdict) for verdict in result.verdicts]
    if result.of(BARE_LANES.name) and result.of(WORKER.name):
        lines.append(
            f"worker / {BARE_LANES.name}: {result.ratio(BARE_LANES.name):.2f}, no target: what the guards cost"
        )
    return "\n".join(lines)


def _latencies(latencies: Sequence[Latency]) -> str:
    if not latencies:
        return ""
    lines = [f"Milliseconds from command to event at {latencies[0].pace:,} commands a second"]
    lines.append(row("", "p50", "p99", "max", "peak MiB", "own cores", "others'"))
    for each in latencies:
        values = (each.percentile(50), each.percentile(99), max(each.milliseconds), each.peak_memory / MEBI)
        lines.append(
            row(each.contender, *(f"{value:,.1f}" for value in values), f"{each.cores:.2f}", f"{each.others:.2f}")
        )
    return "\n".join(lines)


def _cpu(result: Result) -> str:
    if not result.rounds:
        return ""
    lines = ["CPU seconds per 1,000 commands, medians"]
    services = list(result.rounds[0][_names(result)[0]].cpu)
    lines.append(row("", *("own" if name == CONTENDER else name for name in services)))
    lines += [row(name, *(f"{_per_thousand(result, name, each):.3f}" for each in services)) for name in _names(result)]
    return "\n".join(lines)


def _per_thousand(result: Result, contender: str, process: str) -> float:
    return statistics.median(1000 * each.cpu[process] / each.commands for each in result.of(contender))


def _steps(title: str, steps: Steps) -> str:
    if not steps.batches:
        return ""
    whole = sum(steps.seconds.values())
    size = steps.commands / steps.batches
    lines = [
        f"{title}: {steps.batches:,.0f} batches of {size:,.0f} commands in the worker's lanes,",
        "which share its one core: each step's time has the other lanes' CPU time in it.",
        row("step", "seconds", "share", "ms/batch", "µs/command"),
    ]
    for name, seconds in sorted(steps.seconds.items(), key=lambda item: -item[1]):
        each = f"{seconds / steps.batches * 1e3:,.1f}", f"{seconds / steps.commands * 1e6:,.0f}"
        shares = f"{seconds / whole:.0%}", *each
        lines.append(row(name, f"{seconds:.2f}", *shares))
    return "\n".join(lines)


def as_json(result: Result) -> dict[str, Any]:
    """The result for programs."""
    names = _names(result)
    return {
        "rounds": [{name: _throughput(each) for name, each in measured.items()} for measured in result.rounds],
        "medians": {name: result.median(name) for name in names},
        "targets": [asdict(verdict) | {"met": verdict.met} for verdict in result.verdicts],
        "met": result.met,
        "latencies": [_latency(each) for each in result.latencies],
        "steps": asdict(result.steps),
    }


def _throughput(each: Throughput) -> dict[str, Any]:
    return {
        "commands": each.commands,
        "seconds": each.seconds,
        "rate": each.rate,
        "cpuSeconds": each.cpu,
        "peakMemoryBytes": each.peak_memory,
        "othersCores": each.others,
        "steps": asdict(each.steps),
    }


def _latency(each: Latency) -> dict[str, Any]:
    return {
        "contender": each.contender,
        "commandsPerSecond": each.pace,
        "p50Ms": each.percentile(50),
        "p99Ms": each.percentile(99),
        "maxMs": max(each.milliseconds),
        "peakMemoryBytes": each.peak_memory,
        "ownCores": each.cores,
        "othersCores": each.others,
        "steps": asdict(each.steps),
    }
