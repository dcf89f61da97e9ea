"""The verdict of a run: what was found, how much was looked at, and what happened meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from .evidence import Violation
from .faults import Happened
from .history import Call, Kind, Told
from .plan import Plan

# An answer that takes longer than this is a pause, and a pause is worth a look.
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Pause:
    """A time without any command being applied for anybody."""

    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long it took after a fault until commands were applied again."""

    fault: str
    target: str
    seconds: float | None
    """From when it was made good; nothing where commands never stopped for it."""


@dataclass(frozen=True)
class Verdict:
    """What a run came to."""

    plan: Plan
    sabotage: str
    seconds: float
    """From the first call to the last."""
    violations: Sequence[Violation]
    checked: Mapping[str, int]
    told: Mapping[str, int]
    happened: Sequence[Happened]
    notes: Mapping[str, int] = field(default_factory=dict)
    """What is allowed and worth to be known."""

    @property
    def innocent(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations

    def to_wire(self) -> dict[str, Any]:
        """The verdict as JSON, without the plan of what clients ask: that has a file of its own."""
        return {
            "innocent": self.innocent,
            "seed": self.plan.seed,
            "sabotage": self.sabotage,
            "planned": self.plan.summary,
            "seconds": round(self.seconds, 1),
            "violations": [asdict(violation) for violation in self.violations],
            "checked": dict(sorted(self.checked.items())),
            "told": dict(sorted(self.told.items())),
            "notes": dict(sorted(self.notes.items())),
            "faults": [asdict(happened) for happened in self.happened],
        }


def count_told(calls: Sequence[Call]) -> Counter[str]:
    """How often which sort of call was told what."""
    return Counter(f"{call.kind} {call.told}" for call in calls)


def pauses(calls: Sequence[Call]) -> list[Pause]:
    """When no command was applied for anybody."""
    applied = sorted(call.completed for call in calls if call.kind is Kind.COMMAND and call.told is Told.OK)
    return [Pause(before, after) for before, after in pairwise(applied) if after - before > _PAUSE_SECONDS]


def recoveries(happened: Sequence[Happened], calls: Sequence[Call]) -> list[Recovery]:
    """Of each fault, how long commands stood still after it was made good."""
    found = []
    for item in happened:
        inside = [pause for pause in pauses(calls) if pause.begin <= item.ended and pause.end >= item.began]
        last = max((pause.end for pause in inside), default=None)
        seconds = None if last is None else max(0.0, last - item.ended)
        found.append(Recovery(item.fault.kind, item.fault.target, seconds))
    return found
