"""The judge of what clients were told: each call is held against the truth, and against what others were told before.

Versions make that possible in linear time. Each command has one place on its partition, and each accepted one a
version, so that the order in which an assessment's commands took effect is known and need not be searched for; what is
left is to see that everybody was told that very order, and that none of it contradicts real time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import orjson

from .evidence import NEVER, Evidence, Findings, Violation
from .history import Call, Kind, Told
from .told_commands import accepted, refused, taken
from .told_reads import denied, ended, late, listed, possible, read
from .truth import Life, Truth

_INTERNAL = 500
"""A service that is away is 503; this is a bug."""

_CHECKS: Mapping[tuple[Kind, Told], Callable[[Evidence, Call], Iterable[str]]] = {
    (Kind.COMMAND, Told.OK): accepted,
    (Kind.COMMAND, Told.TAKEN): taken,
    (Kind.COMMAND, Told.REFUSED): refused,
    (Kind.READ, Told.OK): read,
    (Kind.READ, Told.REFUSED): denied,
    (Kind.LIST, Told.OK): listed,
    (Kind.WAIT, Told.OK): ended,
    (Kind.WAIT, Told.LATE): late,
    (Kind.WAIT, Told.REFUSED): denied,
}


def judge_calls(calls: Sequence[Call], truth: Truth, *, complete: bool = True) -> Findings:
    """Say all that was told and is not so.

    Args:
        calls: the whole history.
        truth: what is.
        complete: whether the streams had time to show everything.
    """
    court = _Court(calls, truth)
    for call in calls:
        court.hear(call)
    court.check_order()
    court.check_streams(complete=complete)
    return court.findings


class _Court:
    def __init__(self, calls: Sequence[Call], truth: Truth) -> None:
        self._evidence = Evidence(calls, truth)
        self._streams: dict[tuple[str, str], list[Call]] = defaultdict(list)

    @property
    def findings(self) -> Findings:
        return self._evidence.findings

    def hear(self, call: Call) -> None:
        """Check one call by itself."""
        if call.status == _INTERNAL:
            words = f"asked by {call.name or call.kind} {call.command}, and broke something: status 500"
            self._evidence.accuse(call, words)
        if call.kind is Kind.STREAM:
            self._streams[call.client, call.assessment].append(call)
        check = _CHECKS.get((call.kind, call.told))
        for words in check(self._evidence, call) if check else ():
            self._evidence.accuse(call, words)

    def check_order(self) -> None:
        """Whoever was told of a command before another one was sent has to come before it."""
        commands: dict[str, list[tuple[tuple[int, int], str]]] = defaultdict(list)
        for command, calls in self._evidence.by_command.items():
            place = self._evidence.truth.places.get(command)
            if place is not None:
                commands[calls[0].assessment].append((place, command))
        for assessment, placed in commands.items():
            earliest_answer, of = NEVER, ""
            for _, command in sorted(placed, reverse=True):
                self._evidence.count("commands in the order of real time")
                if earliest_answer < self._evidence.first_asked(command):
                    words = f"{of} was answered before {command} was sent, and took effect after it"
                    self._evidence.findings.violations.append(Violation(words, assessment, earliest_answer))
                answered = self._evidence.first_answered(command)
                if answered < earliest_answer:
                    earliest_answer, of = answered, command

    def check_streams(self, *, complete: bool) -> None:
        """Each stream shows each version once, in order, without a gap, and all of them in the end."""
        for (client, assessment), calls in self._streams.items():
            life, last = self._evidence.truth.lives.get(assessment, Life()), 0
            for call in calls:
                self._evidence.count("events told by streams")
                for words in self._streamed(call, life, last):
                    self._evidence.accuse(call, words)
                last = call.version or last
            if complete and last != len(life.versions):
                words = f"{client} has seen version {last} as the last one, there are {len(life.versions)}"
                self._evidence.findings.violations.append(Violation(words, assessment))

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
            yield from possible(self._evidence, call, version)
