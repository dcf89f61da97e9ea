"""The history: what every client asked, when, and what it was told; one line of JSON for each call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import orjson


class Kind(StrEnum):
    """What is asked."""

    COMMAND = "command"
    READ = "read"
    LIST = "list"
    WAIT = "wait"
    STREAM = "stream"
    """Events that a stream has shown, one call for each."""


class Told(StrEnum):
    """What a call was told."""

    OK = "ok"
    """The command is applied, or here is what was asked for."""
    TAKEN = "taken"
    """Kafka has the command: it will have an outcome."""
    REFUSED = "refused"
    """A definite no: nothing was changed."""
    LATE = "late"
    """The wait has come to its end, the assessment has not."""
    UNKNOWN = "unknown"
    """Neither yes nor no: an error of the network or of a server, or no answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of one client; times are seconds since the load began, all by one clock."""

    client: str
    kind: Kind
    assessment: str
    invoked: float
    completed: float
    told: Told
    door: str = ""
    """How: the web that was asked, or kafka."""
    command: str = ""
    """The command id."""
    name: str = ""
    """Of the command, or what was read."""
    expected: int | None = None
    """The version that the command insisted on."""
    borrowed: bool = False
    """Whether the command id was used for another content before."""
    status: int = 0
    """Of the HTTP answer."""
    code: str = ""
    """Of the refusal."""
    version: int | None = None
    """That was told."""
    body: Any = None
    """The state that was told."""
    place: tuple[int, int] | None = None
    """Partition and offset of the command on its topic, where that was told."""
    floor: Mapping[int, int] | None = None
    """What a read was promised to reflect: of each partition, everything below an offset."""
    min_version: int = 0
    """The version that a read insisted on."""
    patience: float = 0.0
    """Seconds that a wait was to last."""
    why: str = ""
    """The error, where nothing definite was told."""

    def to_json(self) -> bytes:
        """The call as one line, without what says nothing."""
        told = {name: value for name, value in asdict(self).items() if value not in (None, "", 0, False)}
        return orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS)

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Read what `to_json` wrote."""
        values = {"invoked": 0.0, "completed": 0.0} | orjson.loads(line)
        if values.get("floor") is not None:
            values["floor"] = {int(partition): offset for partition, offset in values["floor"].items()}
        if values.get("place") is not None:
            values["place"] = tuple(values["place"])
        return cls(**values | {"kind": Kind(values["kind"]), "told": Told(values["told"])})


class History:
    """All calls of a run, in the order of their completion; each is written down as soon as it is complete."""

    def __init__(self, file: Path) -> None:
        self.calls: list[Call] = []
        self._out = file.open("wb")
        self._begin = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds since the load began; less than nothing before."""
        return time.monotonic() - self._begin

    def begin(self) -> None:
        """Let the load begin now."""
        self._begin = time.monotonic()

    def add(self, call: Call) -> None:
        """Keep a call."""
        self.calls.append(call)
        self._out.write(call.to_json() + b"\n")

    def close(self) -> None:
        """Let go of the file."""
        self._out.close()


def read_history(file: Path) -> list[Call]:
    """The calls of a run that is over."""
    return [Call.from_json(line) for line in file.read_bytes().splitlines()]
