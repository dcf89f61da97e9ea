"""Counters of assessments, moved by the batch that changes them: statistics read these and not the history.

Everybody's assessments and each owner's are counted apart, so that an answer for either is a handful of rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import sub
from typing import Any

from ..models.assessment import AssessmentRecord, AssessmentState
from ..models.base import MAX_ID_LENGTH
from .writes import Write, write_rows

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
    created: defaultdict[tuple[Any, ...], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0]))
    """(scope, quarter of an hour, type, source): assessments, completed, failed, cancelled."""

    def rows(self, slot: int) -> list[list[tuple[Any, ...]]]:
        """What each table is to take, in an order that keeps two writers from waiting for each other."""
        tables = (self.totals, self.servers, self.created)
        return [
            [(slot, *key, *counts) for key, counts in sorted(table.items()) if _changes(counts)] for table in tables
        ]


def totals_change(
    before: Mapping[str, AssessmentRecord | None], after: Mapping[str, AssessmentRecord | None]
) -> TotalsChange:
    """What the change of several assessments adds to the counters; nothing stands for one that is not there."""
    change = TotalsChange()
    for key, now in after.items():
        then = before.get(key)
        if then is None or now is None or then.request_data is now.request_data:
            _count(change, then, now)
        else:
            _count(change, then, None)
            _count(change, None, now)
    _add_owners_to_everybody(change)
    return change


def totals_writes(slot: int, change: TotalsChange) -> list[Write]:
    """What moves the counters in a slot: of a command partition that the transaction has, or that of maintenance."""
    by_state, by_server, by_creation = change.rows(slot)
    return [
        *write_rows("add_totals_by_state", by_state),
        *write_rows("add_totals_by_server", by_server),
        *write_rows("add_totals_by_creation", by_creation),
    ]


def owner_scope(record: AssessmentRecord) -> str | None:
    """The owner as the columns have him: one with a longer name than a token may have is nobody."""
    owner = record.owner
    return owner if owner and len(owner) <= MAX_ID_LENGTH else None


def _changes(counts: Iterable[Any]) -> bool:
    return any(count for count in counts if isinstance(count, int))


def _count(change: TotalsChange, then: AssessmentRecord | None, now: AssessmentRecord | None) -> None:
    """Count what becomes of one request, for its owner, or for everybody where it has none."""
    record = now or then
    if record is None or (then and now and _is_counted_alike(then, now)):
        return
    request = record.request_data
    kind, source = _text(request.get("assessmentType")), _text(request.get("source"))
    priority = request.get("priority")
    priority = priority if isinstance(priority, int) else 5
    scope = owner_scope(record) or EVERYBODY
    if then is not None:
        _add_state(change.totals[scope, kind, source, priority, then.state], -1, then)
    if now is not None:
        _add_state(change.totals[scope, kind, source, priority, now.state], 1, now)
    stood, stands = _standing(then), _standing(now)
    if stood == stands:
        return
    moved = [*map(sub, stands, stood)]
    quarter = record.created_at - (record.created_at - _EPOCH) % QUARTER
    _add(change.created[scope, quarter, kind, source], moved)
    server = request.get("serverName")
    if isinstance(server, str):
        _add_server(change.servers[scope, server[:LONGEST_SERVER_NAME], kind, source], moved, record.created_at)


def _add_owners_to_everybody(change: TotalsChange) -> None:
    """Count for everybody what was counted for an owner: a batch has many assessments, and few sums."""
    for table in (change.totals, change.created):
        for (scope, *key), counts in [*table.items()]:
            if scope != EVERYBODY:
                _add(table[EVERYBODY, *key], counts)
    for (scope, server, kind, source), (*counts, last) in [*change.servers.items()]:
        if scope != EVERYBODY:
            _add_server(change.servers[EVERYBODY, server, kind, source], counts, last)


def _is_counted_alike(then: AssessmentRecord, now: AssessmentRecord) -> bool:
    return then.state is now.state and then.retry_count == now.retry_count and then.duration == now.duration


def _add_state(counts: list[int], sign: int, record: AssessmentRecord) -> None:
    counts[0] += sign
    if record.retry_count:
        counts[1] += sign
    duration = record.duration
    if duration is not None:
        counts[2] += sign
        counts[3] += sign * duration


def _standing(record: AssessmentRecord | None) -> tuple[int, ...]:
    """What an assessment is in the counters of servers and days: there, completed, failed, cancelled."""
    return _STANDINGS[None if record is None else record.state]


_STANDINGS: dict[AssessmentState | None, tuple[int, ...]] = {None: (0, 0, 0, 0)} | {
    state: (1, *(int(state is end) for end in ENDED)) for state in AssessmentState
}


def _add(counts: list[Any], amounts: Iterable[int]) -> None:
    for index, amount in enumerate(amounts):
        counts[index] += amount


def _add_server(counts: list[Any], amounts: Iterable[int], created_at: datetime) -> None:
    _add(counts, amounts)
    counts[-1] = max(counts[-1], created_at)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
