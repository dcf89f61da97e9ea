"""One attempt at an assessment: it is ordered, asked after, and comes to an end, one way or the other."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog

from ..client.retries import pauses, spread
from ..models.base import JsonObject
from ..models.commands import CommandType
from ..models.compliance import ComplianceOrder, ComplianceReport, ComplianceStatus
from ..models.errors import RejectedError
from ..models.sealed import UnreadableError
from ..store.encryption import KeyRing
from ..store.executions import Standing
from ..web.headers import trace_context
from .answers import Answer
from .faults import PASSING, ComplianceError, FaultKind
from .sending import Commands
from .server import ComplianceServer

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Between two questions how an attempt is: soon at first, and seldom after hours.
_FIRST_QUESTION_SECONDS = 0.25
_LONGEST_QUESTION_SECONDS = 5.0

# One question comes so long before the time of an attempt is over, or a tenth of that time before: what ended since the
# last one is not lost.
_LAST_QUESTION_SECONDS = 1.0

# A server that wants to be left alone for longer is asked all the same: the assessment may be over.
_MOST_REST_SECONDS = 60.0

# Between two calls where the first failed.
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0

_DEFAULT_TIMEOUT_SECONDS = 300.0

_ERROR_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    kind: CommandType
    data: JsonObject
    heard: bool
    """Whether the server itself said so: if not, it may still be at work."""


class Attempt:
    """Carries out one execution at one server."""

    def __init__(self, standing: Standing, server: ComplianceServer, commands: Commands, keys: KeyRing) -> None:
        self._standing = standing
        self._execution = standing.execution
        self._server = server
        self._commands = commands
        self._keys = keys
        self._version = standing.version
        self._told = (standing.progress, standing.message)
        self._fault: ComplianceError | None = None
        self._headers = {"traceparent": trace_context(standing.execution.traceparent)}

    async def carry_out(self) -> Ending:
        """Give it to the server, report progress, and return how it ended.

        An attempt has the time that its request names, from its start or from its last progress: what the server
        answers is judged by that, and not how long a call takes.
        """
        seconds = _seconds(self._standing.request)
        begun = self._standing.changed_at or datetime.now(UTC)
        left = (begun + timedelta(seconds=seconds) - datetime.now(UTC)).total_seconds()
        try:
            order = self._order()
            async with asyncio.timeout(left) as limit:
                report = await self._until_ended(order, seconds, limit)
            return self._ending(report)
        except ComplianceError as error:
            return _failed(str(error), heard=error.kind is FaultKind.REFUSED)
        except TimeoutError:
            return _failed(str(self._timed_out(seconds)), heard=False)

    def _order(self) -> ComplianceOrder:
        execution = self._execution
        try:
            request = self._keys.open(execution.assessment_id, self._standing.request)
        except UnreadableError as error:
            raise ComplianceError(FaultKind.UNREADABLE, self._server.url, str(error)) from error
        return ComplianceOrder(assessment_id=execution.assessment_id, attempt=execution.attempt, request=request)

    async def _until_ended(self, order: ComplianceOrder, seconds: float, limit: asyncio.Timeout) -> ComplianceReport:
        loop, rests = asyncio.get_running_loop(), _rests()
        answer: Answer | None = None
        while True:
            if answer is None:
                answer = await self._patiently(lambda: self._server.order(order, self._headers))
            report = answer.report
            if report.has_ended:
                return report
            if await self._tell(report):
                limit.reschedule(loop.time() + seconds)
                rests = _rests()
            left = (limit.when() or math.inf) - loop.time()
            await asyncio.sleep(_until_asked(_rest(next(rests), answer.ask_after), left, seconds))
            # A server that was restarted may know nothing of the attempt: then it is ordered again.
            answer = await self._patiently(
                lambda: self._server.status(order.assessment_id, order.attempt, self._headers)
            )

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call again and again until it goes well, or there is no sense in it.

        Raises:
            ComplianceError: of a kind that does not pass.
        """
        for pause in pauses(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS):
            try:
                found = await call()
            except ComplianceError as error:
                if error.kind not in PASSING:
                    raise
                log.info("a call is made again", assessment_id=self._execution.assessment_id, why=str(error))
                if error.kind is not FaultKind.LEFT_ALONE or self._fault is None:
                    self._fault = error
                await asyncio.sleep(pause if error.retry_after is None else error.retry_after + spread())
            else:
                self._fault = None
                return found
        raise AssertionError("there is always another pause")

    async def _tell(self, report: ComplianceReport) -> bool:
        """Report progress where there is some, and say whether there was.

        Raises:
            ComplianceError: it cannot be stored.
        """
        progress = self._told[0] if report.progress is None else report.progress
        message = self._told[1] if report.message is None else report.message
        if (progress, message) == self._told or report.status is ComplianceStatus.PENDING:
            return False
        data: JsonObject = {"progress": progress} if message is None else {"progress": progress, "message": message}
        self._version += 1
        command_id = self._execution.progress_id(self._version)
        try:
            await self._commands.send(CommandType.PROGRESS, self._execution, command_id, data)
        except RejectedError as error:
            what = f"its progress cannot be stored: {error}"
            raise ComplianceError(FaultKind.BAD_ANSWER, self._server.url, what) from error
        self._told = (progress, message)
        return True

    def _ending(self, report: ComplianceReport) -> Ending:
        if report.result is not None and report.status is ComplianceStatus.COMPLETED:
            return Ending(CommandType.COMPLETE, {"result": report.result.to_wire()}, heard=True)
        error = ComplianceError(FaultKind.FAILED, self._server.url, report.error or "it does not say why")
        return _failed(str(error), heard=True)

    def _timed_out(self, seconds: float) -> ComplianceError:
        """What is told where the time of the attempt is over: the fault that kept it up, if one did."""
        if self._fault is None:
            what = f"nothing was heard of the assessment for its {seconds:g} s"
            return ComplianceError(FaultKind.TIMED_OUT, self._server.url, what)
        what = f"{self._fault.what}, for all of its {seconds:g} s"
        return ComplianceError(self._fault.kind, self._server.url, what)


def unstorable(server: str, error: RejectedError) -> Ending:
    """The end of an attempt whose result cannot be stored."""
    fault = ComplianceError(FaultKind.BAD_ANSWER, server, f"its result cannot be stored: {error}")
    return _failed(str(fault), heard=True)


def _failed(error: str, *, heard: bool) -> Ending:
    return Ending(CommandType.FAIL, {"error": error[:_ERROR_CHARACTERS].replace("\x00", "\\x00")}, heard)


def _seconds(request: JsonObject) -> float:
    """The time that a request gives its attempts."""
    timeout = request.get("timeout")
    return float(timeout) if isinstance(timeout, int | float) and timeout > 0 else _DEFAULT_TIMEOUT_SECONDS


def _rests() -> Iterator[float]:
    rest = _FIRST_QUESTION_SECONDS
    while True:
        yield rest
        rest = min(rest * 2, _LONGEST_QUESTION_SECONDS)


def _rest(own: float, asked: float | None) -> float:
    return (own if asked is None else min(asked, _MOST_REST_SECONDS)) + spread()


def _until_asked(rest: float, left: float, seconds: float) -> float:
    """The rest before a question, which ends earlier where that question would come too late."""
    last = left - min(_LAST_QUESTION_SECONDS, seconds / 10)
    return min(rest, last) if last > 0 else rest
