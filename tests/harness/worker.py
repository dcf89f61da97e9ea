"""Workers as real processes that a test can kill, freeze and stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import aiohttp
import psutil

from assessmentstore.agents.crash_points import ENVIRONMENT_VARIABLE
from assessmentstore.services.processes import free_ports
from assessmentstore.settings import ENV_PREFIX

from .installation import Installation
from .waiting import DEADLINE, eventually

_PORTS = range(16_000, 20_000)
_TAIL_LINES = 40

# What a worker logs of the load itself, in the thousands.
_ROUTINE = re.compile(r'"event": "(refused|a record is no command|a command id came again)')


class Worker:
    """One `assessmentstore worker`."""

    def __init__(
        self,
        installation: Installation,
        name: str,
        *,
        crash_point: str = "",
        sabotage: str = "-",
        port: int | None = None,
    ) -> None:
        """Start it.

        Args:
            installation: that it works for.
            name: in logs and failures.
            crash_point: where it kills itself.
            sabotage: names of `assessmentstore.chaos.sabotages`, with commas between.
            port: of a worker before, whose tables it is to have.
        """
        self.name = name
        self.port = port or free_ports(1, among=_PORTS)[0]
        folder = installation.settings.data_dir
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{name}.log"
        environment = installation.environment() | {
            f"{ENV_PREFIX}WORKER_PORT": str(self.port),
            ENVIRONMENT_VARIABLE: crash_point,
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "assessmentstore.chaos.child", sabotage, "worker"],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, nothing while it lives."""
        return self._process.poll()

    def kill9(self) -> None:
        """End it without a chance to tidy up."""
        self._process.kill()
        self._process.wait()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Stop it in its tracks as long as the block lasts."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            await self.until_frozen()
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        self._process.send_signal(signal.SIGCONT)

    async def until_frozen(self, *, deadline: float = DEADLINE) -> None:
        """Wait until all its threads are stopped."""

        async def probe() -> bool:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

        await eventually(probe, f"worker {self.name} frozen", deadline=deadline)

    def terminate(self) -> None:
        """Ask it to end, without waiting."""
        self._process.terminate()

    async def stop(self) -> float:
        """Ask it to end, and return how many seconds that took."""
        started = time.monotonic()
        self.terminate()
        await self.ended()
        return time.monotonic() - started

    async def ended(self, *, deadline: float = DEADLINE) -> int:
        """Wait for its end and return how it ended."""

        async def probe() -> bool:
            return self.returncode is not None

        await eventually(probe, f"the end of worker {self.name}", deadline=deadline)
        return self._process.wait()

    async def ready(self) -> int | None:
        """The status of its `/ready`, nothing where it does not answer."""
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{self.port}/ready") as answer,
            ):
                return answer.status
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None

    async def until_ready(self, status: int = 200, *, deadline: float = DEADLINE) -> None:
        """Wait until `/ready` answers with this status."""

        async def probe() -> bool:
            return await self.ready() == status

        await eventually(probe, f"{status} from /ready of worker {self.name}", deadline=deadline)

    def tail(self) -> str:
        """The end of its log."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if not _ROUTINE.search(line)]
        how = "running" if self.returncode is None else f"ended with {self.returncode}"
        return "\n".join([f"--- worker {self.name} ({how})", *lines[-_TAIL_LINES:]])

    def destroy(self) -> None:
        """End it and whatever it started, in whichever state it is."""
        if self.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


class Cluster:
    """The workers of one installation."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.workers: list[Worker] = []

    def start(self, *, crash_point: str = "", sabotage: str = "-", port: int | None = None) -> Worker:
        """Start one more worker."""
        name = f"w{len(self.workers) + 1}"
        worker = Worker(self.installation, name, crash_point=crash_point, sabotage=sabotage, port=port)
        self.workers.append(worker)
        return worker

    async def owners(self) -> dict[int, tuple[int, int]]:
        """Of each partition that was ever claimed: the process that claimed it last, and the epoch."""
        async with self.installation.database() as database:
            rows = await database.fetch("SELECT partition, owner, epoch FROM command_offsets")
        return {row["partition"]: (int(row["owner"].split(":")[1]), row["epoch"]) for row in rows}

    async def until_owned_by(self, *workers: Worker, deadline: float = DEADLINE) -> dict[int, tuple[int, int]]:
        """Wait until each partition belongs to one of these workers, and each of them has one."""

        async def probe() -> dict[int, tuple[int, int]]:
            owners = await self.owners()
            complete = len(owners) == self.installation.settings.topic_partitions
            return owners if complete and {pid for pid, _ in owners.values()} == _pids(workers) else {}

        names = ", ".join(worker.name for worker in workers)
        return await eventually(probe, f"all partitions with {names}", deadline=deadline)

    def destroy(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.destroy()

    def tails(self) -> str:
        """The end of each worker's log."""
        return "\n".join(worker.tail() for worker in self.workers)


def _pids(workers: Collection[Worker]) -> set[int]:
    return {worker.pid for worker in workers}


async def pass_time(seconds: float) -> None:
    """Let an outage last: the one place where a time is the condition itself."""
    await asyncio.sleep(seconds)
