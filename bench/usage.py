"""CPU seconds and memory of the processes that take part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import psutil

from assessmentstore.services import Services

_SAMPLE_SECONDS = 0.05


class CpuClock:
    """CPU seconds that each service and a process of ours have used so far."""

    def __init__(self, present: Services, pid: int) -> None:
        self._processes = {"contender": psutil.Process(pid)}
        for service in present.services:
            if service.pid is not None:
                self._processes[service.name] = psutil.Process(service.pid)

    def read(self) -> dict[str, float]:
        """The seconds by name; a service that is not a process of this machine is left out."""
        return {name: _seconds(process) for name, process in self._processes.items()}


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


class PeakMemory:
    """The largest resident memory of a process, in bytes, as it was sampled."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.bytes = 0

    def sample(self) -> None:
        """Look now."""
        self.bytes = max(self.bytes, self._process.memory_info().rss)

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
