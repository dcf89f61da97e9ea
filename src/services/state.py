"""What was started below a data directory: `services/state.json`, and the lock that lets one change it at a time.

A record outlives its process: a service that died, or was stopped, comes back on the ports and the data it had.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from ..settings import ENV_PREFIX
from .model import Name, ServicesError
from .processes import Process

_LOCK_POLL = 0.05


@dataclass(frozen=True, kw_only=True)
class Record:
    """One service that was started here."""

    how: Literal["docker", "local"]
    url: str
    detail: str
    ports: tuple[int, ...] = ()
    process: Process | None = None
    """The process that was started; none for Docker, and none after the service was stopped."""

    @property
    def running(self) -> bool:
        """Whether it still runs; of Docker, whether we started it and have not stopped it since."""
        return self.how == "docker" or (self.process is not None and self.process.alive)


_Records = TypeAdapter(dict[Name, Record])


class State:
    """The records of one data directory; change them only under `locked`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "state.json"

    def load(self) -> dict[Name, Record]:
        """Return the records, none where nothing was ever started.

        Raises:
            ServicesError: the file is damaged.
        """
        try:
            return _Records.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError as error:
            raise ServicesError(
                f"{self._file} is damaged ({error.errors()[0]['msg']}): stop the services it lists, then delete it."
            ) from error

    def save(self, name: Name, record: Record) -> None:
        """Put in the record of one service."""
        self._write(self.load() | {name: record})

    def forget(self, name: Name) -> None:
        """Drop the record of one service."""
        self._write({other: record for other, record in self.load().items() if other != name})

    def _write(self, records: dict[Name, Record]) -> None:
        scratch = self._file.with_suffix(".new")  # renamed when complete, so that a crash leaves a whole file
        scratch.write_bytes(_Records.dump_json(records, indent=2))
        scratch.replace(self._file)


@asynccontextmanager
async def locked(folder: Path, report: Callable[[str], None]) -> AsyncIterator[State]:
    """Hold the services of a data directory; the kernel gives the lock back if this process dies.

    Raises:
        ServicesError: the folder cannot be written.
    """
    descriptor = _open_lock(folder)
    try:
        if not _try_lock(descriptor):
            report(f"waiting for another command that starts or stops the services in {folder}")
            while not _try_lock(descriptor):  # noqa: ASYNC110 - another process holds it, which has no Event
                await asyncio.sleep(_LOCK_POLL)
        yield State(folder)
    finally:
        os.close(descriptor)


def _open_lock(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ServicesError(
            f"{folder} cannot be written ({error}): set {ENV_PREFIX}DATA_DIR to where you may."
        ) from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
