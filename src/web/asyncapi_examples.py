"""The examples in the AsyncAPI document: a few short lives, told by the state machine itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import orjson

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.commands import Command, CommandType
from ..models.emitted import event_headers, rejection_headers
from ..models.envelope import JSON, STRUCTURED, decode_command, encode_command
from ..models.errors import RejectedCommand, Rejection
from ..models.events import AssessmentEvent
from ..models.machine import decide, evolve
from .examples import REQUEST, RESULT

_START = datetime(2026, 1, 31, 12, tzinfo=UTC)
_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_USER = "ann"
_REFUSED_OFFSET = 12

_Said = tuple[CommandType, JsonObject]

_CREATE: _Said = (CommandType.CREATE, REQUEST)
_IMPORT: _Said = (
    CommandType.IMPORT,
    {
        "request": REQUEST,
        "state": "completed",
        "progress": 100,
        "result": RESULT,
        "createdAt": "2025-03-01T08:00:00Z",
        "updatedAt": "2025-03-01T08:05:00Z",
        "startedAt": "2025-03-01T08:01:00Z",
        "completedAt": "2025-03-01T08:05:00Z",
    },
)
_BEGIN: _Said = (CommandType.START, {})
_LIVES: tuple[tuple[_Said, ...], ...] = (
    (
        _CREATE,
        _BEGIN,
        (CommandType.PROGRESS, {"progress": 40, "message": "two of five servers"}),
        (CommandType.COMPLETE, {"result": RESULT}),
    ),
    (_CREATE, _BEGIN, (CommandType.FAIL, {"error": "no route to host"}), (CommandType.RETRY, {})),
    (_CREATE, (CommandType.CANCEL, {"reason": "not needed any more"})),
    (_IMPORT,),
)


class Sample(NamedTuple):
    """One record."""

    headers: dict[str, str]
    payload: Any
    required: tuple[str, ...] = ()
    """The headers that such a record always has."""


class _Step(NamedTuple):
    """A command, and what came of it."""

    kind: CommandType
    value: bytes
    event: AssessmentEvent
    record: AssessmentRecord
    fingerprint: bytes


def samples() -> dict[str, Sample]:
    """A record for each kind of command and event, by the name of its message."""
    found: dict[str, Sample] = {}
    for number, life in enumerate(_LIVES):
        for step in _lived(f"a-{number + 1}", life):
            structured = orjson.loads(step.value)
            data = structured.get("data")
            attributes = {name: text for name, text in structured.items() if name not in ("data", "datacontenttype")}
            found[f"{step.kind}.structured"] = Sample({"content-type": STRUCTURED}, structured)
            found[f"{step.kind}.binary"] = Sample({"content-type": JSON} | _prefixed(attributes), data)
            headers = event_headers(step.event, _TRACE, step.event.version, step.fingerprint)
            found[step.event.type] = _sent(headers, step.event.to_json())
    return found


def rejected_sample() -> Sample:
    """A start of what is completed already."""
    *_, last = _lived("a-1", _LIVES[0])
    command, at = _command(_value("a-1", 9, *_BEGIN), "a-1"), _START + timedelta(minutes=1)
    rejection = cast(Rejection, decide(last.record, command, at))
    told = RejectedCommand.of(command.header, rejection, at=at)
    return _sent(rejection_headers(command.header, at, _REFUSED_OFFSET), told.to_json())


def _lived(assessment_id: str, life: Iterable[_Said]) -> Iterator[_Step]:
    record: AssessmentRecord | None = None
    for number, (kind, data) in enumerate(life):
        value = _value(assessment_id, number, kind, data)
        command = _command(value, assessment_id)
        decided = decide(record, command, _START + timedelta(seconds=number))
        event = cast(AssessmentEvent, decided)
        record = evolve(record, event)
        yield _Step(kind, value, event, record, command.header.fingerprint)


def _value(assessment_id: str, number: int, kind: CommandType, data: JsonObject) -> bytes:
    return encode_command(
        command_id=f"c-{number + 1}",
        command_type=kind,
        assessment_id=assessment_id,
        source="/examples",
        time=_START + timedelta(seconds=number),
        data=data,
        userid=_USER,
        traceparent=_TRACE,
    )


def _command(value: bytes, assessment_id: str) -> Command:
    return cast(Command, decode_command(assessment_id.encode(), value, []))


def _prefixed(attributes: dict[str, str]) -> dict[str, str]:
    return {name if name == "traceparent" else f"ce_{name}": text for name, text in attributes.items()}


def _sent(headers: Iterable[tuple[str, bytes]], value: bytes) -> Sample:
    """A record of the store's own; of its headers only the trace may be missing."""
    texts = {name: content.decode() for name, content in headers}
    return Sample(texts, orjson.loads(value), tuple(name for name in texts if name != "traceparent"))
