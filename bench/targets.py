"""Figures beside their targets."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

_RELATIONS = {">=": operator.ge, ">": operator.gt, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure, and whether it is where it has to be."""

    what: str
    value: float
    relation: str
    """One of >=, >, <, <=."""
    target: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it is; what is compared is the figure itself, and not as it is printed."""
        return bool(_RELATIONS[self.relation](self.value, self.target))

    def __str__(self) -> str:
        said = "met" if self.met else "MISSED"
        return f"{self.what}: {self.value:.2f}{self.unit}, target {self.relation} {self.target:g}{self.unit}: {said}"


GROWTH = 1.1
"""How many times the peak of the last but one size that of the last may be, where memory has a bound."""


def judge_growth(peaks: Sequence[tuple[int, int]]) -> list[Verdict]:
    """Whether memory has stopped growing, by (size, bytes at the peak) in the order of the sizes."""
    if len(peaks) < 2:
        return []
    (before, former), (last, peak) = peaks[-2:]
    return [Verdict(f"peak of {last:,} / peak of {before:,}", peak / former, "<", GROWTH)]


def all_met(verdicts: Sequence[Verdict]) -> bool:
    """Whether all are."""
    return all(verdict.met for verdict in verdicts)


def judge(verdicts: Sequence[Verdict], *, check: bool) -> int:
    """Print them, and tell the exit code: 1 where one is missed and that is to be checked."""
    for verdict in verdicts:
        print(verdict)
    return 1 if check and not all_met(verdicts) else 0
