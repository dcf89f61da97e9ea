"""The one table of the old system's event names, which its parts spell in their own ways."""

from __future__ import annotations

import re
from enum import StrEnum


class LegacyKind(StrEnum):
    """What an event of the old system tells, by the name that most of it uses."""

    CREATED = "assessment.created"
    STARTED = "assessment.started"
    PROGRESS = "assessment.progress"
    COMPLETED = "assessment.completed"
    FAILED = "assessment.failed"
    CANCELLED = "assessment.cancelled"
    RETRIED = "assessment.retried"
    STATE = "assessment.stateChanged"
    """It has another state, which the data names."""
    REPORT = "assessment.updated"
    """The whole record: nothing to do, and something to compare with."""


ALIASES: dict[str, LegacyKind] = {
    "created": LegacyKind.CREATED,
    "create": LegacyKind.CREATED,
    "started": LegacyKind.STARTED,
    "start": LegacyKind.STARTED,
    "progress": LegacyKind.PROGRESS,
    "progressed": LegacyKind.PROGRESS,
    "progressupdate": LegacyKind.PROGRESS,
    "progressupdated": LegacyKind.PROGRESS,
    "completed": LegacyKind.COMPLETED,
    "complete": LegacyKind.COMPLETED,
    "failed": LegacyKind.FAILED,
    "fail": LegacyKind.FAILED,
    "cancelled": LegacyKind.CANCELLED,
    "canceled": LegacyKind.CANCELLED,
    "cancel": LegacyKind.CANCELLED,
    "retried": LegacyKind.RETRIED,
    "retry": LegacyKind.RETRIED,
    "statechanged": LegacyKind.STATE,
    "statechange": LegacyKind.STATE,
    "updated": LegacyKind.REPORT,
    "update": LegacyKind.REPORT,
}
"""The words of a name behind `assessment`, in lower case and put together, and what they mean."""

RANKS: dict[LegacyKind, int] = {
    LegacyKind.CREATED: 0,
    LegacyKind.STARTED: 1,
    LegacyKind.PROGRESS: 2,
    LegacyKind.COMPLETED: 3,
    LegacyKind.FAILED: 3,
    LegacyKind.CANCELLED: 3,
}
"""The order of a life; what has no rank may come at any time."""

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def legacy_kind(name: str) -> LegacyKind | None:
    """What a name means, however it is put together: `assessment.stateChanged`, `assessment_failed`.

    Returns:
        Nothing where it is no name of the old system.
    """
    words = [word.lower() for word in _WORD.findall(name)]
    if words and words[0] == "assessment":
        del words[0]
    return ALIASES.get("".join(words))
