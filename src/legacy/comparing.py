"""Shadow mode: what the old system reports against what the store made of its events, field by field.

Where the old system serves an assessment, the store is brought into line after a difference was written down.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from hashlib import sha256

from ..models.assessment import AssessmentRecord, AssessmentState
from ..models.base import MAX_ID_LENGTH, JsonObject
from ..models.commands import CommandType
from ..models.machine import TRANSITIONS
from ..settings import Settings
from ..store.divergences import Comparing, Divergence, Divergences, Report
from ..store.encryption import KeyRing
from ..store.rollout import MigrationState, RolloutStore
from .commands import Outgoing, encode, import_id
from .events import ORIGIN
from .fields import UnreadableError, member, state_of
from .importing import divergence
from .records import Difference, differences, import_data
from .routing import routes_to_store
from .topic import Sender

logger = logging.getLogger(__name__)

_AT_ONCE = 500
_PAUSE_SECONDS = 0.5


class Comparer:
    """Compares reports when their events have had time to arrive; of many, each report has one."""

    def __init__(
        self, ledger: Divergences, rollout: RolloutStore, topic: Sender, keys: KeyRing, settings: Settings
    ) -> None:
        self._ledger = ledger
        self._rollout = rollout
        self._topic = topic
        self._keys = keys
        self._settle = settings.migration_settle

    async def run(self) -> None:
        """Compare again and again, until cancelled."""
        while True:
            if await self.compare() < _AT_ONCE:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def compare(self) -> int:
        """Compare what is due, and say how much that was.

        Raises:
            UnavailableError: Postgres or Kafka is away.
        """
        state = (await self._rollout.read()).state
        async with self._ledger.due(self._settle, _AT_ONCE) as comparing:
            repairs = await self._compare(comparing, state)
            # Before the marks stand: what is sent and not marked is sent again under the same ids.
            await self._topic.send(repairs)
        return len(comparing.reports)

    async def _compare(self, comparing: Comparing, state: MigrationState) -> list[Outgoing]:
        if not comparing.reports:
            return []
        states, causes = await comparing.states(), await comparing.causes()
        found: dict[str, list[Divergence] | None] = {}
        repairs: dict[str, list[Outgoing]] = {}
        for report in comparing.reports:
            key, stored = report.assessment_id, states.get(report.assessment_id)
            own = routes_to_store(key, state.percentage, legacy_mode=state.legacy_mode)
            items = judge(report.record, stored, key, causes.get(key))
            found[key] = items
            if items and _is_overtaken(report, stored, own=own):
                found[key] = None
            elif items and not own:
                repairs[key] = _encoded(report.record, stored, key, self._keys)
        for item in (item for items in found.values() for item in items or ()):
            words = "The old system and the store differ in %s of %s: %s"
            logger.warning(words, item.field, item.assessment_id, item.kind, extra={"action": "divergence"})
        await comparing.finish(found, [key for key, commands in repairs.items() if commands])
        return [command for commands in repairs.values() for command in commands]


def judge(
    record: JsonObject, stored: AssessmentRecord | None, assessment_id: str, cause: str | None
) -> list[Divergence]:
    """What differs, and which fault that looks like.

    Args:
        record: as the old system reports it.
        stored: what the store has.
        assessment_id: of both.
        cause: what is known to be wrong with its events.
    """
    if stored is None:
        return [divergence(assessment_id, cause or "lost", Difference("assessmentId", assessment_id, None))]
    found = differences(record, stored)
    if any(item.field == "state" for item in found):
        behind = path(stored.state, _state(record)) is not None
        kind = cause or ("lost" if behind else "wrong-state")
    else:
        kind = cause or "stale-field"
    return [divergence(assessment_id, kind, item) for item in found]


def path(source: AssessmentState, target: AssessmentState | None) -> list[CommandType] | None:
    """The fewest commands from one state to another; nothing where none lead there."""
    ways: deque[tuple[AssessmentState, list[CommandType]]] = deque([(source, [])])
    seen = {source}
    while ways:
        state, commands = ways.popleft()
        if state is target:
            return commands
        for kind, step in TRANSITIONS.items():
            if state in step.sources and step.target not in seen:
                seen.add(step.target)
                ways.append((step.target, [*commands, kind]))
    return None


def repair(record: JsonObject, stored: AssessmentRecord | None) -> list[tuple[CommandType, JsonObject]]:
    """The commands that make of what the store has what the old system reports; none where no commands do.

    Raises:
        UnreadableError: what is reported is no assessment.
    """
    if stored is None:
        return [(CommandType.IMPORT, import_data(record))]
    target = state_of(member(record, "state"))
    steps = path(stored.state, target)
    if steps is None:
        return []
    commands = [(kind, _data(kind, record)) for kind in steps]
    progress = member(record, "progress")
    wanted = stored.progress if not steps else 0
    if target is AssessmentState.PROCESSING and isinstance(progress, int) and progress != wanted:
        commands.append((CommandType.PROGRESS, {"progress": progress}))
    return commands


def _data(kind: CommandType, record: JsonObject) -> JsonObject:
    if kind is CommandType.COMPLETE:
        return {"result": member(record, "result") or {}}
    if kind is CommandType.FAIL:
        return {"error": member(record, "error") or "the old system gives no reason"}
    return {}


def _encoded(record: JsonObject, stored: AssessmentRecord | None, key: str, keys: KeyRing) -> list[Outgoing]:
    version = 0 if stored is None else stored.version
    try:
        return [
            encode(
                kind,
                key,
                data,
                command_id=import_id(key) if stored is None else _repair_id(key, version + number),
                at=None,
                keys=keys,
                # Whatever comes in between is newer than the report.
                expected_version=None if stored is None else version + number,
            )
            for number, (kind, data) in enumerate(repair(record, stored))
        ]
    except UnreadableError as error:
        logger.warning("%s cannot be brought into line: %s", key, error, extra={"action": "divergence_unrepaired"})
        return []


def _repair_id(key: str, version: int) -> str:
    found = f"{ORIGIN}repair:{key}:{version}"
    return found if len(found) <= MAX_ID_LENGTH else f"{ORIGIN}repair:{sha256(found.encode()).hexdigest()}"


def _is_overtaken(report: Report, stored: AssessmentRecord | None, *, own: bool) -> bool:
    """Whether what the store has is newer than the report: then a difference says nothing."""
    return report.overtaken or (own and stored is not None and stored.updated_at > report.reported_at)


def _state(record: JsonObject) -> AssessmentState | None:
    try:
        return state_of(member(record, "state"))
    except UnreadableError:
        return None
