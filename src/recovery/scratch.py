"""The fold of a whole log on disk, so that its size is not that of memory."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from rocksdict import Rdict

from ..models.assessment import AssessmentRecord
from ..models.events import AssessmentEvent
from ..models.machine import evolve
from ..store.table import bounded_options
from .records import LoggedEvent

_STATE, _DELETION, _BEYOND_STATES = b"s", b"d", b"t"
_NUMBER_BYTES = 8

# What stands in the place of a state that cannot be told; JSON does not begin so.
_UNKNOWN = b"!"


class Folded(NamedTuple):
    """What the log says of one assessment."""

    partition: int
    state: AssessmentRecord | None
    unknown: str = ""
    """Why it cannot be told what it should be."""

    def then(self, event: AssessmentEvent) -> Folded:
        """After one event more; the first version, be it created or imported, begins anew."""
        begins = event.version == 1
        if self.unknown and not begins:
            return self
        if self.state is None and not begins:
            return Folded(self.partition, None, "the log does not have its beginning")
        try:
            return Folded(self.partition, evolve(None if begins else self.state, event))
        except ValueError as error:
            return Folded(self.partition, None, f"{error}: something that is not on the log changed it before")

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads."""
        content = self.state.to_json() if self.state is not None else _UNKNOWN + self.unknown.encode()
        return self.partition.to_bytes(_NUMBER_BYTES) + content

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote."""
        partition, content = int.from_bytes(data[:_NUMBER_BYTES]), data[_NUMBER_BYTES:]
        if content.startswith(_UNKNOWN):
            return cls(partition, None, content.removeprefix(_UNKNOWN).decode())
        return cls(partition, AssessmentRecord.from_json(content))


class Scratch:
    """What a log comes to, by assessment."""

    def __init__(self, path: Path) -> None:
        self._db = Rdict(str(path), bounded_options())

    def delete(self, assessment_id: str, last_offset: int) -> None:
        """What an assessment had at this offset and below is deleted."""
        key = _DELETION + assessment_id.encode()
        before = self._db.get(key)
        if before is None or int.from_bytes(before) < last_offset:
            self._db[key] = last_offset.to_bytes(_NUMBER_BYTES)

    def deletions(self, assessment_ids: Collection[str]) -> dict[str, int]:
        """The last deleted offset of those that were deleted."""
        return {key: int.from_bytes(value) for key, value in self._values(_DELETION, assessment_ids).items()}

    def fold(self, partition: int, events: Sequence[LoggedEvent]) -> None:
        """Take events that follow on those before, but for those that were deleted."""
        now = dict(self.get({event.event.assessment_id for event in events}))
        for event in events:
            key = event.event.assessment_id
            now[key] = now.get(key, Folded(partition, None)).then(event.event)
        for key, folded in now.items():
            self._db[_STATE + key.encode()] = folded.to_bytes()

    def get(self, assessment_ids: Collection[str]) -> Mapping[str, Folded]:
        """What the log says of several assessments; of those that it does not know nothing."""
        return {key: Folded.from_bytes(value) for key, value in self._values(_STATE, assessment_ids).items()}

    def ids(self, size: int) -> Iterator[list[str]]:
        """All assessments that the log knows, so many at a time."""
        found: Iterator[Any] = self._db.keys(from_key=_STATE)
        keys = itertools.takewhile(lambda key: key < _BEYOND_STATES, found)
        while piece := list(itertools.islice(keys, size)):
            yield [key[len(_STATE) :].decode() for key in piece]

    def close(self) -> None:
        """Let go of the files."""
        self._db.close()

    def _values(self, kind: bytes, assessment_ids: Collection[str]) -> dict[str, bytes]:
        ids = list(assessment_ids)
        values: list[Any] = (self._db.get([kind + key.encode() for key in ids]) or []) if ids else []
        return {key: value for key, value in zip(ids, values, strict=True) if value is not None}


@contextmanager
def open_scratch(folder: Path) -> Iterator[Scratch]:
    """One below a data directory, whose disk is meant for tables; it is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="verify-", dir=folder))
    scratch = Scratch(path / "log")
    try:
        yield scratch
    finally:
        scratch.close()
        shutil.rmtree(path)
