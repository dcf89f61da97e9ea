"""What it takes to check a kind of server: looks, which ask it for facts, and rules, which judge these."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..models.base import JsonObject
from ..models.result import AssessmentSeverity, IssueType
from .scope import EVERYTHING, Aspect, Scope
from .targets import Target

Facts = Mapping[str, Any]
"""What was measured, as JSON; what a server does not tell, or not us, is not in it."""

_PINGS = 5
_MOST_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Look:
    """One thing that a server is asked."""

    words: str
    aspects: frozenset[Aspect] = EVERYTHING
    """It is made where one of these is asked for."""
    deep: bool = False
    """Whether it takes a deep scan."""
    ask: Callable[[Target], Awaitable[Facts]]

    def is_for(self, scope: Scope) -> bool:
        """Whether it is made."""
        return bool(self.aspects & scope.aspects) and (scope.deep or not self.deep)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that may be wrong; it says nothing where one of its facts is not known."""

    name: str
    """Of several with the same name the first one that is broken speaks: the gravest stands first."""
    category: str
    aspect: Aspect
    type: IssueType
    severity: AssessmentSeverity
    locally: AssessmentSeverity | None = None
    """The severity where only this machine reaches the server, if that is another."""
    facts: tuple[str, ...]
    broken: Callable[..., bool]
    """Given the values of the facts."""
    words: str
    """What is wrong; `{0}` is the value of the first fact."""
    advice: str

    def is_broken(self, facts: Facts) -> bool:
        """Whether it is, as far as is known."""
        return all(name in facts for name in self.facts) and self.broken(*self.values(facts))

    def values(self, facts: Facts) -> list[Any]:
        """The values of its facts."""
        return [facts[name] for name in self.facts]


@dataclass(frozen=True, kw_only=True)
class Checks:
    """All that is checked of one kind of server; the first look says whether it responds at all, and is always made."""

    looks: tuple[Look, ...]
    rules: tuple[Rule, ...]

    def looks_for(self, scope: Scope) -> list[Look]:
        """The looks to make, in order."""
        first, *others = self.looks
        return [first, *(look for look in others if look.is_for(scope))]

    def broken_rules(self, facts: Facts, aspects: frozenset[Aspect]) -> Iterator[Rule]:
        """The rules that are broken, one of each name."""
        names: set[str] = set()
        for rule in self.rules:
            if rule.aspect in aspects and rule.name not in names and rule.is_broken(facts):
                names.add(rule.name)
                yield rule


async def median_of(ping: Callable[[], Awaitable[object]]) -> JsonObject:
    """The median of some round trips, in milliseconds."""
    times = []
    for _ in range(_PINGS):
        start = time.perf_counter()
        await ping()
        times.append(time.perf_counter() - start)
    return {"responseTime": round(statistics.median(times) * 1000, 3)}


def some(names: Sequence[str]) -> JsonObject:
    """How many there are, and some of their names: there may be thousands."""
    return {"count": len(names), "some": sorted(names)[:_MOST_NAMED]}


def machine(target: Target, folder: str | None) -> JsonObject:
    """The shares of memory and disk that are left, where the server is on this machine.

    Args:
        target: the server.
        folder: where it keeps its data, if that is known; that of a server in a container does not exist out here.
    """
    if not target.is_local:
        return {}
    memory = psutil.virtual_memory()
    left = {"memoryLeft": round(memory.available / memory.total, 4)}
    if folder and Path(folder).is_absolute() and Path(folder).exists():
        usage = psutil.disk_usage(folder)
        left["diskLeft"] = round(usage.free / usage.total, 4)
    return left
