"""What was told about states: reads, lists, and waits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .evidence import NOT_FOUND, Evidence, difference
from .history import Call
from .truth import Life, Version

# A wait's clock is the server's; it may round.
_ROUNDING_SECONDS = 0.05


def read(evidence: Evidence, call: Call) -> Iterator[str]:
    """Check a state that was shown."""
    evidence.count("states told")
    life = evidence.truth.lives.get(call.assessment, Life())
    version = life.at(call.version or 0)
    if version is None:
        yield f"was shown version {call.version}, which never was: the last one is {len(life.versions)}"
        return
    if call.body is not None and call.body != version.state:
        yield f"was shown another version {call.version} than there was: {difference(call.body, version.state)}"
    yield from possible(evidence, call, version)
    yield from fresh(evidence, call, life, version.number)
    if call.floor is None and not call.min_version:
        evidence.count("plain reads" if version.number >= evidence.known(life, call.invoked) else "plain reads, older")


def possible(evidence: Evidence, call: Call, version: Version) -> Iterator[str]:
    """Check that somebody had asked for what was shown."""
    if call.completed < evidence.first_asked(version.command):
        yield f"was shown version {version.number} before anybody sent {version.command}, which led to it"


def fresh(evidence: Evidence, call: Call, life: Life, shown: int) -> Iterator[str]:
    """Whether a read shows as much as it was promised to."""
    if call.min_version:
        evidence.count("states told with minVersion")
    if shown < call.min_version:
        yield f"asked for version {call.min_version} or later, and was shown version {shown}"
    if call.floor is not None:
        evidence.count("states told with a token")
        least = life.below(call.floor)
        if shown < least:
            yield f"came with a token that stands for version {least}, and was shown version {shown}"


def denied(evidence: Evidence, call: Call) -> Iterator[str]:
    """Check that somebody was rightly told that there is no such assessment."""
    if call.code != NOT_FOUND:
        return
    evidence.count("assessments told not to exist")
    life = evidence.truth.lives.get(call.assessment, Life())
    if life.versions and evidence.known(life, call.invoked):
        yield "was told that there is no such assessment; somebody had been told before that it is created"
    elif call.floor is not None and life.below(call.floor):
        yield "came with a token that stands for the assessment, and was told that there is none"


def listed(evidence: Evidence, call: Call) -> Iterator[str]:
    """Check a list that was shown."""
    evidence.count("lists told")
    shown = {item["assessmentId"]: item for item in call.body}
    for key, item in shown.items():
        life = evidence.truth.lives.get(key, Life())
        version = life.at(item["version"])
        if version is None or version.state != item:
            yield f"the list shows {key} as it never was, at version {item['version']}"
        else:
            yield from (f"{key}: {words}" for words in possible(evidence, call, version))
            yield from (f"{key}: {words}" for words in fresh(evidence, call, life, version.number))
    for key in evidence.groups[call.assessment]:
        if key not in shown and call.floor is not None and evidence.truth.lives[key].below(call.floor):
            yield f"the list lacks {key}, which its token stands for"


def ended(evidence: Evidence, call: Call) -> Iterator[str]:
    """Check a wait that was told an end."""
    evidence.count("waits told an end")
    life = evidence.truth.lives.get(call.assessment, Life())
    ends = [version for version in life.versions if version.final and _end(version.state) == call.body]
    if not ends:
        yield f"waited, and was told {call.body}; no end of it was like that"
    elif call.completed < min(evidence.first_asked(version.command) for version in ends):
        yield "waited, and was told an end before anybody brought it about"
    elif call.floor is not None and ends[-1].number < life.below(call.floor):
        yield f"waited with a token that stands for version {life.below(call.floor)}; was told an end before that"


def late(evidence: Evidence, call: Call) -> Iterator[str]:
    """Check a wait that was told that there is no end yet."""
    evidence.count("waits told no end")
    if call.completed - call.invoked < call.patience - _ROUNDING_SECONDS:
        yield f"wanted to wait {call.patience:g} s, and was sent away after {call.completed - call.invoked:.2f} s"
    life = evidence.truth.lives.get(call.assessment, Life())
    version = life.at(call.version or 0)
    if version is None or version.final or version.state["state"] != call.body:
        yield f"waited, and was told that it is {call.body} at version {call.version}; it never was"
        return
    yield from possible(evidence, call, version)
    yield from fresh(evidence, call, life, version.number)


def _end(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state as a wait tells it."""
    return {
        "assessmentId": state["assessmentId"],
        "status": state["state"],
        "result": state["resultData"],
        "error": state["errorMessage"],
        "duration": state["duration"],
    }
