"""Records for the commands topic: the seven commands in both modes, and everything that is none.

Each record says in a header what it is meant to be, so that a judge who reads the topic need not remember it. The store
knows nothing of that header.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

KIND_HEADER = "x-kind"

_SOURCE = "/chaos"


class Kind(StrEnum):
    """What a record is meant to be."""

    COMMAND = "command"
    """Well-formed, with valid data; whether it is accepted depends on the state."""
    INVALID = "invalid"
    """A command that is refused with VALIDATION_ERROR whatever the state is."""
    JUNK = "junk"
    """No command: it belongs in the dead letters."""


@dataclass(frozen=True)
class Message:
    """A record to send."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    kind: Kind
    what: str = ""

    def all_headers(self) -> list[tuple[str, bytes]]:
        """The headers, with the one that tells the kind."""
        return [*self.headers, (KIND_HEADER, self.kind.encode())]


def command(
    command_id: str,
    name: str,
    assessment_id: str,
    data: Any = None,
    *,
    binary: bool = False,
    kind: Kind = Kind.COMMAND,
    what: str = "",
    key: bytes | None = None,
    **extensions: Any,
) -> Message:
    """One command as a record; `name` without the `assessment.` in front."""
    data = {} if data is None else data
    attributes = {
        "specversion": "1.0",
        "id": command_id,
        "type": f"assessment.{name}",
        "source": _SOURCE,
        "subject": assessment_id,
        **extensions,
    }
    record_key = assessment_id.encode() if key is None else key
    if binary:
        headers = tuple((f"ce_{attribute}", str(value).encode()) for attribute, value in attributes.items())
        return Message(record_key, json.dumps(data).encode(), headers, kind, what)
    value = json.dumps(attributes | {"data": data}).encode()
    return Message(record_key, value, (("content-type", b"application/cloudevents+json"),), kind, what)


def create(command_id: str, assessment_id: str, **options: Any) -> Message:
    """A create command with the least that it needs."""
    return command(command_id, "create", assessment_id, request(), **options)


def request(**members: Any) -> dict[str, Any]:
    """The data of a create command; its lease outlives every test and run that names no other."""
    return {"assessmentType": "compliance", "options": {"deepScan": True}, "timeout": 86_400, **members}


def nested(depth: int) -> Any:
    """Lists within lists."""
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def junk(label: str, assessment_id: str, *, large: bool = True) -> list[Message]:
    """Records that are no commands, one of each sort; the last one is large."""
    key = assessment_id.encode()

    def raw(what: str, value: bytes | None, *, key: bytes | None = key, headers: Any = ()) -> Message:
        return Message(key, value, tuple(headers), Kind.JUNK, what)

    def envelope(what: str, **attributes: Any) -> Message:
        event = {"specversion": "1.0", "id": f"{label}-{what}", "type": "assessment.start", "source": _SOURCE}
        return raw(what, json.dumps({k: v for k, v in (event | attributes).items() if v is not ...}).encode())

    last = [raw("5 MB that are no JSON", b"\x01" * 5_000_000)] if large else []
    start = {"specversion": "1.0", "id": f"{label}-start", "type": "assessment.start", "source": _SOURCE, "data": {}}
    return [
        raw("bad JSON", b'{"specversion": "1.0", "id": '),
        raw("no JSON at all", b"\x00\xff\xfe\x80 not a text"),
        raw("empty value", b""),
        raw("tombstone", None),
        raw("JSON list", b"[1, 2, 3]"),
        raw("JSON number", b"12"),
        raw("JSON null", b"null"),
        raw("NaN", b'{"specversion": "1.0", "data": NaN}'),
        raw("lone surrogate", b'{"specversion":"1.0","id":"\\ud800","type":"assessment.start","data":{}}'),
        raw("missing key", json.dumps(start | {"subject": assessment_id}).encode(), key=None),
        raw("empty key", json.dumps(start).encode(), key=b""),
        raw("key not UTF-8", json.dumps(start).encode(), key=b"\xff\xfe"),
        raw("null byte in the key", json.dumps(start).encode(), key=b"a\x00b"),
        raw("far too deep", b'{"specversion":"1.0","data":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        raw("header not UTF-8", b"{}", headers=[("ce_specversion", b"1.0"), ("ce_id", b"\xff")]),
        raw("binary without a type", b"{}", headers=[("ce_specversion", b"1.0"), ("ce_id", b"x")]),
        envelope("unknown command", type="assessment.destroy"),
        envelope("type in upper case", type="ASSESSMENT.START"),
        envelope("no type", type=...),
        envelope("type is a number", type=7),
        envelope("no id", id=...),
        envelope("id is a number", id=7),
        envelope("id is a list", id=["x"]),
        envelope("id of 300 characters", id="i" * 300),
        envelope("null byte in the id", id="a\x00b"),
        envelope("no specversion", specversion=...),
        envelope("another specversion", specversion="0.3"),
        envelope("subject of another", subject=f"{assessment_id}-other"),
        envelope("subject is a number", subject=7),
        envelope("userid is a number", userid=7),
        envelope("null byte in the userid", userid="a\x00b"),
        envelope("data_base64", data_base64="e30="),
        envelope("number beyond a double", type="assessment.progress", data={"progress": 10**400}),
        *last,
    ]


def invalid(label: str, assessment_id: str, *, large: bool = True) -> list[Message]:
    """Commands that are refused whatever the state is, one of each sort; the last two are large."""
    numbers = iter(range(1000))

    def one(what: str, name: str, data: Any, *, key_id: str = assessment_id, **extensions: Any) -> Message:
        unique = f"{label}-invalid-{next(numbers)}"
        return command(unique, name, key_id, data, kind=Kind.INVALID, what=what, **extensions)

    return [
        one("progress of 101", "progress", {"progress": 101}),
        one("progress below 0", "progress", {"progress": -1}),
        one("progress as a text", "progress", {"progress": "50"}),
        one("progress as a fraction", "progress", {"progress": 1.5}),
        one("progress as a truth", "progress", {"progress": True}),
        one("progress missing", "progress", {"message": "so far"}),
        one("message is a number", "progress", {"progress": 1, "message": 7}),
        one("null byte in the message", "progress", {"progress": 1, "message": "a\x00b"}),
        one("null byte in a name", "create", request(metadata={"a\x00b": 1})),
        one("data is a list", "start", [1]),
        one("data is a text", "start", "go"),
        one("type missing", "create", {"options": {}}),
        one("options missing", "create", {"assessmentType": "health"}),
        one("unknown type", "create", request(assessmentType="astrology")),
        one("options of a wrong type", "create", request(options=[])),
        one("priority out of range", "create", request(priority=11)),
        one("number beyond 64 bits", "create", request(metadata={"n": 2**64})),
        one("nested 70 levels deep", "create", request(metadata={"n": nested(70)})),
        one("another id in the data", "create", request(assessmentId=f"{assessment_id}-other")),
        one("result missing", "complete", {}),
        one("result is a list", "complete", {"result": []}),
        one("error empty", "fail", {"error": ""}),
        one("reason is a list", "cancel", {"reason": []}),
        one("expectedversion of 0", "start", {}, expectedversion=0),
        one("expectedversion is a text", "start", {}, expectedversion="one"),
        one("expectedversion too large", "start", {}, expectedversion=2**31),
        one("assessment id of 300 characters", "create", request(), key_id="k" * 300),
        one("null byte in binary data", "fail", {"error": "a\x00b"}, binary=True),
        one("userid of 300 characters", "start", {}, userid="u" * 300),
        *(
            one(f"{size} bytes of message", "progress", {"progress": 1, "message": "m" * size})
            for size in ((1_100_000, 5_000_000) if large else ())
        ),
    ]


DATA: dict[str, Callable[[random.Random], Any]] = {
    "create": lambda chance: request(
        priority=chance.randint(1, 10),
        serverName=f"server-{chance.randint(1, 9)}",
        metadata={"n": chance.random(), "text": "ü→" * chance.randint(0, 200)},
    ),
    "start": lambda _: {},
    "progress": lambda chance: (
        {"progress": chance.randint(0, 100)}
        | ({"message": f"step {chance.randint(1, 99)}"} if chance.random() < 0.5 else {})
    ),
    "complete": lambda chance: {"result": {"overallScore": chance.randint(0, 100), "totalServers": 3}},
    "fail": lambda chance: {"error": f"error {chance.randint(1, 99)}"},
    "cancel": lambda chance: {"reason": "enough"} if chance.random() < 0.5 else {},
    "retry": lambda _: {},
}
"""Data of each command that is always valid."""

LEGAL = {
    "": ("create",),
    "pending": ("start",) * 6 + ("cancel",),
    "processing": ("progress",) * 8 + ("complete", "complete", "fail", "fail", "cancel"),
    "failed": ("retry",),
    "completed": (),
    "cancelled": (),
}
"""What may come in each state, as often as it should."""

TARGETS = {
    "create": "pending",
    "start": "processing",
    "progress": "processing",
    "complete": "completed",
    "fail": "failed",
    "cancel": "cancelled",
    "retry": "pending",
}
"""Where each command leads."""


class Traffic:
    """An endless random walk over the commands, the same for the same seed."""

    def __init__(self, seed: int, *, duplicates: float = 0.12, mismatches: float = 0.02, rubbish: float = 0.06) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - the same for the same seed
        self._label = f"s{seed}"
        self._duplicates, self._mismatches, self._rubbish = duplicates, mismatches, rubbish
        self._states: dict[str, list[Any]] = {}
        """What each assessment is at, as far as the walk itself knows: state and version."""
        self._recent: list[Message] = []
        self._count = 0

    def take(self, count: int) -> list[Message]:
        """The next records."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Message:
        chance = self._chance
        self._count += 1
        draw = chance.random()
        if self._recent and draw < self._duplicates:
            return chance.choice(self._recent[-chance.choice((1, 5, 300)) :])
        draw -= self._duplicates
        if self._recent and draw < self._mismatches:
            return self._mismatch(chance.choice(self._recent))
        draw -= self._mismatches
        if draw < self._rubbish:
            return self._remember(self._rubbish_message())
        return self._remember(self._command())

    def _remember(self, message: Message) -> Message:
        if len(message.value or b"") < 100_000:
            self._recent = [*self._recent[-300:], message]
        return message

    def _rubbish_message(self) -> Message:
        build = self._chance.choice((junk, junk, invalid))
        assessment_id = self._chance.choice([*self._states, "nobody"]) if self._states else "nobody"
        if self._chance.random() < 0.01:
            return build(f"{self._label}-{self._count}", assessment_id)[-1]
        return self._chance.choice(build(f"{self._label}-{self._count}", assessment_id, large=False))

    def _mismatch(self, first: Message) -> Message:
        """Another content under a command id that was used before, for the same assessment."""
        if first.kind is Kind.JUNK or first.key is None or len(first.key) > 255:
            return self._remember(self._command())
        return command(_command_id(first), "cancel", first.key.decode(), {"reason": f"another {self._count}"})

    def _command(self) -> Message:
        chance = self._chance
        live = [key for key, (state, _) in self._states.items() if state not in ("completed", "cancelled")]
        if not self._states or chance.random() < 0.12 or len(live) < 20:
            assessment_id, name = f"{self._label}-a{self._count}", "create"
        elif chance.random() < 0.01:
            assessment_id, name = f"unknown-{self._count}", chance.choice(list(TARGETS)[1:])
        else:
            assessment_id = chance.choice(live[-60:] if chance.random() < 0.9 else list(self._states))
            legal = LEGAL[self._states[assessment_id][0]]
            name = chance.choice(legal) if legal and chance.random() < 0.85 else chance.choice(list(TARGETS))
        return self._built(assessment_id, name)

    def _built(self, assessment_id: str, name: str) -> Message:
        chance = self._chance
        state, version = self._states.get(assessment_id, ("", 0))
        extensions: dict[str, Any] = {"userid": f"user-{chance.randint(1, 5)}"} if chance.random() < 0.7 else {}
        expected = chance.random()
        if name != "create" and expected < 0.15:
            extensions["expectedversion"] = version if expected < 0.1 and version else version + 7
        elif name in LEGAL[state]:
            self._states[assessment_id] = [TARGETS[name], version + 1]
        data = DATA[name](chance)
        unique = f"{self._label}-c{self._count}"
        return command(unique, name, assessment_id, data, binary=chance.random() < 0.4, **extensions)


def _command_id(message: Message) -> str:
    for name, value in message.headers:
        if name == "ce_id":
            return value.decode()
    return str(json.loads(message.value or b"{}")["id"])
