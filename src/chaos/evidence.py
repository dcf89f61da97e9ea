"""The evidence: all calls by their commands, the truth beside them, and who knew what when."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .history import Call, Told
from .truth import Life, Truth

MISMATCH = "IDEMPOTENCY_MISMATCH"
NOT_FOUND = "ASSESSMENT_NOT_FOUND"

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that should not be, in words."""

    words: str
    assessment: str = ""
    at: float | None = None
    """When it was told, in seconds since the load began."""


@dataclass
class Findings:
    """What was found, and how much was looked at: an acquittal without evidence is worth nothing."""

    violations: list[Violation] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)


class Evidence:
    """What the judge has before him."""

    def __init__(self, calls: Sequence[Call], truth: Truth) -> None:
        self.truth = truth
        self.findings = Findings()
        self.by_command: dict[str, list[Call]] = defaultdict(list)
        self.groups: dict[str, list[str]] = defaultdict(list)
        """The assessments of each server."""
        for call in calls:
            if call.command:
                self.by_command[call.command].append(call)
        for key, life in truth.lives.items():
            self.groups[str(life.versions[0].state["requestData"].get("serverName"))].append(key)

    def count(self, what: str) -> None:
        """Take note that something is compared."""
        self.findings.checked[what] += 1

    def accuse(self, call: Call, words: str) -> None:
        """Take note that a call was told what is not so."""
        told = f"{call.client} by {call.door}: {words}"
        self.findings.violations.append(Violation(told, call.assessment, call.completed))

    def first_asked(self, command: str) -> float:
        """When a command was sent first."""
        return min((call.invoked for call in self.by_command.get(command, ())), default=0.0)

    def first_answered(self, command: str) -> float:
        """When somebody first knew what became of a command, or where it stands."""
        answers = (call for call in self.by_command.get(command, ()) if self._is_answer(call))
        return min((call.completed for call in answers), default=NEVER)

    def _is_answer(self, call: Call) -> bool:
        """Whether a call was told what became of its command, or where it stands."""
        if call.told is Told.REFUSED:
            return call.command in self.truth.refused and call.code not in (MISMATCH, NOT_FOUND)
        return call.told in (Told.OK, Told.TAKEN) and not call.borrowed

    def known(self, life: Life, at: float) -> int:
        """The latest version that somebody had been told of before a moment."""
        for version in reversed(life.versions):
            calls = self.by_command.get(version.command, ())
            if any(call.told is Told.OK and call.completed < at for call in calls):
                return version.number
        return 0


def difference(told: Mapping[str, Any], is_: Mapping[str, Any]) -> str:
    """Two states in words, as far as they differ."""
    differing = sorted(name for name in told.keys() | is_.keys() if told.get(name) != is_.get(name))
    return ", ".join(f"{name} was told as {told.get(name)!r} and is {is_.get(name)!r}" for name in differing)
