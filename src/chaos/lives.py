"""What clients ask, from the seed alone: the life of each assessment, step by step, through several doors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .messages import DATA, LEGAL, TARGETS, request
from .model import OF_AN_ATTEMPT

# So many assessments share a server and an owner: what a list is asked for.
_GROUP = 10

_MOST_COMMANDS = 12

_DOORS = ("http", "http", "async", "kafka", "kafka", "kafka-binary")

# Steps at which the client of one that is served only looks on.
_LEFT_ALONE = 0.85

# Commands that say which attempt they are meant for, and those of them that are right about it.
_WITH_TOKEN = 0.2
_RIGHT_TOKEN = 0.6

_READS = ("plain", "plain", "token", "token", "version", "ahead", "etag", "worker", "list", "own", "wait")


# Some have a lease shorter than many a fault, and come back by themselves: timers fire in the middle of it all.
_TIMED: dict[str, Any] = {"timeout": 2, "retryPolicy": {"maxRetries": 2, "initialDelaySeconds": 0.5}}
_TIMED_ENDS = ("3", "7")

# Some are left to the executor, where there is one: first in its queue, and tried again soon where they fail.
_SERVED_ENDS = ("5", "9")
_SERVED: dict[str, Any] = {"priority": 10, "retryPolicy": {"maxRetries": 2, "initialDelaySeconds": 0.5}}


def number_of(assessment: str) -> int:
    """The number of an assessment of the plan."""
    return int(assessment.rpartition("a")[2])


def is_served(assessment: str) -> bool:
    """Whether an assessment is left to the executor, where there is one."""
    return assessment.endswith(_SERVED_ENDS) and "-a" in assessment


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast lives go by."""

    births: float
    """New assessments a second."""
    pauses: tuple[float, float]
    """Seconds between two steps."""
    latest: float
    """How late a command may come again."""
    longest: float
    """How long a wait may last."""
    last: float
    """Seconds before the end of the load in which nobody is born."""


STEADY = Pace(births=3.0, pauses=(0.15, 1.2), latest=12.0, longest=15.0, last=8.0)
"""Each assessment lives for some ten seconds: long enough to meet a fault or two."""

SHORT = Pace(births=4.0, pauses=(0.1, 0.8), latest=4.0, longest=5.0, last=5.0)
"""The same in less time, for a run of seconds: nobody lives, waits or repeats himself for long after the last fault."""

BRISK = Pace(births=7.0, pauses=(0.05, 0.6), latest=3.0, longest=5.0, last=0.0)
"""For the proofs."""


@dataclass(frozen=True, slots=True)
class Op:
    """One thing that a client does."""

    do: str
    """command, read, list, wait, stream or junk."""
    door: str = "http"
    """http, async, kafka or kafka-binary."""
    name: str = ""
    """Of the command; or what a read insists on."""
    data: Any = None
    id: str = ""
    """Of the command: two with one id are one command, sent twice."""
    insists: str = ""
    """Whether the command names the version that its client knows (right), or another (wrong)."""
    borrowed: bool = False
    """Whether the id belongs to a command with another content."""
    delay: float = 0.0
    """Seconds until it is done, meanwhile its client goes on."""
    seconds: float = 0.0
    """How long a wait may last."""

    @property
    def background(self) -> bool:
        """Whether its client goes on meanwhile."""
        return self.delay > 0 or self.do in ("wait", "stream")


@dataclass(frozen=True, slots=True)
class Step:
    """What is done at once."""

    pause: float
    """Seconds after the step before."""
    ops: tuple[Op, ...]


@dataclass(frozen=True, slots=True)
class LifePlan:
    """Everything that is asked about one assessment."""

    at: float
    """Seconds since the load began."""
    assessment: str
    group: str
    user: str
    steps: tuple[Step, ...]


def plan_lives(seed: int, seconds: float, pace: Pace = STEADY, *, served: bool = False) -> tuple[LifePlan, ...]:
    """The lives that begin within so many seconds, those of a group one after the other.

    Args:
        seed: what decides everything.
        seconds: how long the load lasts.
        pace: how fast lives go by.
        served: whether there is an executor.
    """
    chance = random.Random(f"lives {seed}")  # noqa: S311 - the same for the same seed
    fertile = max(seconds - pace.last, seconds / 2)
    count = max(1, int(fertile * pace.births))
    begins = sorted(round(chance.uniform(0, fertile), 2) for _ in range(count))
    return tuple(
        LifePlan(
            at=at,
            assessment=f"s{seed}-a{number}",
            group=f"s{seed}-server-{number // _GROUP}",
            user=f"s{seed}-user-{number // _GROUP}",
            steps=tuple(
                _Walk(chance, pace, f"s{seed}-a{number}", f"s{seed}-server-{number // _GROUP}", served).steps()
            ),
        )
        for number, at in enumerate(begins)
    )


class _Walk:
    """A random walk over the commands of one assessment, most of them legal."""

    def __init__(self, chance: random.Random, pace: Pace, assessment: str, group: str, served: bool) -> None:
        self._chance = chance
        self._pace = pace
        self._assessment = assessment
        self._group = group
        self._served = served and is_served(assessment)
        self._state = ""
        self._retries = 0
        self._sent: list[Op] = []

    def steps(self) -> Iterator[Step]:
        chance = self._chance
        yield Step(0.0, self._command("create"))
        if chance.random() < 0.15:
            yield Step(0.1, (Op("stream"),))
        if chance.random() < 0.35:
            yield Step(0.0, (self._wait(),))
        for _ in range(chance.randint(3, _MOST_COMMANDS)):
            ops = () if self._served and chance.random() < _LEFT_ALONE else self._next()
            yield Step(round(chance.uniform(*self._pace.pauses), 2), (*ops, *self._reads()))
        yield Step(round(chance.uniform(*self._pace.pauses), 2), (*self._reads(), Op("read", name="token")))

    def _next(self) -> tuple[Op, ...]:
        """The next command, perhaps with a rival at the same moment; or something else."""
        chance, draw = self._chance, self._chance.random()
        if draw < 0.08:
            return (Op("junk", door="kafka", data=chance.randrange(1000)),)
        if draw < 0.14:
            earlier = chance.choice(self._sent)
            other = {"progress": chance.randint(0, 100), "message": "borrowed"}
            return (replace(earlier, name="progress", data=other, borrowed=True, insists="", door=self._door()),)
        name = self._name()
        if draw < 0.26:
            rival = chance.choice(("cancel", "progress", "fail", name))
            return (*self._command(rival, moves=False), *self._command(name))
        return self._command(name)

    def _name(self) -> str:
        legal = LEGAL[self._state]
        if legal and self._chance.random() < 0.88:
            return self._chance.choice(legal)
        return self._chance.choice(list(TARGETS))

    def _command(self, name: str, *, moves: bool = True) -> tuple[Op, ...]:
        """A command, and perhaps the same again: at once or later, through the same door or another."""
        chance = self._chance
        data = self._request() if name == "create" else DATA[name](chance)
        if name in OF_AN_ATTEMPT and chance.random() < _WITH_TOKEN:
            attempt = self._retries if chance.random() < _RIGHT_TOKEN else self._retries + chance.choice((-1, 1))
            data = data | {"attempt": max(attempt, 0)}
            moves = moves and attempt == self._retries
        insists = "" if name == "create" or chance.random() < 0.7 else chance.choice(("right", "right", "wrong"))
        op = Op("command", self._door(), name, data, f"{self._assessment}-c{len(self._sent)}", insists)
        self._sent.append(op)
        if moves and insists != "wrong" and name in LEGAL[self._state]:
            self._state = TARGETS[name]
            self._retries += name == "retry"
        if chance.random() > 0.25:
            return (op,)
        later = round(chance.choice((0.0, chance.uniform(0.01, 0.3), chance.uniform(0.5, self._pace.latest))), 2)
        return op, replace(op, door=self._door(), delay=later)

    def _request(self) -> Any:
        chance = self._chance
        about = {
            "assessmentId": self._assessment,  # both doors have to get the same content
            "priority": chance.randint(1, 9),
            "serverName": self._group,
            "metadata": {"n": chance.randint(0, 10**9), "text": "ü→" * chance.randint(0, 40)},
        }
        timed = _TIMED if self._assessment.endswith(_TIMED_ENDS) else {}
        return request(**about | timed | (_SERVED if self._served else {}))

    def _reads(self) -> tuple[Op, ...]:
        chance = self._chance
        if chance.random() < 0.35:
            return ()
        name = chance.choice(_READS)
        if name == "wait":
            return (self._wait(),)
        return (
            Op("list" if name in ("list", "own") else "read", name=name, delay=round(chance.uniform(0.001, 0.2), 3)),
        )

    def _wait(self) -> Op:
        chance = self._chance
        return Op(
            "wait", name=chance.choice(("plain", "token")), seconds=round(chance.uniform(1.0, self._pace.longest), 1)
        )

    def _door(self) -> str:
        return self._chance.choice(_DOORS)
