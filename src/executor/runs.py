"""What a worker has in hand: one task for each attempt that it was given, from its start to the last word about it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import structlog

from ..client.retries import pauses, spread
from ..models.assessment import AssessmentRecord, AssessmentState
from ..models.commands import CommandType
from ..models.errors import RejectedError, UnavailableError
from ..store.encryption import KeyRing
from ..store.executions import ExecutionStore, Stage, Standing
from ..telemetry import ERRORS
from ..web.headers import trace_context
from .attempt import Attempt, Ending, unstorable
from .faults import PASSING, ComplianceError
from .sending import Commands
from .server import ComplianceServer

log = structlog.get_logger(__name__)

T = TypeVar("T")

# What became of a command is told by the lane that applied it; just in case it could not, Postgres is asked.
_LOOK_AGAIN_SECONDS = 5.0

# A server that is away for longer is not told any more that nobody waits.
_FAREWELL_SECONDS = 600.0

# Something nobody foresaw would happen again at once.
_AFTER_BUG_SECONDS = 30.0


class Tools(NamedTuple):
    """What every run uses."""

    store: ExecutionStore
    commands: Commands
    keys: KeyRing


class Run:
    """Follows one execution through its stages; whoever takes it over begins with the stage that Postgres tells."""

    def __init__(self, standing: Standing, server: ComplianceServer, tools: Tools) -> None:
        self.execution = standing.execution
        self._standing = standing
        self.server = server
        self._tools = tools
        self._changed = asyncio.Event()
        self._working = False
        self._ending = False

    @property
    def is_attempt(self) -> bool:
        """Whether it takes a place at its server."""
        return self._standing.stage in {Stage.TO_START, Stage.RUNNING}

    def notice(self, record: AssessmentRecord) -> None:
        """Take note of a change of the assessment."""
        goes_on = record.state is AssessmentState.PROCESSING and record.retry_count == self.execution.attempt
        if not (goes_on and self._working):
            self._changed.set()

    async def follow(self) -> None:
        """See the execution through; cancelled, it leaves everything to whoever takes it over."""
        ids = {"assessment_id": self.execution.assessment_id, "attempt": self.execution.attempt}
        try:
            await self._follow()
        except Exception:
            ERRORS.labels("executor_bug").inc()
            log.exception("the executor met an error that nobody foresaw: it begins this attempt again", **ids)
            await asyncio.sleep(_AFTER_BUG_SECONDS)

    async def _follow(self) -> None:
        started = False
        while True:
            match self._standing.stage:
                case Stage.TO_START:
                    if not started:
                        await self._tools.commands.send(CommandType.START, self.execution, self.execution.start_id, {})
                        started = True
                    await self._until_changed()
                case Stage.RUNNING if self._ending:
                    await self._until_changed()
                case Stage.RUNNING:
                    if await self._has_ended():
                        break
                case Stage.ABANDONED:
                    await self._take_leave()
                    break
                case Stage.OVER:
                    break
            standing = await _insistently(lambda: self._tools.store.standing(self.execution.id))
            if standing is None:
                return
            self._standing = standing
        await _insistently(lambda: self._tools.store.end(self.execution.id))

    async def _has_ended(self) -> bool:
        """Carry the attempt out, and say whether that was the last word about it.

        It is not where somebody else ended the assessment meanwhile, or where the server may still be at work.
        """
        ending = await self._work()
        if ending is None:
            return False
        self._ending = True
        try:
            await self._send(ending)
        except RejectedError as error:
            await self._send(unstorable(self.server.url, error))
        return ending.heard

    async def _work(self) -> Ending | None:
        """How the attempt ended; nothing where the assessment changed under its hands."""
        attempt = Attempt(self._standing, self.server, self._tools.commands, self._tools.keys)
        self._changed.clear()
        self._working = True
        work = asyncio.create_task(attempt.carry_out())
        change = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({work, change}, return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else None
        finally:
            self._working = False
            work.cancel()
            change.cancel()
            await asyncio.wait({work, change})

    async def _send(self, ending: Ending) -> None:
        await self._tools.commands.send(ending.kind, self.execution, self.execution.end_id, ending.data)

    async def _take_leave(self) -> None:
        """Tell the server that nobody waits for it."""
        execution = self.execution
        headers = {"traceparent": trace_context(execution.traceparent)}
        try:
            async with asyncio.timeout(_FAREWELL_SECONDS):
                for pause in pauses():
                    try:
                        await self.server.forget(execution.assessment_id, execution.attempt, headers)
                    except ComplianceError as error:
                        if error.kind not in PASSING:
                            raise
                        await asyncio.sleep(pause if error.retry_after is None else error.retry_after + spread())
                    else:
                        return
        except (ComplianceError, TimeoutError) as error:
            why = str(error) or "it is away"
            log.warning("a server was not told to stop", assessment_id=execution.assessment_id, why=why)

    async def _until_changed(self) -> None:
        """Wait until a lane tells of a change, or it is time to look for oneself."""
        try:
            await asyncio.wait_for(self._changed.wait(), _LOOK_AGAIN_SECONDS)
        except TimeoutError:
            return
        self._changed.clear()


async def _insistently(call: Callable[[], Awaitable[T]]) -> T:
    """Ask Postgres until it answers."""
    for pause in pauses():
        try:
            return await call()
        except UnavailableError as error:
            log.warning("an execution waits for Postgres", why=str(error))
            await asyncio.sleep(pause)
    raise AssertionError("there is always another pause")
