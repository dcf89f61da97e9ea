"""The runs of this server: each attempt at an assessment is carried out once, however often it is ordered."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from ..models.assessment import AssessmentRequest
from ..models.compliance import ComplianceOrder, ComplianceReport, ComplianceStatus
from .assess import AssessmentFailedError, Assessor
from .modes import Mode

logger = logging.getLogger(__name__)

_MOST_REMEMBERED = 1000
"""Runs that have ended; whoever comes for an older one finds it unknown, and may order it again."""


class KeyReusedError(Exception):
    """The attempt was ordered before with another request."""


class BusyError(Exception):
    """As many runs as may be are under way."""


@dataclass(eq=False)
class Run:
    """One attempt, and how far it is."""

    order: ComplianceOrder
    progress: int = 0
    message: str | None = None
    outcome: ComplianceReport | None = None
    stopped: bool = False
    task: asyncio.Task[None] = field(init=False)

    @property
    def is_under_way(self) -> bool:
        """Whether it takes one of the places."""
        return not self.task.done()

    @property
    def report(self) -> ComplianceReport:
        """How it is, as the wire has it."""
        if self.outcome is not None:
            return self.outcome
        return ComplianceReport(
            assessment_id=self.order.assessment_id,
            status=ComplianceStatus.PROCESSING,
            progress=self.progress,
            message=self.message,
        )

    def tell(self, progress: int, message: str) -> None:
        """Note how far it is."""
        self.progress, self.message = progress, message

    def end(self, status: ComplianceStatus, **outcome: object) -> None:
        """Note what came of it."""
        told = {"assessment_id": self.order.assessment_id, "status": status, "message": self.message, **outcome}
        self.outcome = ComplianceReport.model_validate(told)


class Runs:
    """All runs by assessment id and attempt, those under way and the latest of those that have ended."""

    def __init__(self, assessor: Assessor, *, most_at_once: int) -> None:
        self._assessor = assessor
        self._most_at_once = most_at_once
        self._runs: dict[tuple[str, int], Run] = {}

    def begin(self, order: ComplianceOrder, request: AssessmentRequest) -> Run:
        """Return the run of an order: a new one, or the one that it has.

        Raises:
            ModeError: it may not have the mode that it asks for.
            KeyReusedError: the attempt was ordered with another request.
            BusyError: too many are under way.
        """
        mode = self._assessor.mode_of(request)
        place = (order.assessment_id, order.attempt)
        if known := self._runs.get(place):
            if known.order != order:
                raise KeyReusedError(f"{order.idempotency_key} was ordered before with another request")
            return known
        if sum(run.is_under_way for run in self._runs.values()) >= self._most_at_once:
            raise BusyError(f"{self._most_at_once} assessments are under way, and no more at once: come back later")
        run = self._runs[place] = Run(order)
        run.task = asyncio.create_task(self._carry_out(run, request, mode), name=order.idempotency_key)
        self._forget_the_oldest()
        return run

    def find(self, assessment_id: str, attempt: int | None) -> Run | None:
        """Return the run of an attempt, or of the latest one; nothing where it is unknown or was stopped."""
        runs = [run for run in self._of(assessment_id, attempt) if not run.stopped]
        return max(runs, key=lambda run: run.order.attempt, default=None)

    def stop(self, assessment_id: str, attempt: int | None) -> bool:
        """Stop an attempt, or all at an assessment, and return whether there was any.

        They are kept as stopped: an order that comes late, behind its own stop, begins nothing.
        """
        runs = self._of(assessment_id, attempt)
        for run in runs:
            run.stopped = True
            run.task.cancel()
        return bool(runs)

    async def close(self) -> None:
        """Stop everything."""
        tasks = [run.task for run in self._runs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _of(self, assessment_id: str, attempt: int | None) -> list[Run]:
        return [run for (of, number), run in self._runs.items() if of == assessment_id and attempt in (None, number)]

    def _forget_the_oldest(self) -> None:
        ended = [place for place, run in self._runs.items() if not run.is_under_way]
        for place in ended[: max(0, len(ended) - _MOST_REMEMBERED)]:
            del self._runs[place]

    async def _carry_out(self, run: Run, request: AssessmentRequest, mode: Mode) -> None:
        try:
            result = await self._assessor.assess(request, mode, run.tell)
        except AssessmentFailedError as error:
            run.end(ComplianceStatus.FAILED, error=str(error), progress=run.progress)
        except asyncio.CancelledError:
            run.end(ComplianceStatus.FAILED, error="It was stopped before it was done", progress=run.progress)
            raise
        except Exception as error:
            logger.exception("Assessment %s broke off", run.order.idempotency_key, extra={"action": "run_broke_off"})
            words = f"The compliance server made a mistake ({type(error).__name__}): see its log"
            run.end(ComplianceStatus.FAILED, error=words, progress=run.progress)
        else:
            run.end(ComplianceStatus.COMPLETED, result=result, progress=100)
        logger.info(
            "Assessment %s: %s",
            run.order.idempotency_key,
            run.report.status,
            extra={"action": "run_ended", "status": run.report.status},
        )
