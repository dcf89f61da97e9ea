"""The executor of a worker: for the partitions that the worker owns, it takes pending assessments on and follows them.

What waits stands in Postgres: a round takes up what was taken on already and nobody has in hand, then as many pending
ones as the servers have room for. A round follows on every change that makes a difference, and on a slow clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

from ..models.assessment import AssessmentRecord, AssessmentState
from ..models.errors import UnavailableError
from ..settings import Settings
from ..store.background import background
from ..store.encryption import KeyRing
from ..store.executions import ExecutionStore, Standing
from ..store.postgres import Pool
from ..telemetry import PENDING_ASSESSMENTS
from ..web.publisher import Publisher
from .runs import Run, Tools
from .sending import Commands
from .server import ComplianceServer, open_session

log = structlog.get_logger(__name__)

# Rounds without a reason to look: partitions may have come, breakers closed, notices been lost in a crash.
_SLOW_SECONDS = 2.0

# What comes in the same moment is one round.
_FAST_SECONDS = 0.02

# Tasks that are cut off need a moment to let go of their connections.
_STOP_SECONDS = 5.0

_COUNT_SECONDS = 2.0

Given = Callable[[], Mapping[int, bool]]
"""The command partitions that this worker was given, and whether it has claimed each."""


class Executor:
    """Drives the runs of one worker."""

    def __init__(self, servers: Collection[ComplianceServer], given: Given, tools: Tools) -> None:
        self._servers = {server.url: server for server in servers}
        self._given = given
        self._tools = tools
        self._store: ExecutionStore = tools.store
        self._runs: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._by_assessment: dict[str, Run] = {}
        self._woken = asyncio.Event()
        self._counted = -_COUNT_SECONDS

    def notice(self, changed: Mapping[str, AssessmentRecord]) -> None:
        """Take note of what a batch changed, once it is committed."""
        for assessment_id in self._by_assessment.keys() & changed.keys():
            self._by_assessment[assessment_id].notice(changed[assessment_id])
        if any(record.state is AssessmentState.PENDING for record in changed.values()):
            self._woken.set()

    def servers(self) -> list[dict[str, Any]]:
        """How each server is, for `/health`."""
        return [server.health() for server in self._servers.values()]

    async def run(self) -> None:
        """Take on and follow, until cancelled."""
        try:
            while True:
                await self._round()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), _SLOW_SECONDS)
                await asyncio.sleep(_FAST_SECONDS)
        finally:
            await self._stop([task for _, task in self._runs.values()])

    async def _round(self) -> None:
        self._woken.clear()
        given = self._given()
        # A lane that claims its partition again, as when Postgres was away, keeps it: the runs go on.
        await self._stop([task for run, task in self._runs.values() if run.execution.partition not in given])
        claimed = [partition for partition, is_claimed in given.items() if is_claimed]
        if not claimed:
            return
        try:
            await self._take_up(claimed)
            room = self._room()
            if room and await self._store.begin(claimed, room):
                await self._take_up(claimed)
            await self._count_pending()
        except UnavailableError as error:
            log.info("the executor waits for Postgres", why=str(error))

    async def _take_up(self, partitions: Collection[int]) -> None:
        """Follow what is taken on and not in hand."""
        while found := await self._store.open(partitions, self._runs.keys()):
            for standing in found:
                self._begin(standing)

    async def _count_pending(self) -> None:
        if time.monotonic() - self._counted >= _COUNT_SECONDS:
            self._counted = time.monotonic()
            PENDING_ASSESSMENTS.set(await self._store.count_pending())

    def _begin(self, standing: Standing) -> None:
        execution = standing.execution
        server = self._servers.get(execution.server) or self._least_busy()
        run = Run(standing, server, self._tools)
        task = asyncio.create_task(run.follow(), name=f"execution of {execution.assessment_id}")
        self._runs[execution.id] = run, task
        self._by_assessment[execution.assessment_id] = run
        task.add_done_callback(lambda _: self._ended(run))

    def _ended(self, run: Run) -> None:
        self._runs.pop(run.execution.id, None)
        if self._by_assessment.get(run.execution.assessment_id) is run:
            del self._by_assessment[run.execution.assessment_id]
        self._woken.set()

    def _count(self) -> None:
        """Count the attempts at each server."""
        for server in self._servers.values():
            server.attempts = 0
        for run, _ in self._runs.values():
            if run.is_attempt:
                run.server.attempts += 1

    def _room(self) -> list[str]:
        """A server for each attempt that can be taken on, the least busy first."""
        self._count()
        places = (
            (server.attempts + place, url) for url, server in self._servers.items() for place in range(server.room)
        )
        return [url for _, url in sorted(places)]

    def _least_busy(self) -> ComplianceServer:
        """In the place of a server that is no longer in the settings."""
        self._count()
        return min(self._servers.values(), key=lambda server: server.attempts)

    async def _stop(self, tasks: Collection[asyncio.Task[None]]) -> None:
        """Let go of runs: whoever has their partitions takes them up."""
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)


@asynccontextmanager
async def executing(settings: Settings, pool: Pool, keys: KeyRing, given: Given) -> AsyncIterator[Executor]:
    """Have pending assessments carried out meanwhile.

    Args:
        settings: of this installation, which name a compliance server at least.
        pool: of the primary.
        keys: that requests are opened with, and results sealed.
        given: the partitions of this worker.
    """
    publisher = Publisher(settings)
    async with open_session(settings) as session, background(publisher.run):
        servers = [
            ComplianceServer(
                url,
                session,
                concurrency=settings.compliance_concurrency,
                timeout=settings.compliance_call_timeout,
            )
            for url in settings.compliance_urls
        ]
        executor = Executor(servers, given, Tools(ExecutionStore(pool), Commands(publisher, keys), keys))
        async with background(executor.run):
            yield executor
