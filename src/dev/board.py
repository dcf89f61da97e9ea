"""What `dev` knows of the assessments: nothing but what it reads from the events topic, as any consumer would."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from ..models.assessment import FINAL_STATES, AssessmentState
from ..models.events import AssessmentEvent, Created, Failed, Started

# An assessment that changes after this many others have changed is counted as a new one.
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One assessment as the board shows it."""

    id: str
    state: AssessmentState
    type: str = ""
    server: str = ""
    progress: int = 0
    message: str = ""
    started_at: datetime | None = None
    changed_at: datetime

    def duration(self, now: datetime) -> float | None:
        """Seconds since the present attempt started, or that the last one took."""
        if self.started_at is None:
            return None
        end = now if self.state is AssessmentState.PROCESSING else self.changed_at
        return (end - self.started_at).total_seconds()


class Board:
    """Counts by state, and the latest assessments."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        """Set with the first assessment that is completed."""
        self.counts: Counter[AssessmentState] = Counter()
        self._rows: dict[str, Row] = {}

    def apply(self, event: AssessmentEvent) -> None:
        """Take in one event."""
        before = self._rows.pop(event.assessment_id, None)
        if before is not None:
            self.counts[before.state] -= 1
        row = _next(before, event)
        self.counts[row.state] += 1
        self._rows[row.id] = row
        if row.state is AssessmentState.COMPLETED:
            self.flowing.set()
        if len(self._rows) > _MOST_REMEMBERED:
            del self._rows[next(iter(self._rows))]

    def is_open(self, assessment_id: str) -> bool:
        """Whether it is pending or processing; one that nothing was heard of yet is."""
        row = self._rows.get(assessment_id)
        return row is None or row.state not in FINAL_STATES

    def latest(self, number: int) -> list[Row]:
        """The rows that changed last, the newest first."""
        return list(islice(reversed(self._rows.values()), number))


def _next(before: Row | None, event: AssessmentEvent) -> Row:
    row = before or Row(id=event.assessment_id, state=event.state, changed_at=event.occurred_at)
    row = replace(
        row,
        state=event.state,
        progress=event.progress,
        message=event.message or "",
        changed_at=event.occurred_at,
    )
    match event:
        case Created(request=request):
            return replace(row, type=request["assessmentType"], server=request.get("serverName") or "")
        case Started(occurred_at=at):
            return replace(row, started_at=at)
        case Failed(error=error):
            return replace(row, message=error)
        case _:
            return row
