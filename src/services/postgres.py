"""Postgres as a local process: from PATH, else Debian's folder, else the binaries inside the `pgserver` wheel."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, Signals
from typing import ClassVar, Self

import asyncpg
import psutil

from .local import NotReadyError, Report, scratch_folder
from .model import MissingError, Name, ServicesError
from .processes import run
from .unprivileged import Unprivileged
from .wheels import wheel_folder

DEBIAN = Path("/usr/lib/postgresql")

_ROLE = "assessmentstore"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # the path of a socket may have 107 characters only, that of a folder any number
    "max_connections": "200",
    "fsync": "on",
    # A million assessments have a working set of about this.
    "shared_buffers": "512MB",
    "max_wal_size": "1GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_ORPHANS_DEADLINE = 10.0


@dataclass(frozen=True)
class Postgres:
    """The executables of one Postgres, and how to run them when we are root."""

    bin: Path
    user: Unprivileged

    name: ClassVar[Name] = "postgres"
    port_count: ClassVar[int] = 1
    port_range: ClassVar[range] = range(28_000, 32_000)
    # "Fast": it ends sessions and writes a checkpoint; SIGTERM would wait until every client has left.
    stop_signal: ClassVar[Signals] = SIGINT
    stop_patience: ClassVar[float] = 10.0

    @classmethod
    async def find(cls) -> Self:
        """Find the first Postgres that runs here.

        Raises:
            MissingError: there is none, or none that runs while we are root.
        """
        folders = [folder for folder in _folders() if (folder / "postgres").exists() and (folder / "initdb").exists()]
        if not folders:
            raise MissingError(
                f"Postgres (not on PATH, not in {DEBIAN}) or the Python package pgserver (not installed)"
            )
        return cls(folders[0], await Unprivileged.find(str(folders[0] / "postgres")))

    @property
    def detail(self) -> str:
        return str(self.bin / "postgres")

    async def prepare(self, folder: Path, report: Report) -> None:
        """Create the database cluster once; after a crash wait until its last processes are gone.

        Raises:
            ServicesError: the cluster cannot be created, or is in use.
        """
        data = folder / "data"
        if data.exists():
            await _wait_for_orphans(data)
            # Nobody uses the data, but its pid may be somebody else's by now, and Postgres would give up on that.
            (data / "postmaster.pid").unlink(missing_ok=True)
            return
        report("postgres: creating a database cluster")
        with scratch_folder(folder) as scratch:
            cluster = scratch / "data"
            cluster.mkdir(mode=0o700)
            self.user.give(cluster)
            options = ["-U", _ROLE, "--auth=trust", "--encoding=UTF8", "--locale=C"]
            command = [*self.user.prefix, str(self.bin / "initdb"), "-D", str(cluster), *options]
            await run(*command, folder=folder, what="Creating the Postgres database cluster")
            cluster.rename(data)

    def command(self, folder: Path, ports: tuple[int, ...]) -> list[str]:
        options = [option for name, value in _SETTINGS.items() for option in ("-c", f"{name}={value}")]
        server = [str(self.bin / "postgres"), "-D", str(folder / "data"), "-p", str(ports[0])]
        return [*self.user.prefix, *server, *options]

    @staticmethod
    def url(ports: tuple[int, ...]) -> str:
        return f"postgresql://{_ROLE}@127.0.0.1:{ports[0]}/{_ROLE}"

    @staticmethod
    async def ready(url: str) -> None:
        """Connect and ask; on a new cluster, create the database."""
        try:
            try:
                await _execute(url, "SELECT 1")
            except asyncpg.InvalidCatalogNameError:
                await _execute(f"{url.rpartition('/')[0]}/postgres", f"CREATE DATABASE {_ROLE}")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise NotReadyError(str(error) or type(error).__name__) from error


def _folders() -> list[Path]:
    """The folders that may hold a Postgres, best first."""
    on_path = shutil.which("postgres")
    wheel = wheel_folder("pgserver")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(DEBIAN.glob("*/bin"), key=_version, reverse=True)
    return [*folders, wheel / "pginstall" / "bin"] if wheel else folders


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", folder.parent.name))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close(timeout=5)


async def _wait_for_orphans(data: Path) -> None:
    """Wait for the backends of a Postgres that was killed: until they notice, a new one refuses to start."""
    deadline = time.monotonic() + _ORPHANS_DEADLINE
    while pids := _processes_in(data):
        if time.monotonic() > deadline:
            users = ", ".join(map(str, pids))
            raise ServicesError(f"The Postgres data in {data} is in use by process {users}: stop it, then try again.")
        await asyncio.sleep(0.05)


def _processes_in(data: Path) -> list[int]:
    """Every process of a Postgres works in its data directory."""
    here = ("postgres", os.path.realpath(data))
    processes = psutil.process_iter(["name", "cwd"])
    return [process.pid for process in processes if (process.info["name"], process.info["cwd"]) == here]
