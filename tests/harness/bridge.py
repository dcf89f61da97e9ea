"""The bridge to the old system as a real process."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from assessmentstore.services.processes import free_ports
from assessmentstore.settings import ENV_PREFIX

from .installation import Installation
from .waiting import DEADLINE, eventually

_PORTS = range(21_000, 21_500)


class Bridge:
    """One `assessmentstore legacy bridge`."""

    def __init__(self, process: Process, port: int, log: Path) -> None:
        self.port = port
        self.log = log
        self._process = process

    async def ask(self, path: str) -> tuple[int, str]:
        """The status and the text of an answer."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, await answer.text()

    async def metrics(self) -> str:
        """Its metrics."""
        return (await self.ask("/metrics"))[1]

    async def until_ready(self) -> None:
        """Wait until `/ready` says so."""

        async def probe() -> bool:
            assert self._process.returncode is None, self.log.read_text()
            return (await self.ask("/ready"))[0] == 200

        await eventually(probe, "the bridge ready", tolerate=(aiohttp.ClientError, OSError))

    async def stop(self) -> int:
        """Ask it to end, and return how it did."""
        self._process.terminate()
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end, and return how it ended."""
        async with asyncio.timeout(DEADLINE):
            return await self._process.wait()

    async def destroy(self) -> None:
        """End it, in whichever state it is."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def running_bridge(installation: Installation) -> AsyncIterator[Bridge]:
    """The bridge, up and ready."""
    bridge = await start_bridge(installation, free_ports(1, among=_PORTS)[0])
    try:
        await bridge.until_ready()
        yield bridge
    finally:
        await bridge.destroy()


async def start_bridge(installation: Installation, port: int) -> Bridge:
    """Start one, without waiting."""
    folder = installation.settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "bridge.log"
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "assessmentstore.chaos.child", "-", "legacy", "bridge"),
            env=installation.environment() | {f"{ENV_PREFIX}BRIDGE_PORT": str(port)},
            cwd=folder,
            stdout=out,
            stderr=STDOUT,
        )
    return Bridge(process, port, log)


def figure(metrics: str, name: str, **labels: str) -> float:
    """One figure of the legacy ones; 0 where it was not told yet."""
    found = [
        item.value
        for family in text_string_to_metric_families(metrics)
        for item in family.samples
        if (item.name, item.labels) == (f"assessmentstore_legacy_{name}", labels)
    ]
    return sum(found)
