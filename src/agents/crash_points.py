"""Named places where a fault test makes the worker die, as `kill -9` would.

Off unless `ASSESSMENTSTORE_CRASH_POINT` names one; `committed:3` dies the third time it is reached.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum

ENVIRONMENT_VARIABLE = "ASSESSMENTSTORE_CRASH_POINT"


class CrashPoint(StrEnum):
    """The step boundaries of a takeover and of a batch, in their order."""

    CLAIMED = "claimed"
    RESUMED = "resumed"
    DECODED = "decoded"
    FENCED = "fenced"
    LOADED = "loaded"
    FOLDED = "folded"
    WRITTEN = "written"
    COMMITTED = "committed"
    TABLE_WRITTEN = "table-written"
    REFRESHED = "refreshed"
    SENT = "sent"
    PUBLISHED = "published"
    ACKNOWLEDGED = "acknowledged"
    CHECKPOINTED = "checkpointed"


class CrashPoints:
    """Counts how often the armed point was reached."""

    def __init__(self, armed: str) -> None:
        """Arm one point.

        Raises:
            ValueError: no point has this name.
        """
        name, _, count = armed.partition(":")
        self._armed = CrashPoint(name) if name else None
        self._left = int(count or 1)

    @classmethod
    def from_environment(cls) -> CrashPoints:
        """Arm what the environment variable names, usually nothing."""
        return cls(os.environ.get(ENVIRONMENT_VARIABLE, ""))

    def reach(self, point: CrashPoint) -> None:
        """Die here, if this is the armed point."""
        if point is self._armed:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
