"""The reference: what should become of each record, worked out from the topic alone and without the code under test."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .messages import KIND_HEADER, Kind
from .topics import TopicRecord

TABLE = {
    ("pending", "start"): "processing",
    ("processing", "progress"): "processing",
    ("processing", "complete"): "completed",
    ("processing", "fail"): "failed",
    ("pending", "cancel"): "cancelled",
    ("processing", "cancel"): "cancelled",
    ("failed", "retry"): "pending",
}
"""State and command, and the state they lead to; anything else is refused."""

EVENT_NAMES = {
    "create": "assessment.created",
    "import": "assessment.imported",
    "start": "assessment.started",
    "progress": "assessment.progress",
    "complete": "assessment.completed",
    "fail": "assessment.failed",
    "cancel": "assessment.cancelled",
    "retry": "assessment.retried",
}
"""Commands, and what an accepted one is called."""

OF_AN_ATTEMPT = {"start", "progress", "complete", "fail", "retry"}
"""Commands that may say which attempt they are meant for: the number of retries before it."""

ENDED = {"completed", "failed", "cancelled"}


@dataclass(frozen=True)
class State:
    """An assessment, as far as the contract fixes it."""

    id: str
    state: str = "pending"
    version: int = 1
    progress: int = 0
    message: str | None = None
    error: str | None = None
    result: Any = None
    retry_count: int = 0
    owner: str | None = None
    started: bool = False
    ended: bool = False


@dataclass(frozen=True)
class Outcome:
    """What should become of one record."""

    record: TopicRecord
    what: str
    """accepted, rejected, duplicate or dead."""
    command_id: str = ""
    assessment_id: str = ""
    name: str = ""
    code: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    before: State | None = None
    after: State | None = None


@dataclass
class Expected:
    """What the whole topic should come to."""

    outcomes: dict[int, list[Outcome]]
    """Of each partition, in the order of its offsets."""
    states: dict[str, State]
    overruled: frozenset[str] = frozenset()
    """Assessments that were changed by plain SQL: their states are not for the model to know."""

    def of(self, what: str) -> list[Outcome]:
        """All outcomes of one sort."""
        return [outcome for outcomes in self.outcomes.values() for outcome in outcomes if outcome.what == what]


def expect(topic: Mapping[int, Iterable[TopicRecord]]) -> Expected:
    """Fold a whole commands topic, each partition in the order of its offsets.

    Command ids are looked up by partition only: the load uses no id on two partitions.
    """
    states: dict[str, State] = {}
    outcomes = {}
    for partition, records in topic.items():
        known: set[str] = set()
        outcomes[partition] = [_judge(record, states, known) for record in records]
    return Expected(outcomes, states)


def _judge(record: TopicRecord, states: dict[str, State], known: set[str]) -> Outcome:
    kind = record.header(KIND_HEADER)
    if kind == Kind.JUNK:
        return Outcome(record, "dead")
    attributes, data = _open(record)
    key, name = (record.key or b"").decode(), attributes["type"].removeprefix("assessment.")
    outcome = Outcome(record, "rejected", command_id=attributes["id"], assessment_id=key, name=name)
    if outcome.command_id in known:
        return replace(outcome, what="duplicate")
    known.add(outcome.command_id)
    if kind == Kind.INVALID:
        return replace(outcome, code="VALIDATION_ERROR")
    expected = attributes.get("expectedversion")
    outcome = _decide(outcome, states.get(key), data, None if expected is None else int(expected))
    if outcome.after is not None:
        owner = outcome.after.owner
        if name == "create":
            owner = attributes.get("userid") or data.get("userId")
        elif name == "import":
            owner = data["request"].get("userId")
        states[key] = replace(outcome.after, owner=owner)
        return replace(outcome, what="accepted", before=outcome.before, after=states[key])
    return outcome


def _decide(outcome: Outcome, now: State | None, data: Any, expected: int | None) -> Outcome:
    name = outcome.name
    if name in ("create", "import"):
        if now is not None:
            return replace(outcome, code="ASSESSMENT_ALREADY_EXISTS")
        return replace(
            outcome, after=_imported(outcome.assessment_id, data) if name == "import" else State(outcome.assessment_id)
        )
    if now is None:
        return replace(outcome, code="ASSESSMENT_NOT_FOUND")
    if expected not in (None, now.version):
        details = {"expectedVersion": expected, "actualVersion": now.version}
        return replace(outcome, code="OPTIMISTIC_LOCK_FAILED", details=details)
    attempt = data.get("attempt") if name in OF_AN_ATTEMPT else None
    if attempt not in (None, now.retry_count):
        told = {"attempt": attempt, "actualAttempt": now.retry_count}
        return replace(outcome, code="OPTIMISTIC_LOCK_FAILED", details=told)
    target = TABLE.get((now.state, name))
    if target is None:
        return replace(outcome, code="INVALID_STATE_TRANSITION", details={"from": now.state})
    after = replace(now, state=target, version=now.version + 1, ended=target in ENDED)
    return replace(outcome, before=now, after=_apply(after, name, data))


def _imported(assessment_id: str, data: Any) -> State:
    """What the old system says that it is."""
    return State(
        assessment_id,
        state=data["state"],
        progress=data.get("progress", 0),
        message=data.get("message"),
        error=data.get("error"),
        result=data.get("result"),
        retry_count=data.get("retryCount", 0),
        started="startedAt" in data,
        ended=data["state"] in ENDED,
    )


def _apply(state: State, name: str, data: Any) -> State:
    match name:
        case "start":
            return replace(state, started=True)
        case "progress":
            message = data.get("message")
            return replace(state, progress=data["progress"], message=state.message if message is None else message)
        case "complete":
            return replace(state, progress=100, result=data["result"])
        case "fail":
            return replace(state, error=data["error"])
        case "cancel":
            return replace(state, message=data.get("reason") or state.message)
        case "retry":
            count = state.retry_count + 1
            return replace(state, progress=0, error=None, result=None, started=False, retry_count=count)
        case _:
            raise ValueError(f"{name} is no command")


def _open(record: TopicRecord) -> tuple[dict[str, Any], Any]:
    """Attributes and data, in whichever mode the record came."""
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    if any(name.startswith("ce_") for name in headers):
        attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce_")}
        return attributes, json.loads(record.value or b"{}")
    event = json.loads(record.value or b"")
    return event, event.get("data") or {}
