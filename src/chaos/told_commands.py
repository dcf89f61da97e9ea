"""What was told about commands: applied, taken, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from .evidence import MISMATCH, NOT_FOUND, Evidence, difference
from .history import Call
from .model import EVENT_NAMES
from .told_reads import denied


def accepted(evidence: Evidence, call: Call) -> Iterator[str]:
    """Check a command that was told to be applied."""
    evidence.count("commands told to be applied")
    found = evidence.truth.accepted.get(call.command)
    if found is None:
        fate = evidence.truth.refused.get(call.command)
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
        yield f"was told another state after {_named(call)} than it led to: {difference(call.body, version.state)}"
    if orjson.loads(version.event)["type"] != EVENT_NAMES[call.name]:
        yield f"was told that {_named(call)} is applied; its id led to {orjson.loads(version.event)['type']}"
    if call.expected is not None and version.number != call.expected + 1:
        yield f"{_named(call)} insisted on version {call.expected}, and led to version {version.number}"


def taken(evidence: Evidence, call: Call) -> Iterator[str]:
    """Check a command that Kafka was told to have."""
    evidence.count("commands told to be taken")
    if call.place is not None and call.place not in evidence.truth.on_topic:
        yield f"was told that {_named(call)} stands at {call.place} of the commands; there is nothing"
    elif call.command not in evidence.truth.accepted and call.command not in evidence.truth.refused:
        yield f"was told that {_named(call)} is taken; nothing became of it"


def refused(evidence: Evidence, call: Call) -> Iterator[str]:
    """Check a command that was told to be refused."""
    evidence.count("commands told to be refused")
    asked = evidence.by_command[call.command]
    if call.code == MISMATCH:
        if not any(other.borrowed for other in asked):
            yield f"was told that the id of {_named(call)} was used for another content; it was not"
        return
    stored = evidence.truth.refused.get(call.command)
    if stored is not None and stored.code == call.code:
        return  # be it the first answer to a command that came too soon, and the assessment is there by now
    yield from denied(evidence, call)
    if _turned_away(call, asked):
        return
    if stored is not None:
        yield f"was told {call.code} for {_named(call)}; it was refused with {stored.code}"
    elif call.command in evidence.truth.accepted:
        version = evidence.truth.accepted[call.command][1].number
        yield f"was told {call.code} for {_named(call)}; it led to version {version}"
    elif call.code != NOT_FOUND:
        yield f"was told {call.code} for {_named(call)}; nothing about it says so"


def _named(call: Call) -> str:
    return f"{call.name} {call.command}"


def _turned_away(call: Call, asked: Sequence[Call]) -> bool:
    """Whether a call may have been refused before its command was sent, while another one sent it."""
    return call.code == NOT_FOUND and len(asked) > 1
