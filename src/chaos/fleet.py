"""The workers and webs of a run: child processes that can be killed, frozen, armed and skewed, each by its name."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import aiohttp
import psutil

from ..agents.crash_points import ENVIRONMENT_VARIABLE
from ..dev.access import local_url
from ..dev.children import Child, start
from ..services.processes import free_ports
from ..settings import ENV_PREFIX
from .installation import Installation

_PORTS = range(10_000, 12_000)
_POLL_SECONDS = 0.1
_PROBE = aiohttp.ClientTimeout(total=2)

# A worker that finishes its batches needs less.
_STOP_SECONDS = 6.0


class Fleet:
    """All that was started here, and nothing else."""

    def __init__(
        self, installation: Installation, names: Collection[str], sabotages: Mapping[str, str], logs: Path
    ) -> None:
        """Choose a port for each.

        Args:
            installation: that they work for.
            names: like `worker-1` and `web-2`; none runs yet.
            sabotages: names of sabotages with commas between, of the workers and of the webs.
            logs: a folder for what they write.
        """
        self._installation = installation
        self._sabotages = sabotages
        self._ports = dict(zip(names, free_ports(len(names), among=_PORTS), strict=True))
        self._children: dict[str, Child] = {}
        self._logs = logs

    @property
    def urls(self) -> dict[str, str]:
        """Where each answers."""
        return {name: local_url(port) for name, port in self._ports.items()}

    async def start(self, name: str, *, crash_point: str = "", broken: Collection[str] = ()) -> None:
        """Start one that does not run.

        Args:
            name: of it.
            crash_point: where it ends, or freezes.
            broken: what is to be wrong with it, beside the sabotage of the whole run.
        """
        kind = name.partition("-")[0]
        port = "WORKER_PORT" if kind == "worker" else "HTTP_PORT"
        wrong = [*filter(None, (self._sabotages.get(kind),)), *broken]
        self._logs.mkdir(parents=True, exist_ok=True)
        environment = self._installation.environment() | {
            f"{ENV_PREFIX}{port}": str(self._ports[name]),
            ENVIRONMENT_VARIABLE: crash_point,
        }
        self._children[name] = await start(
            name,
            environment,
            self._logs / f"{name}.log",
            program=("assessmentstore.chaos.child", ",".join(wrong) or "-"),
            folder=self._logs,
        )

    async def kill(self, name: str) -> None:
        """End one without a chance to tidy up."""
        child = self._children[name]
        child.kill()
        await child.process.wait()

    async def leave(self, name: str) -> None:
        """Ask one to end in good order; kill it where it does not."""
        child = self._children[name]
        if child.process.returncode is None:
            child.process.send_signal(signal.SIGCONT)
            child.process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await child.process.wait()
        await self.kill(name)

    def freeze(self, name: str) -> None:
        """Stop one in its tracks."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let one go on as if nothing had been."""
        self._signal(name, signal.SIGCONT)

    def running(self, name: str) -> bool:
        """Whether one has not ended."""
        return name in self._children and self._children[name].process.returncode is None

    def frozen(self, name: str) -> bool:
        """Whether one is stopped in its tracks."""
        try:
            return psutil.Process(self._children[name].process.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    async def ready(self, name: str, seconds: float) -> bool:
        """Whether one says within so many seconds that it is ready."""
        try:
            async with asyncio.timeout(seconds), aiohttp.ClientSession(timeout=_PROBE) as session:
                while not await _is_ready(session, self.urls[name]):  # noqa: ASYNC110 - another process sets no event
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            return False
        return True

    async def destroy(self) -> None:
        """End all, in whichever state they are."""
        await asyncio.gather(*(self.kill(name) for name in self._children))

    def log(self, name: str) -> Path:
        """Where one writes."""
        return self._logs / f"{name}.log"

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = self._children[name].process
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/ready") as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
