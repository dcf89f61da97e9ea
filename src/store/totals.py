"""Counters of assessments, moved by the batch that changes them: statistics read these and not the history.

Everybody's assessments and each owner's are counted apart, so that an answer for either is a handful of rows.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ..models.assessment import AssessmentRecord, AssessmentState
from ..models.base import MAX_ID_LENGTH
from .postgres import Connection
from .queries import QUERIES
from .rows import columns

EVERYBODY = ""
"""The scope that counts all assessments; no user has this id."""

MAINTENANCE_SLOT = -1
"""Where those count who are no command partition."""

LONGEST_SERVER_NAME = 255
"""Characters of a server's name that the columns keep: an index takes no text of any length."""

QUARTER = timedelta(minutes=15)
"""The days of every time zone are made of these."""

ENDED = (AssessmentState.COMPLETED, AssessmentState.FAILED, AssessmentState.CANCELLED)
"""The states that servers and days are counted by; the rest is active."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class TotalsChange:
    """What is to be added to the counters."""

    totals: defaultdict[tuple[Any, ...], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0]))
    """(scope, type, source, priority, state): assessments, retried, timed, milliseconds."""
    servers: defaultdict[tuple[str, str, str, str], list[Any]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0, _EPOCH])
    )
    """(scope, server name, type, source): assessments, completed, failed, cancelled, the last creation."""
    created: defaultdict[tuple[str, datetime, str, str], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0])
    )
    """(scope, quarter of an hour, type, source): assessments, completed, failed, cancelled."""

    def arrays(self) -> list[Sequence[Any]]:
        """What `add_totals` takes, in an order that keeps two writers from waiting for each other."""
        tables = ((self.totals, 9), (self.servers, 9), (self.created, 8))
        rows = [[(*key, *counts) for key, counts in sorted(table.items()) if _changes(counts)] for table, _ in tables]
        if not any(rows):
            return []
        arrays = (columns(of_table) or [()] * width for of_table, (_, width) in zip(rows, tables, strict=True))
        return list(itertools.chain.from_iterable(arrays))


def totals_change(
    before: Mapping[str, AssessmentRecord | None], after: Mapping[str, AssessmentRecord | None]
) -> TotalsChange:
    """What the change of several assessments adds to the counters; nothing stands for one that is not there."""
    change = TotalsChange()
    for key, now in after.items():
        then = before.get(key)
        if then is None or now is None or _moved(then, now):
            for sign, record in ((-1, then), (1, now)):
                if record is not None:
                    _count(change, record, sign)
    return change


async def add_totals(connection: Connection, slot: int, change: TotalsChange) -> None:
    """Move the counters, in the slot of a command partition or of maintenance."""
    if arrays := change.arrays():
        await connection.execute(QUERIES["add_totals"], slot, *arrays)


def owner_scope(record: AssessmentRecord) -> str | None:
    """The owner as the columns have him: one with a longer name than a token may have is nobody."""
    owner = record.owner
    return owner if owner and len(owner) <= MAX_ID_LENGTH else None


def _changes(counts: Iterable[Any]) -> bool:
    return any(count for count in counts if isinstance(count, int))


def _moved(then: AssessmentRecord, now: AssessmentRecord) -> bool:
    return then.state is not now.state or then.retry_count != now.retry_count or then.duration != now.duration


def _count(change: TotalsChange, record: AssessmentRecord, sign: int) -> None:
    """Count one assessment in, or out."""
    request, duration = record.request_data, record.duration
    kind, source = _text(request.get("assessmentType")), _text(request.get("source"))
    priority = request.get("priority")
    priority = priority if isinstance(priority, int) else 5
    server = request.get("serverName")
    quarter = record.created_at - (record.created_at - _EPOCH) % QUARTER
    ended = [record.state is state for state in ENDED]
    for scope in {EVERYBODY, owner_scope(record) or EVERYBODY}:
        counts = change.totals[scope, kind, source, priority, str(record.state)]
        _add(counts, sign, (1, record.retry_count > 0, duration is not None, duration or 0))
        _add(change.created[scope, quarter, kind, source], sign, (1, *ended))
        if isinstance(server, str):
            of_server = change.servers[scope, server[:LONGEST_SERVER_NAME], kind, source]
            _add(of_server, sign, (1, *ended))
            of_server[-1] = max(of_server[-1], record.created_at)


def _add(counts: list[Any], sign: int, amounts: Iterable[int]) -> None:
    for index, amount in enumerate(amounts):
        counts[index] += sign * amount


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
