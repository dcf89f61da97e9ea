"""What differs between two states, told member by member."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from .assessment import AssessmentRecord
from .base import JsonObject

_MISSING: Final = object()


def state_changes(before: AssessmentRecord, after: AssessmentRecord) -> list[JsonObject]:
    """The members in which two states of an assessment differ, by JSON Pointers into what the API answers.

    A side that has no such member is left out. A list is one value: what has moved in it is not told.
    """
    return list(changes(_json(before), _json(after)))


def changes(before: JsonObject, after: JsonObject) -> Iterator[JsonObject]:
    """The same of any two objects."""
    return _changes("", before, after)


def _changes(pointer: str, before: Any, after: Any) -> Iterator[JsonObject]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            inner = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            yield from _changes(inner, before.get(name, _MISSING), after.get(name, _MISSING))
    elif before is _MISSING or after is _MISSING or _bytes(before) != _bytes(after):
        sides = {"from": before, "to": after}
        yield {"field": pointer} | {side: value for side, value in sides.items() if value is not _MISSING}


def _bytes(value: Any) -> bytes:
    # To Python, 1, 1.0 and true are equal.
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _json(record: AssessmentRecord) -> JsonObject:
    found: JsonObject = orjson.loads(record.to_json())
    return found
