"""Two copies of one assessment, told apart by what they mean and not by how they are written; no I/O.

Numbers count by their values. A sealed payload counts by its digest: the same payload has another cipher text in every
copy that was encrypted anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from .assessment import AssessmentRecord
from .base import JsonObject
from .canonical import canonical
from .diff import changes
from .sealed import DIGEST, MEMBER, sealed_part

_PAYLOADS = ("requestData", "resultData")

_DIGEST_BITS = 256


class Store(StrEnum):
    """Who has a copy."""

    POSTGRES = "postgres"
    REDIS = "redis"
    ROCKSDB = "rocksdb"


class Field(NamedTuple):
    """A member that is not what it should be."""

    pointer: str
    """A JSON Pointer into what the API answers; empty where it is about the whole."""
    expected: Any
    """None where there should be nothing, or null."""
    found: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that a store does not have as it should."""

    store: Store
    partition: int
    assessment_id: str | None
    """None where it is about the partition, or the store."""
    field: Field

    def to_wire(self) -> JsonObject:
        """As JSON."""
        pointer, expected, found = self.field
        where = {"store": self.store, "partition": self.partition, "assessmentId": self.assessment_id}
        return where | {"field": pointer, "expected": expected, "found": found}


class Digest:
    """Of many things, whatever their order: the sum of their hashes (AdHash, Bellare and Micciancio 1997)."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, text: bytes) -> None:
        """Take one more."""
        self.count += 1
        self._sum = (self._sum + int.from_bytes(sha256(text).digest())) % (1 << _DIGEST_BITS)

    def hex(self) -> str:
        """The digest so far."""
        return self._sum.to_bytes(_DIGEST_BITS // 8).hex()


def compared(record: AssessmentRecord) -> JsonObject:
    """What of a state counts: no cipher texts, and nothing that follows from the rest."""
    form: JsonObject = orjson.loads(record.to_json())
    del form["duration"]
    for name in _PAYLOADS:
        if (part := sealed_part(form[name])) is not None:
            form[name] = form[name] | {MEMBER: {DIGEST: part[DIGEST]}}
    return form


def differing(expected: JsonObject, found: JsonObject) -> list[Field]:
    """The members in which two forms differ; what should be sealed and is not is told without its content."""
    fields = []
    left, right = (orjson.loads(canonical(form)) for form in (expected, found))
    for name in left.keys() & right.keys():
        sealed = [isinstance(form[name], dict) and MEMBER in form[name] for form in (left, right)]
        if sealed[0] != sealed[1]:
            fields.append(Field(f"/{name}", *("sealed" if is_sealed else "not sealed" for is_sealed in sealed)))
            left[name] = right[name] = None
    return [*fields, *(Field(each["field"], each.get("from"), each.get("to")) for each in changes(left, right))]


def ids_of(differences: Iterable[Difference]) -> list[str]:
    """The assessments that differences are about, each once."""
    return list(dict.fromkeys(each.assessment_id for each in differences if each.assessment_id is not None))
