"""The plan of a run, from the seed alone: which fault hits whom, when and for how long, and what clients ask."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

from ..agents.crash_points import CrashPoint
from .lives import BRISK, STEADY, LifePlan, Pace, plan_lives

WORKERS = ("worker-1", "worker-2")
JOINER = "worker-3"
WEBS = ("web-1", "web-2")
SERVICES = ("kafka", "postgres", "redis")

SEALED = "keys"
"""Requests and results are encrypted, and the key is changed in the middle of the run."""

SERVED = "compliance"
"""The workers have an executor, and there is a compliance server."""

TOLD = "receiver"
"""Somebody has webhooks registered."""

IMPORTED = "import"
"""An export of an old system is imported, by an import that is killed and begun again."""

AUDITED = "audit"
"""Every event is forwarded to an audit service."""

BRIDGED = "bridge"
"""An old system tells of its assessments through a bridge, which is killed and begun again."""

PARTS = (SEALED, SERVED, TOLD, IMPORTED, AUDITED, BRIDGED)
"""What a run may have besides: each has its own load, its own faults and its own judge."""

# What it takes until a run flows, and what the last fault needs to be felt.
_QUIET_BEGIN = 3.0
_QUIET_END = 5.0

# Seconds between the beginnings of two faults: often shorter than a fault lasts, and long enough that work goes on.
_GAPS = (2.5, 8.0)

# After a fault its target is left alone for so long: a start takes two seconds, that of Kafka five.
_CONVALESCENCE = 4.0

# When keys are changed: as much goes on before as after, where the change itself takes some seconds.
_ROTATION = 0.4

# When the import begins, and after how many lines it is killed: some of its batches are done then.
_IMPORT = 0.15

# When an old system begins to tell, and for how long it does.
_BRIDGE = 0.05
_BRIDGE_LASTS = 0.5

# Of servers of others: longer than a call may take.
_OUTAGE_SECONDS = 4.0
_BETWEEN_OUTAGES = 20.0

_FREEZABLE = ("decoded", "written", "committed", "sent")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    at: float
    """Seconds since the load began."""
    kind: str
    target: str
    seconds: float
    """How long it lasts."""
    detail: str = ""
    """The crash point, the skew of the clock in seconds, how a worker leaves, or how far an import gets."""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.at:6.1f} s  {self.kind:<8} {self.target:<9} {self.seconds:5.1f} s{detail}"


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before a run begins."""

    seed: int
    seconds: float
    faults: tuple[Fault, ...]
    lives: tuple[LifePlan, ...]
    parts: tuple[str, ...] = ()
    """Of PARTS."""

    def to_wire(self) -> dict[str, Any]:
        """The plan as JSON."""
        return asdict(self)

    @property
    def summary(self) -> str:
        """The plan in a few words."""
        commands = sum(op.do == "command" for life in self.lives for step in life.steps for op in step.ops)
        return f"seed {self.seed}: {len(self.lives)} assessments, {commands} commands, {len(self.faults)} faults"


@dataclass(frozen=True, slots=True)
class _Card:
    """A fault that may be drawn."""

    kind: str
    target: str
    seconds: tuple[float, float]
    details: Sequence[str] = ("",)


_WORKER_CARDS = (
    ("kill", (0.2, 3.0), ("",)),
    ("stop", (3.0, 7.0), ("",)),
    ("restart", (0.1, 1.0), ("",)),
    ("crash", (3.0, 5.0), tuple(f"{point}:{count}" for point in CrashPoint for count in (1, 3))),
    ("freeze", (4.0, 7.0), tuple(f"{point}:{count}" for point in _FREEZABLE for count in (1, 4))),
    ("skew", (5.0, 9.0), ("+600", "-600", "+86400", "-3600")),
)
_WEB_CARDS = (
    ("kill", (0.2, 2.0), ("",)),
    ("stop", (2.0, 6.0), ("",)),
    ("restart", (0.1, 1.0), ("",)),
    ("skew", (5.0, 9.0), ("+600", "+3600")),  # to a clock that is behind, every token is of the future
)
_SERVICE_CARDS = (
    ("kill", (0.5, 5.0), ("",)),
    ("stop", (1.5, 6.0), ("",)),
    ("restart", (0.2, 3.0), ("",)),
    ("slow", (2.0, 6.0), ("",)),
)
_OTHER_CARDS = (
    _Card("flush", "redis", (0.0, 0.0)),
    _Card("flush", "redis", (0.0, 0.0)),
    _Card("join", JOINER, (4.0, 10.0), ("leaves", "dies")),
    _Card("join", JOINER, (4.0, 10.0), ("leaves", "dies")),
)


def make_plan(seed: int, seconds: float, pace: Pace = STEADY) -> Plan:
    """The same plan for the same seed and length, wherever and whenever; even seeds have keys."""
    parts = PARTS if seed % 2 == 0 else tuple(part for part in PARTS if part != SEALED)
    faults = [*plan_faults(seed, seconds), *_faults_of(parts, seconds)]
    lives = plan_lives(seed, seconds, pace, served=SERVED in parts)
    return Plan(seed, seconds, tuple(sorted(faults, key=lambda fault: fault.at)), lives, parts)


def make_proof(seed: int, seconds: float, faults: tuple[Fault, ...], parts: tuple[str, ...]) -> Plan:
    """A short and dense run with just these faults, and those that its parts bring along."""
    both = sorted([*faults, *_faults_of(parts, seconds)], key=lambda fault: fault.at)
    return Plan(seed, seconds, tuple(both), plan_lives(seed, seconds, BRISK, served=SERVED in parts), parts)


def _faults_of(parts: Sequence[str], seconds: float) -> Iterator[Fault]:
    """What happens in the middle of a run because of its parts."""
    if SEALED in parts:
        yield Fault(round(seconds * _ROTATION, 1), "rotate", SEALED, 0.0)
    if SERVED in parts:
        yield from _outages(SERVED, ("kill", "stop"), seconds * 0.2, seconds)
    if TOLD in parts:
        yield from _outages(TOLD, ("kill",), seconds * 0.3, seconds)
    if AUDITED in parts:
        yield from _outages(AUDITED, ("stop", "kill"), seconds * 0.25, seconds)
    if BRIDGED in parts:
        yield Fault(round(seconds * _BRIDGE, 1), "tell", BRIDGED, round(seconds * _BRIDGE_LASTS, 1))
    if IMPORTED in parts:
        yield Fault(round(seconds * _IMPORT, 1), "import", IMPORTED, 0.0, "10")


def _outages(target: str, kinds: Sequence[str], first: float, seconds: float) -> Iterator[Fault]:
    """Somebody else's server is away, or says nothing, in turns."""
    at, turns = first, cycle(kinds)
    while at < seconds - _QUIET_END:
        yield Fault(round(at, 1), next(turns), target, _OUTAGE_SECONDS)
        at += _BETWEEN_OUTAGES


def plan_faults(seed: int, seconds: float) -> Iterator[Fault]:
    """What goes wrong within so many seconds; a longer run begins as a shorter one does."""
    chance = random.Random(f"faults {seed}")  # noqa: S311 - the same for the same seed
    at, deck = _QUIET_BEGIN, list[_Card]()
    free: dict[str, float] = {}
    while at < seconds - _QUIET_END:
        if not deck:
            deck = _shuffled(chance)
        card = next((card for card in deck if free.get(card.target, 0.0) <= at), None)
        if card is not None:
            deck.remove(card)
            fault = Fault(round(at, 1), card.kind, card.target, _length(chance, card), chance.choice(card.details))
            free[card.target] = at + fault.seconds + _CONVALESCENCE
            yield fault
        at += chance.uniform(*_GAPS)


def _shuffled(chance: random.Random) -> list[_Card]:
    """Every sort of fault once, in an order of its own: a long run meets all, and a short one is like no other."""
    deck = [
        _Card(kind, target, seconds, details)
        for targets, cards in ((WORKERS, _WORKER_CARDS), (WEBS, _WEB_CARDS), (SERVICES, _SERVICE_CARDS))
        for target in targets
        for kind, seconds, details in cards
    ]
    deck += _OTHER_CARDS
    chance.shuffle(deck)
    return deck


def _length(chance: random.Random, card: _Card) -> float:
    return round(chance.uniform(*card.seconds), 1)
