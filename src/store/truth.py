"""What Postgres says of some assessments at one moment, and whether a copy of one, in a cache, agrees with that.

A copy is read before Postgres, and the position of its cache before the copy. So whoever finds a copy that is older
than its cache's position allows, or newer than Postgres, or that says something else of the same version, has found
more than a cache that is behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

import asyncpg
from pydantic import ValidationError

from ..models.assessment import AssessmentRecord
from ..models.canonical import canonical
from ..models.comparison import Field, compared, differing
from ..models.events import event_from_json
from ..models.sealed import UnreadableError, sealed_part
from .encryption import KeyRing
from .past import fold
from .table import head_of

_PAYLOADS = ("requestData", "resultData")


class Copy(NamedTuple):
    """What a cache has of one assessment."""

    assessment_id: str
    value: bytes
    """The state as JSON."""
    positions: Mapping[int, int]
    """How far its cache reflected each partition before it was read."""
    version: bytes | None = None
    """What stands beside the state, in Redis."""


class Verdict(Enum):
    """How a copy stands to Postgres."""

    EQUAL = auto()
    BEHIND = auto()
    """It is what the assessment was, and its cache has not got further."""
    LEFT_OVER = auto()
    """The assessment was deleted, and its cache did not hear of it, or has not got so far."""
    DIFFERENT = auto()


class Judgement(NamedTuple):
    """A verdict, and what it is based on."""

    verdict: Verdict
    expected: bytes = b""
    """What the copy should mean, in one text."""
    found: bytes = b""
    fields: Sequence[Field] = ()
    """Where it is different."""


@dataclass(slots=True)
class Truth:
    """One assessment in Postgres."""

    state: AssessmentRecord | None = None
    error: str = ""
    """Why the state cannot be read, where it cannot."""
    head: bytes | None = None
    """The hash of the last audit row, as the state has it."""
    rows: Sequence[asyncpg.Record] = ()
    """Its trail, where that was read."""
    deleted: bool = False
    """Whether an assessment with this id was deleted, be it this one or another before."""
    _states: list[AssessmentRecord] | None = field(default=None, repr=False)

    def at(self, version: int) -> AssessmentRecord | None:
        """What it was at a version, by its trail; nothing where the trail does not tell."""
        if self._states is None:
            try:
                self._states = fold(event_from_json(row["value"]) for row in self.rows)
            except ValueError:
                self._states = []
        return self._states[version - 1] if 0 < version <= len(self._states) else None

    def is_in(self, version: int, positions: Mapping[int, int]) -> bool:
        """Whether a cache that got so far has seen this version; of one that is not in the trail, it has."""
        for row in self.rows:
            if row["new_version"] == version and row["command_partition"] is not None:
                return bool(row["command_offset"] < positions.get(row["command_partition"], 0))
        return True


def judge(copy: Copy, truth: Truth, keys: KeyRing) -> Judgement:
    """Judge one copy."""
    try:
        record, head = AssessmentRecord.from_json(copy.value), head_of(copy.value)
    except (ValidationError, ValueError):
        return Judgement(Verdict.DIFFERENT, found=copy.value, fields=[Field("", "a state", "no state in JSON")])
    if copy.version is not None and copy.version != str(record.version).encode():
        stands = copy.version.decode(errors="replace")
        return Judgement(Verdict.DIFFERENT, found=copy.value, fields=[Field("/v", record.version, stands)])
    state = truth.state
    if truth.deleted and (state is None or not truth.is_in(state.version, copy.positions)):
        return Judgement(Verdict.LEFT_OVER)
    if state is None:
        return Judgement(Verdict.DIFFERENT, found=copy.value, fields=[Field("", None, f"version {record.version}")])
    was = None
    if record.version < state.version and not truth.is_in(record.version + 1, copy.positions):
        was = truth.at(record.version)
        if was is None:
            return Judgement(Verdict.BEHIND)  # of a trail that has not all rows nobody can tell what was
    judged = compare(was or state, record)
    if judged.verdict is Verdict.EQUAL:
        fields = unreadable(record, keys)
        if head is not None and head != truth.head and was is None:
            fields.append(Field("/auditHash", None if truth.head is None else truth.head.hex(), head.hex()))
        verdict = Verdict.DIFFERENT if fields else Verdict.EQUAL if was is None else Verdict.BEHIND
        return judged._replace(verdict=verdict, fields=fields)
    return judged


def compare(expected: AssessmentRecord, found: AssessmentRecord) -> Judgement:
    """Whether two states mean the same."""
    forms = compared(expected), compared(found)
    texts = canonical(forms[0]), canonical(forms[1])
    if texts[0] == texts[1]:
        return Judgement(Verdict.EQUAL, *texts)
    return Judgement(Verdict.DIFFERENT, *texts, differing(*forms))


def unreadable(record: AssessmentRecord, keys: KeyRing) -> list[Field]:
    """The payloads that do not open though their key is there: their digests may fit all the same."""
    fields = []
    for name, value in zip(_PAYLOADS, (record.request_data, record.result_data), strict=True):
        part = sealed_part(value)
        if part is not None and keys.standing(part["keyId"]) != "missing":
            try:
                keys.open(record.assessment_id, value or {})
            except UnreadableError as error:
                fields.append(Field(f"/{name}", "a payload that opens", str(error)))
    return fields
