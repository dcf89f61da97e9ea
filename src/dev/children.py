"""Workers, webs and a compliance server as children: processes that never outlive whoever started them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from ..models.errors import AssessmentStoreError
from ..services.processes import last_lines

_PATIENCE = 10.0
_READY_DEADLINE = 90.0
_POLL = 0.1
_TAIL_BYTES = 16_384
_PR_SET_PDEATHSIG = 1


class ChildEndedError(AssessmentStoreError):
    """The worker or the web ended, or does not get ready; the message has the last lines of its log."""


@dataclass(frozen=True, kw_only=True)
class Child:
    """One process, and where it writes."""

    name: str
    log: Path
    process: Process

    async def ready(self, url: str) -> None:
        """Return once it answers on `/ready` that it is.

        Raises:
            ChildEndedError: it does not in good time.
        """
        try:
            async with asyncio.timeout(_READY_DEADLINE), aiohttp.ClientSession() as session:
                while not await _is_ready(session, url):  # noqa: ASYNC110 - another process sets no event of ours
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise self._trouble(f"is not ready after {_READY_DEADLINE:g} s") from error

    async def ended(self) -> None:
        """Wait for it to end, which it should not.

        Raises:
            ChildEndedError: always.
        """
        code = await self.process.wait()
        raise self._trouble(f"ended with {_describe(code)}")

    async def stop(self) -> None:
        """Ask it to end, and kill it when it does not."""
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            await self.process.wait()

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended by itself, and the loop is not told yet
                os.killpg(self.process.pid, signal.SIGKILL)

    def _trouble(self, what: str) -> ChildEndedError:
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            return ChildEndedError(f"The {self.name} {what}. The last lines of {self.log}:\n{last_lines(file.read())}")


async def start(
    name: str,
    environment: Mapping[str, str],
    log: Path,
    *,
    program: Sequence[str] = ("assessmentstore",),
    arguments: Sequence[str] = (),
    folder: Path | None = None,
) -> Child:
    """Start a program in a session of its own: a Ctrl-C of the terminal is for its parent to pass on.

    Args:
        name: of the child: the argument that makes it one, with a number behind it where there are several.
        environment: all of it.
        log: where it writes.
        program: a module, and its arguments before the one that its name is.
        arguments: that come after that one.
        folder: that it runs in, else the present one.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # what lies in this folder is not to be imported
            "-m",
            *program,
            name.rstrip("-0123456789"),
            *arguments,
            env=environment,
            cwd=folder,
            stdin=DEVNULL,
            stdout=out,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent(),
        )
    return Child(name=name, log=log, process=process)


def _die_with_parent() -> Callable[[], None] | None:
    """Let the kernel kill a child when its parent is gone, also by `kill -9`; only Linux can.

    The function runs between fork and exec, where nothing may be imported or allocated much: all is found beforehand.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could be watched
            os._exit(1)

    return bind


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def _describe(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
