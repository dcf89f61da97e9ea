"""The commands of timers: whoever fires one sends the same command, of which only the first has an effect."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

from .base import MAX_ID_LENGTH
from .commands import CommandType
from .envelope import SOURCE, encode_command
from .errors import ErrorCode

USER = "system:timers"
"""Who asks, in commands of timers and in the events that they lead to."""

_DIGEST_BYTES = 20


class Timer(StrEnum):
    """What a timer is for."""

    LEASE = "lease"
    """A processing assessment that told of no progress fails."""
    RETRY = "retry"
    """A failed one is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A version of an assessment that a timer has to act on."""

    timer: Timer
    assessment_id: str
    version: int
    created_at: datetime
    seconds: float = 0.0
    """How long a lease was."""

    @property
    def command_id(self) -> str:
        """`timer:lease:<assessment>:<version>:<created>`, where a digest stands for a long assessment id.

        An assessment is at a version once. But its id may be taken again after it was deleted: so the time of its
        creation belongs to it.
        """
        end = f":{self.version}:{self.created_at.timestamp():.6f}"
        name = self.assessment_id
        if len(f"timer:{self.timer}:{name}{end}") > MAX_ID_LENGTH:
            name = blake2b(name.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        return f"timer:{self.timer}:{name}{end}"


def timer_command(due: Due, *, now: datetime) -> bytes:
    """The command of a timer that is due; it insists on the version, so that whatever came in between wins."""
    fails = due.timer is Timer.LEASE
    return encode_command(
        command_id=due.command_id,
        command_type=CommandType.FAIL if fails else CommandType.RETRY,
        assessment_id=due.assessment_id,
        source=f"{SOURCE}/timers",
        time=now,
        data={"error": f"{ErrorCode.TIMEOUT}: no progress for {due.seconds:.15g} s"} if fails else {},
        userid=USER,
        expectedversion=due.version,
    )
