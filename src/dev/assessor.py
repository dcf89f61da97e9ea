"""The sample assessor: it looks at the services it runs on, and tells the store on Kafka, as any producer would.

Not every assessment goes well: one server does not listen (its assessment fails, is retried twice and stays failed),
and one takes calls without ever answering (whoever asked loses patience, and cancels).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from aiokafka.errors import KafkaError

from ..models.assessment import AssessmentSource, AssessmentType
from ..models.base import JsonObject
from ..models.commands import CommandType
from .inspection import CHECKS, Inspection, Target, inspect
from .verdict import failure, result

logger = logging.getLogger(__name__)

Send = Callable[[CommandType, str, JsonObject], Awaitable[None]]
"""Send a command of this type, for the assessment of this id, with this data."""

# Seconds from one new assessment to the next: two per second leave a small machine to whoever works on it.
_PACE = 0.5
# While Kafka is away assessments pile up in here; this many wait for it, then no more are begun.
_MOST_AT_ONCE = 20
_ATTEMPTS = 3
_RETRY_PAUSE = 1.0
_FAREWELL = 2.0

_OPTIONS = {
    AssessmentType.HEALTH: {"checkServerStatus": True},
    AssessmentType.SECURITY: {"validateConfig": True, "deepScan": True},
    AssessmentType.COMPLIANCE: {"checkServerStatus": True, "validateConfig": True, "checkCompliance": True},
}
_PRIORITY = {AssessmentType.HEALTH: 5, AssessmentType.SECURITY: 7, AssessmentType.COMPLIANCE: 3}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody wants to know."""

    type: AssessmentType
    server_name: str
    targets: tuple[Target, ...]
    patience: float
    """Seconds until whoever asked cancels."""

    def request(self) -> JsonObject:
        """The request as `assessment.create` carries it."""
        names = [target.name for target in self.targets]
        return {
            "assessmentType": self.type,
            "serverName": self.server_name,
            "source": AssessmentSource.COMPLIANCE,
            "priority": _PRIORITY[self.type],
            "timeout": self.patience,
            "options": _OPTIONS[self.type] | {"timeout": self.patience * 1000, "serverFilter": names},
        }


def orders(servers: Sequence[Target], troublesome: Sequence[Target]) -> list[Order]:
    """One round of what is asked: each server by itself, all of them together, and those that make trouble."""
    singly = [
        Order(type=kind, server_name=target.name, targets=(target,), patience=10)
        for kind in (AssessmentType.HEALTH, AssessmentType.SECURITY)
        for target in servers
    ]
    together = Order(type=AssessmentType.COMPLIANCE, server_name="all services", targets=tuple(servers), patience=20)
    trouble = [
        Order(type=AssessmentType.HEALTH, server_name=target.name, targets=(target,), patience=2)
        for target in troublesome
    ]
    return [together, *singly, *trouble]


class Assessor:
    """Carries out orders: what it does reaches the store as commands only."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._slots = asyncio.Semaphore(_MOST_AT_ONCE)

    async def work(self, round_of_orders: Sequence[Order]) -> None:
        """Begin one order after the other, round and round, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for order in itertools.cycle(round_of_orders):
                await self._slots.acquire()
                group.create_task(self._take(order))
                await asyncio.sleep(_PACE)

    async def _take(self, order: Order) -> None:
        try:
            await self.carry_out(order)
        except KafkaError as error:
            logger.warning("An assessment of %s was given up, as Kafka is away: %s", order.server_name, error)
        finally:
            self._slots.release()

    async def carry_out(self, order: Order) -> None:
        """Create an assessment and see it through, with a few attempts where it fails.

        Raises:
            KafkaError: a command cannot be sent.
        """
        assessment_id = f"{order.type}-{uuid4().hex[:12]}"
        await self._send(CommandType.CREATE, assessment_id, order.request())
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_RETRY_PAUSE * attempt)
                await self._send(CommandType.RETRY, assessment_id, {})
            if await self._attempt(assessment_id, order):
                return

    async def _attempt(self, assessment_id: str, order: Order) -> bool:
        """Return whether that was the end of it."""
        await self._send(CommandType.START, assessment_id, {})
        try:
            async with asyncio.timeout(order.patience):
                inspections = await self._inspect(assessment_id, order)
        except TimeoutError:
            reason = f"{order.server_name} gave no answer within {order.patience:g} s"
            await self._send(CommandType.CANCEL, assessment_id, {"reason": reason})
            return True
        except asyncio.CancelledError:
            await self._take_leave(assessment_id)
            raise
        if error := failure(inspections):
            await self._send(CommandType.FAIL, assessment_id, {"error": error})
            return False
        verdict = result(inspections, datetime.now(UTC))
        await self._send(CommandType.COMPLETE, assessment_id, {"result": verdict.to_wire()})
        return True

    async def _inspect(self, assessment_id: str, order: Order) -> list[Inspection]:
        """Inspect the servers one after the other, and report progress after each check."""
        checks = CHECKS[order.type]
        found: dict[Target, Inspection] = {}
        for number, target in enumerate(order.targets):
            async for check, inspection in inspect(target, checks):
                found[target] = inspection
                done = number + (checks.index(check) + 1) / len(checks)
                data = {"progress": round(100 * done / len(order.targets)), "message": f"{target.name}: {check}"}
                await self._send(CommandType.PROGRESS, assessment_id, data)
        return list(found.values())

    async def _take_leave(self, assessment_id: str) -> None:
        """Leave nothing in processing that nobody works on any more."""
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._send(CommandType.CANCEL, assessment_id, {"reason": "the sample assessor was stopped"})
        except (TimeoutError, KafkaError) as error:
            logger.warning("Assessment %s stays in processing, as Kafka is away: %r", assessment_id, error)
