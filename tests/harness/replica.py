"""A real streaming replica of the tests' Postgres, as a local process that a test can pause, kill and promote."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import pytest

from assessmentstore.services.model import MissingError
from assessmentstore.services.postgres import Postgres
from assessmentstore.services.processes import Process, ask, free_ports, last_lines, spawn

from .waiting import eventually

_PORTS = range(20_000, 24_000)


class Replica:
    """One replica; it follows the whole server, so that each database has its copy there."""

    def __init__(self, program: Postgres, folder: Path, primary: str) -> None:
        self._program = program
        self._folder = folder
        self._primary = primary
        self.port = free_ports(1, among=_PORTS)[0]
        self._process: Process | None = None
        # Without one the server throws away what a replica missed, at the next of its checkpoints.
        self._slot = f"replica_{self.port}"

    async def heal(self) -> None:
        """Make it a replica that follows, whatever a test did to it."""
        if self._process is not None:
            self.thaw()
            if not self._process.alive:
                await self.start()
            if await self.execute("SELECT pg_is_in_recovery()"):
                await self.resume()
                return
            await self.kill()
        await self._copy()
        await self.start()

    async def _copy(self) -> None:
        """Take a base backup of the server, which makes a replica of it when it starts."""
        data = self._folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        self._program.user.give(data)
        await self._drop_slot()
        options = ["-D", str(data), "-d", self._primary, "-R", "-X", "stream", "-c", "fast", "-C", "-S", self._slot]
        code, output = await ask(*self._program.user.prefix, str(self._program.bin / "pg_basebackup"), *options)
        if b"no pg_hba.conf entry" in output:
            pytest.skip("the tests' Postgres lets nobody replicate it (pg_hba.conf)")
        assert code == 0, last_lines(output)

    async def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        command = self._program.command(self._folder, (self.port,))
        self._process = spawn(command, folder=self._folder, log=self._folder / "log")

        async def answers() -> bool:
            return bool(await self.execute("SELECT TRUE"))

        await eventually(answers, "a replica that answers", tolerate=(asyncpg.PostgresError, OSError))

    def url(self, database_url: str) -> str:
        """The copy of a database."""
        parts = urlsplit(database_url)
        user = f"{parts.username}@" if parts.username else ""
        return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self.port}"))

    async def pause(self) -> None:
        """Stop the replay: the copy stays as it is, and answers."""
        await self.execute("SELECT pg_wal_replay_pause()")

        async def paused() -> bool:
            return bool(await self.execute("SELECT pg_get_wal_replay_pause_state()") == "paused")

        await eventually(paused, "the replay to be paused")

    async def resume(self) -> None:
        """Let the replay go on."""
        await self.execute("SELECT pg_wal_replay_resume()")

    async def promote(self) -> None:
        """Make it a server of its own."""
        await self.execute("SELECT pg_promote()")

    def freeze(self) -> None:
        """Let it hang: connections stand, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it without a chance to say good-bye."""
        if self._process is not None:
            self.thaw()
            await self._process.stop(signal.SIGQUIT, patience=10)

    async def remove(self) -> None:
        """Kill it, and let the server forget it."""
        await self.kill()
        await self._drop_slot()

    async def execute(self, statement: str) -> object:
        """Run a statement, and return the first value that it answers."""
        return await _ask_once(self.url(self._primary), statement)

    async def _drop_slot(self) -> None:
        """A server that was just left may believe for a moment that it is not."""

        async def dropped() -> bool:
            drop = "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE slot_name = "
            await _ask_once(self._primary, f"{drop}'{self._slot}'")
            return True

        await eventually(dropped, "a replication slot to be free", tolerate=(asyncpg.ObjectInUseError,))

    def _signal(self, number: signal.Signals) -> None:
        """A server that stands still has to be still with all its children: each serves a connection by itself."""
        assert self._process is not None
        if not self._process.alive:
            return
        server = psutil.Process(self._process.pid)
        for process in [server, *server.children(recursive=True)]:
            process.send_signal(number)


@asynccontextmanager
async def open_replica(database_url: str) -> AsyncIterator[Replica]:
    """A replica of the server that has this database; where none can be made, the test is skipped."""
    try:
        program = await Postgres.find()
    except MissingError as error:
        pytest.skip(f"no replica without {error}")
    if not (program.bin / "pg_basebackup").exists():
        pytest.skip(f"no replica without {program.bin / 'pg_basebackup'}")
    with tempfile.TemporaryDirectory(prefix="assessmentstore-replica-", ignore_cleanup_errors=True) as folder:
        replica = Replica(program, Path(folder), urlunsplit(urlsplit(database_url)._replace(path="/postgres")))
        try:
            await replica.heal()
            yield replica
        finally:
            await replica.remove()


async def _ask_once(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close(timeout=10)
