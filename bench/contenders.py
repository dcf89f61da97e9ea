"""Who competes, and how each is run: a process of its own, warmed up, then let go on a backlog that waits for it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp

from assessmentstore.settings import ENV_PREFIX, Settings

_HERE = Path(__file__).parents[1]

# A contender that is stopped while the backlog is written must not lose its partitions meanwhile.
_SESSION_SECONDS = 60

_END_SECONDS = 30.0
_READY_SECONDS = 60.0
_POLL_SECONDS = 0.05

# Long beside a switch between processes, short beside a batch.
_TURN_SECONDS = 0.04

SECRET = "a secret for measurements, long enough for HS256"  # noqa: S105 - it guards nothing
"""Signs the tokens of a measurement."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to work off the commands."""

    name: str
    arguments: tuple[str, ...]
    """Of the Python interpreter."""
    python: str = sys.executable
    made_by: str | None = None
    """The target of the Makefile that installs what it needs besides."""
    stores: bool = True
    """Whether it writes to Postgres."""
    share: float = 1.0
    """How much of the backlog it gets: its rate is what counts, and a slow one need not take all day."""


WORKER = Contender("worker", ("-m", "assessmentstore", "worker"))
PER_MESSAGE = Contender("per-message", ("-m", "bench.per_message"), share=0.05)
BARE = Contender("bare", ("-m", "bench.bare"))

BARE_LANES = Contender("bare-lanes", ("-m", "bench.bare", "lanes"))

_QUIX_PYTHON = str(_HERE / "build/quix/bin/python")
QUIX = Contender("quix", ("-m", "bench.quix"), python=_QUIX_PYTHON, made_by="quix", stores=False)

WEB = Contender("web", ("-m", "assessmentstore", "web"))
"""Competes with nobody: reads are measured on it."""

CONTENDERS = (WORKER, PER_MESSAGE, BARE, BARE_LANES, QUIX)


class NotInstalledError(Exception):
    """What runs a contender cannot be installed."""


class ContenderDiedError(Exception):
    """A contender ended on its own; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    """A contender's process."""

    process: asyncio.subprocess.Process
    port: int
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        """Make sure that it lives.

        Raises:
            ContenderDiedError: it does not.
        """
        if self.process.returncode is not None:
            raise ContenderDiedError(f"exit code {self.process.returncode}:\n{self.log.read_text()[-4000:]}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop it for a while, as it stands."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def limited(processes: Sequence[Running], cores: float) -> AsyncIterator[None]:
    """Let each of several processes use no more than a part of a core: it runs in turns, and stands still in between.

    Their turns follow each other: they do not overlap while all of them together have one core at most.
    """
    turns = [asyncio.create_task(_run_in_turns(process, cores, number)) for number, process in enumerate(processes)]
    try:
        yield
    finally:
        for turn in turns:
            turn.cancel()
        await asyncio.wait(turns)
        for process in processes:
            process.process.send_signal(signal.SIGCONT)


async def _run_in_turns(process: Running, cores: float, number: int) -> None:
    started = time.perf_counter() + number * _TURN_SECONDS * cores
    for turn in itertools.count():
        begin = started + turn * _TURN_SECONDS
        await asyncio.sleep(begin - time.perf_counter())
        process.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(begin + _TURN_SECONDS * cores - time.perf_counter())
        process.process.send_signal(signal.SIGSTOP)


def install(contender: Contender) -> None:
    """Install what runs a contender, where it is not there yet.

    Raises:
        NotInstalledError: that is not possible.
    """
    if contender.made_by is None:
        return
    made = subprocess.run(["make", "--silent", contender.made_by], cwd=_HERE, check=False)  # noqa: S607
    if made.returncode != 0:
        raise NotInstalledError(f"{contender.name}: `make {contender.made_by}` failed; --only leaves it out")


@asynccontextmanager
async def running(contender: Contender, settings: Settings) -> AsyncIterator[Running]:
    """Run a contender on an installation, and end it."""
    port = _free_port()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    log = settings.data_dir / f"{contender.name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            contender.python,
            *contender.arguments,
            env=os.environ | _environment(settings, port),
            cwd=_HERE,
            stdout=output,
            stderr=output,
        )
    try:
        yield Running(process, port, log)
    finally:
        await _end(process)


async def until_ready(*processes: Running) -> None:
    """Wait until each of several processes answers that it is ready.

    Raises:
        ContenderDiedError: one has ended.
        TimeoutError: one takes too long.
    """
    async with aiohttp.ClientSession() as session, asyncio.timeout(_READY_SECONDS):
        for process in processes:
            while not await _is_ready(session, process):  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_SECONDS)


async def _is_ready(session: aiohttp.ClientSession, process: Running) -> bool:
    process.check()
    try:
        async with session.get(f"http://127.0.0.1:{process.port}/ready") as answer:
            return answer.status == HTTPStatus.OK
    except aiohttp.ClientError:
        return False  # it does not listen yet


def _environment(settings: Settings, port: int) -> dict[str, str]:
    values = {
        "KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "TOPIC_PREFIX": settings.topic_prefix,
        "TOPIC_PARTITIONS": settings.topic_partitions,
        "DATA_DIR": settings.data_dir,
        "WORKER_PORT": port,
        "HTTP_PORT": port,
        "HTTP_HOST": "127.0.0.1",
        "SESSION_TIMEOUT": _SESSION_SECONDS,
        "BATCH_SIZE": settings.batch_size,
        "LOG_LEVEL": "warn",
        "RATE_LIMIT": 0,  # what is measured is the store, not the patience of its door
    }
    if settings.jwt_secret is not None:
        values["JWT_SECRET"] = settings.jwt_secret.get_secret_value()
    return {ENV_PREFIX + name: str(value) for name, value in values.items()}


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _END_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
