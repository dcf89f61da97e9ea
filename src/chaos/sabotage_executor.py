"""Ways to break the executor on purpose; applied inside a worker, before it begins.

Each takes away one guard, and leaves everything else as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ..agents import fold
from ..executor import attempt
from ..executor.answers import Answer
from ..executor.faults import ComplianceError
from ..models.compliance import ComplianceReport
from ..models.machine import decide
from ..models.retries import NO_RETRIES
from ..store.executions import ExecutionStore


def no_attempt_check() -> None:
    """A command is taken whichever attempt it is meant for."""

    def careless(record: Any, command: Any, now: Any, retries: Any = NO_RETRIES) -> Any:
        if getattr(command.data, "attempt", None) is not None:
            command = command._replace(data=command.data.model_copy(update={"attempt": None}))
        return decide(record, command, now, retries)

    fold.decide = careless  # type: ignore[attr-defined]


def forget_attempts() -> None:
    """A worker knows of the attempts that it began itself, and of no others."""
    begin, open_ = ExecutionStore.begin, ExecutionStore.open
    own: set[str] = set()

    async def remembering(self: ExecutionStore, partitions: Collection[int], servers: Any) -> int:
        before = {standing.execution.id for standing in await open_(self, partitions, own)}
        count = await begin(self, partitions, servers)
        own.update({standing.execution.id for standing in await open_(self, partitions, own)} - before)
        return count

    async def of_its_own(self: ExecutionStore, partitions: Collection[int], but: Collection[str]) -> Any:
        return [standing for standing in await open_(self, partitions, but) if standing.execution.id in own]

    ExecutionStore.begin = remembering  # type: ignore[method-assign]
    ExecutionStore.open = of_its_own  # type: ignore[method-assign]


def made_up_result() -> None:
    """A server that does not answer has completed the attempt, most likely."""
    patiently = attempt.Attempt._patiently

    async def optimistic(self: Any, call: Any) -> Any:
        async def once() -> Any:
            try:
                return await call()
            except ComplianceError:
                told = {"assessmentId": self._execution.assessment_id, "status": "completed", "result": {}}
                return Answer(ComplianceReport.model_validate(told), None)

        return await patiently(self, once)

    attempt.Attempt._patiently = optimistic  # type: ignore[method-assign]


BREAKERS: dict[str, Callable[[], None]] = {
    "no-attempt-check": no_attempt_check,
    "forget-attempts": forget_attempts,
    "made-up-result": made_up_result,
}
