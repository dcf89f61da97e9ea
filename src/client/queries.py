"""What lists, search and statistics can be asked, in Python's words, and as query parameters.

The ranges and meanings stand in `models/filters.py`; the server checks them, so that an older client need not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypedDict

from pydantic.alias_generators import to_camel

Values = str | Iterable[str]
"""One value, or several of which one has to be true."""

QueryItems = tuple[tuple[str, str], ...]


class Filters(TypedDict, total=False):
    """Which assessments."""

    state: Values
    type: Values
    source: str
    server_name: str
    """A name, or a pattern with `*` and `?`."""
    created_after: datetime | str
    created_before: datetime | str
    completed_after: datetime | str
    completed_before: datetime | str
    min_priority: int
    max_priority: int
    min_progress: int
    max_progress: int


class ListOptions(Filters, total=False):
    """Which assessments, and in which order."""

    sort_by: str
    """`createdAt`, `updatedAt`, `priority` or `progress`."""
    sort_order: str
    """`asc` or `desc`."""


def query_items(parameters: Mapping[str, object]) -> QueryItems:
    """The query parameters of Python names and values; what is None is left out, and a list repeats its name."""
    return tuple(
        (to_camel(name), _text(value))
        for name, values in parameters.items()
        for value in _each(values)
        if value is not None
    )


def _each(values: object) -> Iterable[object]:
    return values if isinstance(values, Iterable) and not isinstance(values, str) else (values,)


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
