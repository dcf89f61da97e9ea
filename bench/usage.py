"""CPU seconds and memory of the processes that take part, and how busy the machine is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import psutil

from assessmentstore.services import Services

_SAMPLE_SECONDS = 0.05


CONTENDER = "contender"
"""The name of a contender's processes among those of the services."""

MEASURING = "bench"
"""The name of this very process."""

CORES = psutil.cpu_count() or 1
"""Of the machine."""


class CpuClock:
    """CPU seconds that each service, the processes of a contender, and this process have used so far."""

    def __init__(self, present: Services, *pids: int) -> None:
        self._processes = {CONTENDER: [psutil.Process(pid) for pid in pids]}
        for service in present.services:
            if service.pid is not None:
                self._processes[service.name] = [psutil.Process(service.pid)]

    def read(self) -> dict[str, float]:
        """The seconds by name; a service that is not a process of this machine is left out."""
        used = {name: sum(map(_seconds, processes)) for name, processes in self._processes.items()}
        return used | {MEASURING: time.process_time()}  # without its children, which are all the others


class BusyShare:
    """How much of the time of all cores of the machine is spent at work since now, whoever spends it."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def read(self) -> float:
        """The share, between 0 and 1."""
        now = psutil.cpu_times()
        spent = {name: getattr(now, name) - getattr(self._before, name) for name in now._fields}
        # On Linux the time of guests is in that of users, too.
        total = sum(seconds for name, seconds in spent.items() if not name.startswith("guest"))
        return 1 - (spent["idle"] + spent.get("iowait", 0)) / total if total else 0.0


def _seconds(process: psutil.Process) -> float:
    """Of a process and its children: those that live and those that it has seen end."""
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            own = child.cpu_times()
            total += own.user + own.system
    return float(total)


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was used between two readings."""
    return {name: after[name] - before[name] for name in before}


def others_cores(busy: float, used: Mapping[str, float], seconds: float) -> float:
    """Cores that were busy with what does not take part: where that is much, timings say little."""
    return max(0.0, busy * CORES - sum(used.values()) / seconds)


class PeakMemory:
    """The largest resident memory of processes together, in bytes, as it was sampled; at first that of now."""

    def __init__(self, *pids: int) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self.bytes = 0
        self.sample()

    def sample(self) -> None:
        """Look now; a process that has ended has none."""
        with suppress(psutil.NoSuchProcess):
            self.bytes = max(self.bytes, sum(process.memory_info().rss for process in self._processes))

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[PeakMemory]:
        """Look again and again."""
        task = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            task.cancel()
            self.sample()

    async def _watch(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(_SAMPLE_SECONDS)
