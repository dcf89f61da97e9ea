"""The sample customers: they have the servers around them assessed, on Kafka as any producer would, and lose patience.

What becomes of an assessment is none of their doing: the executor in the worker has it carried out by the compliance
server. One server does not listen (its assessment fails), and one takes calls without ever answering (they cancel).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from aiokafka.errors import KafkaError

from ..models.assessment import AssessmentSource, AssessmentType
from ..models.base import JsonObject
from ..models.commands import CommandType

logger = logging.getLogger(__name__)

Send = Callable[[CommandType, str, JsonObject], Awaitable[None]]
"""Send a command of this type, for the assessment of this id, with this data."""

IsOpen = Callable[[str], bool]
"""Whether the assessment of this id is pending or processing, as far as is known."""

# Seconds from one new assessment to the next: two per second leave a small machine to whoever works on it.
_PACE = 0.5
# While Kafka is away customers pile up in here; this many wait for it, then no more come.
_MOST_AT_ONCE = 100
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
    title: str
    servers: tuple[str, ...]
    """Their names at the compliance server."""
    patience: float
    """Seconds until whoever asked cancels."""

    def request(self) -> JsonObject:
        """The request as `assessment.create` carries it."""
        return {
            "assessmentType": self.type,
            "serverName": self.title,
            "source": AssessmentSource.COMPLIANCE,
            "priority": _PRIORITY[self.type],
            "options": _OPTIONS[self.type] | {"serverFilter": list(self.servers)},
        }


def orders(servers: Sequence[str], troublesome: Sequence[str]) -> list[Order]:
    """One round of what is asked: each server by itself, all of them together, and those that make trouble."""
    together = Order(type=AssessmentType.COMPLIANCE, title="all servers", servers=tuple(servers), patience=60)
    singly = [
        Order(type=kind, title=name, servers=(name,), patience=30)
        for kind in (AssessmentType.HEALTH, AssessmentType.SECURITY)
        for name in servers
    ]
    trouble = [Order(type=AssessmentType.HEALTH, title=name, servers=(name,), patience=5) for name in troublesome]
    return [together, *singly, *trouble]


class Customers:
    """They create assessments, and cancel those that take too long."""

    def __init__(self, send: Send, is_open: IsOpen) -> None:
        self._send = send
        self._is_open = is_open
        self._slots = asyncio.Semaphore(_MOST_AT_ONCE)

    async def come(self, round_of_orders: Sequence[Order]) -> None:
        """Place one order after the other, round and round, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for order in itertools.cycle(round_of_orders):
                await self._slots.acquire()
                group.create_task(self._serve(order))
                await asyncio.sleep(_PACE)

    async def _serve(self, order: Order) -> None:
        try:
            await self.place(order)
        except KafkaError as error:
            logger.warning("An assessment of %s was given up, as Kafka is away: %s", order.title, error)
        finally:
            self._slots.release()

    async def place(self, order: Order) -> None:
        """Create an assessment, and cancel it where it is not done in good time.

        Raises:
            KafkaError: a command cannot be sent.
        """
        assessment_id = f"{order.type}-{uuid4().hex[:12]}"
        await self._send(CommandType.CREATE, assessment_id, order.request())
        try:
            await asyncio.sleep(order.patience)
        except asyncio.CancelledError:
            await self._take_leave(assessment_id)
            raise
        if self._is_open(assessment_id):
            reason = f"{order.title} was not assessed within {order.patience:g} s"
            await self._send(CommandType.CANCEL, assessment_id, {"reason": reason})

    async def _take_leave(self, assessment_id: str) -> None:
        """Leave nothing open that nobody carries out any more."""
        if not self._is_open(assessment_id):
            return
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._send(CommandType.CANCEL, assessment_id, {"reason": "the sample customers were stopped"})
        except (TimeoutError, KafkaError) as error:
            logger.warning("Assessment %s stays open, as Kafka is away: %r", assessment_id, error)
