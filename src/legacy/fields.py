"""The old system's members under all their names, and its times and states in our words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..models.assessment import AssessmentState
from ..models.errors import AssessmentStoreError

NAMES: dict[str, tuple[str, ...]] = {
    "assessmentId": ("assessmentId", "assessment_id", "id", "requestId"),
    "state": ("state", "status", "newState", "new_state"),
    "request": ("requestData", "request", "request_data"),
    "result": ("resultData", "result", "result_data"),
    "error": ("errorMessage", "error", "error_message"),
    "progress": ("progress",),
    "message": ("message",),
    "retryCount": ("retryCount", "retry_count"),
    "createdAt": ("createdAt", "created_at"),
    "updatedAt": ("updatedAt", "updated_at"),
    "startedAt": ("startedAt", "started_at"),
    "completedAt": ("completedAt", "completed_at"),
    "nextRetryAt": ("nextRetryAt", "next_retry_at"),
    "metadata": ("metadata",),
}
"""Our name of each member, and those it has in exports, reports and events; the first that is there counts."""

_STATES = {str(state): state for state in AssessmentState} | {"in_progress": AssessmentState.PROCESSING}

# Numbers below are no milliseconds of our century: seconds, or something else.
_LEAST_MILLISECONDS = 10**11

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UnreadableError(AssessmentStoreError):
    """Something of the old system cannot be put into our words; the message is the reason."""


def member(record: Mapping[str, Any], name: str) -> Any:
    """A member under whichever name it has; nothing where it has none or is null."""
    return next((record[known] for known in NAMES[name] if record.get(known) is not None), None)


def has(record: Mapping[str, Any], name: str) -> bool:
    """Whether a record speaks of a member, be it null."""
    return any(known in record for known in NAMES[name])


def state_of(value: Any) -> AssessmentState:
    """A state by its name there.

    Raises:
        UnreadableError: it has no such state; to guess one would lose what it was.
    """
    text = value.strip().lower().replace("-", "_") if isinstance(value, str) else value
    if not isinstance(text, str) or text not in _STATES:
        raise UnreadableError(f"the state {value!r:.100} is not one of {', '.join(_STATES)}")
    return _STATES[text]


def time_of(value: Any, name: str) -> str | None:
    """A time as RFC 3339 in UTC: from a text, or from the milliseconds that JavaScript counts.

    Raises:
        UnreadableError: it is none.
    """
    if value is None:
        return None
    try:
        at = _time(value)
    except (ValueError, OverflowError) as error:
        raise UnreadableError(f"{name} is {value!r:.100}: no time like 2026-01-31T12:00:00Z") from error
    return at.isoformat()


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        at = datetime.fromisoformat(value)
        # JavaScript writes UTC, and databases leave the zone out.
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= _LEAST_MILLISECONDS:
        return _EPOCH + timedelta(milliseconds=value)
    raise ValueError(value)
