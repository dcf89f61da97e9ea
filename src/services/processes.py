"""Processes that outlive us: start them, know them again, stop them, and find ports for them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from .model import ServicesError

# The start time is derived from the clock, which may be set meanwhile; no pid comes round again within this.
_SAME_START = 2.0
_POLL = 0.02
_KILL_DEADLINE = 10.0
_TAIL_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process by number and start time, so that one that got the number later is never taken for it."""

    pid: int
    created: float

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) > _SAME_START:
                return False
            if process.status() != psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return False
        with suppress(ChildProcessError):  # it ended, and is ours to reap only if we are its parent
            os.waitpid(self.pid, os.WNOHANG)
        return False

    async def stop(self, how: signal.Signals, *, patience: float) -> bool:
        """Ask the process to end, kill its group after `patience` seconds, and return whether it was running.

        Raises:
            ServicesError: not even SIGKILL ended it.
        """
        if not self.alive:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)
        if await self._ended(patience):
            return True
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # it leads a session, so its group bears its number
        if not await self._ended(_KILL_DEADLINE):
            raise ServicesError(f"Process {self.pid} survives SIGKILL: see what holds it in the kernel (ps, dmesg).")
        return True

    async def _ended(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while self.alive:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL)
        return True


def spawn(command: Sequence[str], *, folder: Path, log: Path) -> Process:
    """Start a program that survives us, in a session of its own and in `folder`, with its output appended to `log`.

    Raises:
        ServicesError: the program cannot be started.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        # Not subprocess.Popen, which warns when it is dropped while the process runs.
        pid = os.posix_spawnp(
            "sh",
            ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP],
        )
    except OSError as error:
        raise ServicesError(f"{command[0]} cannot be started ({error}): check that it can be executed.") from error
    return Process(pid=pid, created=psutil.Process(pid).create_time())


async def ask(*command: str, folder: Path | None = None, patience: float | None = None) -> tuple[int, bytes]:
    """Run a program to its end, and return its exit code and what it printed; it is killed when we are interrupted.

    Raises:
        TimeoutError: it did not end within `patience` seconds, and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), patience)
        return await process.wait(), output
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run(*command: str, folder: Path, what: str) -> None:
    """Run a program in `folder`, of which only the success matters.

    Raises:
        ServicesError: it failed; the message has its last lines.
    """
    code, output = await ask(*command, folder=folder)
    if code:
        raise ServicesError(f"{what} failed: {command[0]} ended with {code}. Its last lines:\n{last_lines(output)}")


def last_lines(output: bytes) -> str:
    """Return the end of what a program printed, indented."""
    lines = output.decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  {line}" for line in lines) or "  (it printed nothing)"


def free_ports(count: int, among: range) -> tuple[int, ...]:
    """Pick ports of 127.0.0.1 that nobody listens on.

    Not by binding port 0, which yields one of the ports that outgoing connections get too: while the service is down
    such a connection could take its port, and a client that keeps trying it can even end up connected to itself.

    Raises:
        ServicesError: nearly every port is taken.
    """
    for _ in range(100):
        ports = tuple(random.sample(among, count))
        if are_free(ports):
            return ports
    raise ServicesError(f"No free port on 127.0.0.1 from {among[0]} to {among[-1]}: stop what listens there.")


def are_free(ports: Sequence[int]) -> bool:
    """Whether nobody listens on any of these ports of 127.0.0.1."""
    with ExitStack() as sockets:
        try:
            for port in ports:
                probe = sockets.enter_context(socket.socket())
                # As the services do: connections of a former run that linger in TIME_WAIT are no obstacle.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
