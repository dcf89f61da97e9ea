"""The judge of what clients were told: each call is held against the truth, and against what others were told before.

Versions make that possible in linear time. Each command has one place on its partition, and each accepted one a
version, so that the order in which an assessment's commands took effect is known and need not be searched for; what is
left is to see that everybody was told that very order, and that none of it contradicts real time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from .history import Call, Kind, Told
from .model import EVENT_NAMES
from .truth import Life, Truth, Version

_MISMATCH = "IDEMPOTENCY_MISMATCH"
_NOT_FOUND = "ASSESSMENT_NOT_FOUND"

# A wait's clock is the server's; it may round.
_ROUNDING_SECONDS = 0.05

_NEVER = float("inf")

_INTERNAL = 500
"""A service that is away is 503; this is a bug."""


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


def judge_calls(calls: Sequence[Call], truth: Truth) -> Findings:
    """Say all that was told and is not so."""
    court = _Court(calls, truth)
    for call in calls:
        court.hear(call)
    court.check_order()
    court.check_streams()
    return court.findings


class _Court:
    def __init__(self, calls: Sequence[Call], truth: Truth) -> None:
        self.findings = Findings()
        self._truth = truth
        self._by_command: dict[str, list[Call]] = defaultdict(list)
        self._streams: dict[tuple[str, str], list[Call]] = defaultdict(list)
        self._groups: dict[str, list[str]] = defaultdict(list)
        for call in calls:
            if call.command:
                self._by_command[call.command].append(call)
        for key, life in truth.lives.items():
            self._groups[str(life.versions[0].state["requestData"].get("serverName"))].append(key)

    def hear(self, call: Call) -> None:
        """Check one call by itself."""
        checks: dict[tuple[Kind, Told], Callable[[Call], Iterable[str]]] = {
            (Kind.COMMAND, Told.OK): self._accepted,
            (Kind.COMMAND, Told.TAKEN): self._taken,
            (Kind.COMMAND, Told.REFUSED): self._refused,
            (Kind.READ, Told.OK): self._read,
            (Kind.READ, Told.REFUSED): self._denied,
            (Kind.LIST, Told.OK): self._listed,
            (Kind.WAIT, Told.OK): self._ended,
            (Kind.WAIT, Told.LATE): self._late,
            (Kind.WAIT, Told.REFUSED): self._denied,
        }
        if call.status == _INTERNAL:
            self._violation(call, f"asked by {call.name or call.kind} {call.command}, and broke something: status 500")
        if call.kind is Kind.STREAM:
            self._streams[call.client, call.assessment].append(call)
        for words in check(call) if (check := checks.get((call.kind, call.told))) else ():
            self._violation(call, words)

    def _violation(self, call: Call, words: str) -> None:
        self.findings.violations.append(
            Violation(f"{call.client} by {call.door}: {words}", call.assessment, call.completed)
        )

    def _count(self, what: str) -> None:
        self.findings.checked[what] += 1

    # Commands.

    def _accepted(self, call: Call) -> Iterator[str]:
        self._count("commands told to be applied")
        found = self._truth.accepted.get(call.command)
        if found is None:
            fate = self._truth.refused.get(call.command)
            became = "it was never applied" if fate is None else f"it was refused with {fate.code}"
            yield f"was told that {_named(call)} led to version {call.version}; {became}"
            return
        assessment, version = found
        if (assessment, version.number) != (call.assessment, call.version):
            yield (
                f"was told that {_named(call)} led to version {call.version} of {call.assessment};"
                f" it led to version {version.number} of {assessment}"
            )
        elif call.body is not None and call.body != version.state:
            yield f"was told another state after {_named(call)} than it led to: {_difference(call.body, version.state)}"
        if orjson.loads(version.event)["type"] != EVENT_NAMES[call.name]:
            yield f"was told that {_named(call)} is applied; its id led to {orjson.loads(version.event)['type']}"
        if call.expected is not None and version.number != call.expected + 1:
            yield f"{_named(call)} insisted on version {call.expected}, and led to version {version.number}"

    def _taken(self, call: Call) -> Iterator[str]:
        self._count("commands told to be taken")
        if call.place is not None and call.place not in self._truth.on_topic:
            yield f"was told that {_named(call)} stands at {call.place} of the commands; there is nothing"
        elif call.command not in self._truth.accepted and call.command not in self._truth.refused:
            yield f"was told that {_named(call)} is taken; nothing became of it"

    def _refused(self, call: Call) -> Iterator[str]:
        self._count("commands told to be refused")
        asked = self._by_command[call.command]
        if call.code == _MISMATCH:
            if not any(other.borrowed for other in asked):
                yield f"was told that the id of {_named(call)} was used for another content; it was not"
            return
        yield from self._denied(call)
        if _turned_away(call, asked):
            return
        stored = self._truth.refused.get(call.command)
        if stored is not None and stored.code != call.code:
            yield f"was told {call.code} for {_named(call)}; it was refused with {stored.code}"
        elif stored is None and call.command in self._truth.accepted:
            version = self._truth.accepted[call.command][1].number
            yield f"was told {call.code} for {_named(call)}; it led to version {version}"
        elif stored is None and call.code != _NOT_FOUND:
            yield f"was told {call.code} for {_named(call)}; nothing about it says so"

    # Reads.

    def _read(self, call: Call) -> Iterator[str]:
        self._count("states told")
        life = self._truth.lives.get(call.assessment, Life())
        version = life.at(call.version or 0)
        if version is None:
            yield f"was shown version {call.version}, which never was: the last one is {len(life.versions)}"
            return
        if call.body is not None and call.body != version.state:
            yield f"was shown another version {call.version} than there was: {_difference(call.body, version.state)}"
        yield from self._possible(call, version)
        yield from self._fresh(call, life, version.number)
        if call.floor is None and not call.min_version:
            self._count("plain reads" if version.number >= self._known(life, call.invoked) else "plain reads, older")

    def _possible(self, call: Call, version: Version) -> Iterator[str]:
        if call.completed < self._first_asked(version.command):
            yield f"was shown version {version.number} before anybody sent {version.command}, which led to it"

    def _fresh(self, call: Call, life: Life, shown: int) -> Iterator[str]:
        """Whether a read shows as much as it was promised to."""
        if call.min_version:
            self._count("states told with minVersion")
        if shown < call.min_version:
            yield f"asked for version {call.min_version} or later, and was shown version {shown}"
        if call.floor is not None:
            self._count("states told with a token")
            least = life.below(call.floor)
            if shown < least:
                yield f"came with a token that stands for version {least}, and was shown version {shown}"

    def _denied(self, call: Call) -> Iterator[str]:
        if call.code != _NOT_FOUND:
            return
        self._count("assessments told not to exist")
        life = self._truth.lives.get(call.assessment, Life())
        if life.versions and self._known(life, call.invoked):
            yield "was told that there is no such assessment; somebody had been told before that it is created"
        elif call.floor is not None and life.below(call.floor):
            yield "came with a token that stands for the assessment, and was told that there is none"

    def _listed(self, call: Call) -> Iterator[str]:
        self._count("lists told")
        shown = {item["assessmentId"]: item for item in call.body}
        for key, item in shown.items():
            life = self._truth.lives.get(key, Life())
            version = life.at(item["version"])
            if version is None or version.state != item:
                yield f"the list shows {key} as it never was, at version {item['version']}"
            else:
                yield from (f"{key}: {words}" for words in self._possible(call, version))
                yield from (f"{key}: {words}" for words in self._fresh(call, life, version.number))
        for key in self._groups[call.assessment]:
            if key not in shown and call.floor is not None and self._truth.lives[key].below(call.floor):
                yield f"the list lacks {key}, which its token stands for"

    # Waits.

    def _ended(self, call: Call) -> Iterator[str]:
        self._count("waits told an end")
        life = self._truth.lives.get(call.assessment, Life())
        ends = [version for version in life.versions if version.final and _end(version.state) == call.body]
        if not ends:
            yield f"waited, and was told {call.body}; no end of it was like that"
        elif call.completed < min(self._first_asked(version.command) for version in ends):
            yield "waited, and was told an end before anybody brought it about"
        elif call.floor is not None and ends[-1].number < life.below(call.floor):
            yield f"waited with a token that stands for version {life.below(call.floor)}; was told an end before that"

    def _late(self, call: Call) -> Iterator[str]:
        self._count("waits told no end")
        if call.completed - call.invoked < call.patience - _ROUNDING_SECONDS:
            yield f"wanted to wait {call.patience:g} s, and was sent away after {call.completed - call.invoked:.2f} s"
        life = self._truth.lives.get(call.assessment, Life())
        version = life.at(call.version or 0)
        if version is None or version.final or version.state["state"] != call.body:
            yield f"waited, and was told that it is {call.body} at version {call.version}; it never was"
            return
        yield from self._possible(call, version)
        yield from self._fresh(call, life, version.number)

    # What calls say of each other.

    def check_order(self) -> None:
        """Whoever was told of a command before another one was sent has to come before it."""
        commands: dict[str, list[tuple[tuple[int, int], str]]] = defaultdict(list)
        for command, calls in self._by_command.items():
            place = self._truth.places.get(command)
            if place is not None:
                commands[calls[0].assessment].append((place, command))
        for assessment, placed in commands.items():
            earliest_answer, of = _NEVER, ""
            for _, command in sorted(placed, reverse=True):
                self._count("commands in the order of real time")
                if earliest_answer < self._first_asked(command):
                    words = f"{of} was answered before {command} was sent, and took effect after it"
                    self.findings.violations.append(Violation(words, assessment, earliest_answer))
                answered = self._first_answered(command)
                if answered < earliest_answer:
                    earliest_answer, of = answered, command

    def check_streams(self) -> None:
        """Each stream shows each version once, in order, without a gap, and all of them in the end."""
        for (client, assessment), calls in self._streams.items():
            life, last = self._truth.lives.get(assessment, Life()), 0
            for call in calls:
                self._count("events told by streams")
                for words in self._streamed(call, life, last):
                    self._violation(call, words)
                last = call.version or last
            if last != len(life.versions):
                words = f"{client} has seen version {last} as the last one, there are {len(life.versions)}"
                self.findings.violations.append(Violation(words, assessment))

    def _streamed(self, call: Call, life: Life, last: int) -> Iterator[str]:
        if call.told is not Told.OK:
            yield f"the stream says {call.why}, and nothing was deleted"
            return
        if call.version != last + 1:
            yield f"the stream shows version {call.version} after version {last}"
        version = life.at(call.version or 0)
        if version is None:
            yield f"the stream shows version {call.version}, which never was"
        elif orjson.loads(call.body) != orjson.loads(version.event):
            yield f"the stream shows another event of version {call.version} than the audit trail has"
        else:
            yield from self._possible(call, version)

    # Times.

    def _first_asked(self, command: str) -> float:
        return min((call.invoked for call in self._by_command.get(command, ())), default=0.0)

    def _first_answered(self, command: str) -> float:
        answers = (call for call in self._by_command.get(command, ()) if self._is_answer(call))
        return min((call.completed for call in answers), default=_NEVER)

    def _is_answer(self, call: Call) -> bool:
        """Whether a call was told what became of its command, or where it stands."""
        if call.told is Told.REFUSED:
            return call.command in self._truth.refused and call.code not in (_MISMATCH, _NOT_FOUND)
        return call.told in (Told.OK, Told.TAKEN) and not call.borrowed

    def _known(self, life: Life, at: float) -> int:
        """The latest version that somebody had been told of before a moment."""
        for version in reversed(life.versions):
            calls = self._by_command.get(version.command, ())
            if any(call.told is Told.OK and call.completed < at for call in calls):
                return version.number
        return 0


def _named(call: Call) -> str:
    return f"{call.name} {call.command}"


def _turned_away(call: Call, asked: Sequence[Call]) -> bool:
    """Whether a call may have been refused before its command was sent, while another one sent it."""
    return call.code == _NOT_FOUND and len(asked) > 1


def _end(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state as a wait tells it."""
    return {
        "assessmentId": state["assessmentId"],
        "status": state["state"],
        "result": state["resultData"],
        "error": state["errorMessage"],
        "duration": state["duration"],
    }


def _difference(told: Mapping[str, Any], is_: Mapping[str, Any]) -> str:
    differing = sorted(name for name in told.keys() | is_.keys() if told.get(name) != is_.get(name))
    return ", ".join(f"{name} was told as {told.get(name)!r} and is {is_.get(name)!r}" for name in differing)
