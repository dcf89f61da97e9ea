"""Services as local processes: start one, wait until it answers, stop it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from typing import ClassVar, Protocol, Self

from .model import Name, ServicesError
from .processes import Process, are_free, free_ports, last_lines, spawn
from .state import Record

Report = Callable[[str], None]

# A first start on a machine that is busy with other things; an idle one needs 3.
_START_DEADLINE = 90.0
_POLL = 0.05
_SCRATCH = "new-"


class NotReadyError(Exception):
    """The service does not answer yet; the message is what it, or the attempt to connect, said."""


class Program(Protocol):
    """A service that can run as a local process."""

    name: ClassVar[Name]
    port_count: ClassVar[int]
    port_range: ClassVar[range]
    stop_signal: ClassVar[Signals]
    stop_patience: ClassVar[float]
    """Seconds that an orderly stop may take before it is killed."""

    @classmethod
    async def find(cls) -> Self:
        """Find the executables, or raise `MissingError`."""
        ...

    @property
    def detail(self) -> str:
        """What was found, for people."""
        ...

    async def prepare(self, folder: Path, report: Report) -> None:
        """Make the folder fit for a start; cheap when it is."""
        ...

    def command(self, folder: Path, ports: tuple[int, ...]) -> list[str]:
        """Return the command that runs the service in the foreground."""
        ...

    @staticmethod
    def url(ports: tuple[int, ...]) -> str:
        """Return the address for clients."""
        ...

    @staticmethod
    async def ready(url: str) -> None:
        """Return once the service answers in its own protocol, or raise `NotReadyError`."""
        ...


class _Log:
    """The log of a service, from now on."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self._start = file.stat().st_size if file.exists() else 0

    def tail(self) -> str:
        with self.file.open("rb") as file:
            file.seek(self._start)
            return last_lines(file.read())


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Make a folder to prepare data in, to be renamed when complete; remove those of runs that were killed.

    Each has its own name: what a killed run had started may go on for a while, and must not reach into ours.
    """
    for leftover in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with TemporaryDirectory(dir=folder, prefix=_SCRATCH, ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


async def start(
    program: Program, folder: Path, before: Record | None, *, save: Callable[[Record], None], report: Report
) -> Record:
    """Start a service on the data and the ports it had before, and return when it answers.

    `save` is called as soon as there is a process, so that it is found again should we die while we wait.

    Raises:
        ServicesError: it does not start; the message has the last lines of its log.
    """
    log = _Log(folder / "log")
    await program.prepare(folder, report)
    ports = _ports(program, before)
    process = spawn(program.command(folder, ports), folder=folder, log=log.file)
    record = Record(how="local", url=program.url(ports), detail=program.detail, ports=ports, process=process)
    save(record)
    try:
        await wait_until_ready(type(program), record, deadline=_START_DEADLINE)
    except NotReadyError as error:
        await stop(type(program), record)
        raise ServicesError(
            f"{program.name} did not start: {error}. The last lines of {log.file}:\n{log.tail()}\n"
            f"Correct what they name, or remove {folder} to start with an empty {program.name}."
        ) from error
    return record


async def wait_until_ready(program: type[Program], record: Record, *, deadline: float) -> None:
    """Wait until a service answers.

    Raises:
        NotReadyError: its process ended, or it did not answer within `deadline` seconds.
    """
    end = time.monotonic() + deadline
    while record.process is not None and record.process.alive:
        try:
            return await program.ready(record.url)
        except NotReadyError as error:
            if time.monotonic() > end:
                raise NotReadyError(f"no answer within {deadline:.0f} s ({error})") from error
        await asyncio.sleep(_POLL)
    raise NotReadyError("its process ended")


async def stop(program: type[Program], record: Record) -> bool:
    """Stop exactly the process of this record, and return whether it was running."""
    process: Process | None = record.process
    return process is not None and await process.stop(program.stop_signal, patience=program.stop_patience)


def _ports(program: Program, before: Record | None) -> tuple[int, ...]:
    if before and before.ports and are_free(before.ports):
        return before.ports
    return free_ports(program.port_count, among=program.port_range)
