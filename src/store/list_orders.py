"""The orders that lists have, and their queries: what stands in braces there is filled in from these tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..models.filters import SortBy, SortOrder


class Order(NamedTuple):
    """One of the orders, and what is known of filters in it."""

    column: str
    type: str
    filters: frozenset[str]
    """Those that are ranges of it."""
    covered: frozenset[str]
    """Those that facets' lists in this order can be bounded by."""
    bounds: str = "true"
    """What the times in filters make of the brief ones' order (`is_brief`)."""


_CREATED = frozenset({"created_after", "created_before"})
_TIMES = _CREATED | {"completed_after", "completed_before"}
_PRIORITY, _PROGRESS = frozenset({"min_priority", "max_priority"}), frozenset({"min_progress", "max_progress"})

COUNTED = frozenset({"state", "type", "source"}) | _PRIORITY
"""The filters that facets stand for."""

ORDERS: Mapping[SortBy, Order] = {
    SortBy.CREATED_AT: Order(
        "created_at",
        "timestamptz",
        _CREATED,
        _TIMES,
        "created_at >= since - interval '1 hour' AND created_at < until",
    ),
    SortBy.UPDATED_AT: Order(
        "updated_at",
        "timestamptz",
        frozenset(),
        _TIMES,
        "updated_at >= since AND updated_at < until + interval '1 hour'",
    ),
    SortBy.PRIORITY: Order("priority", "int", _PRIORITY, frozenset()),
    SortBy.PROGRESS: Order("progress", "int", _PROGRESS, _PROGRESS),
}

_DIRECTIONS: Mapping[SortOrder, Mapping[str, str]] = {
    SortOrder.ASC: {"direction": "ASC", "beyond": ">", "within": "<="},
    SortOrder.DESC: {"direction": "DESC", "beyond": "<", "within": ">="},
}

_FARTHEST: Mapping[tuple[str, SortOrder], str] = {
    ("timestamptz", SortOrder.ASC): "'infinity'::timestamptz",
    ("timestamptz", SortOrder.DESC): "'-infinity'::timestamptz",
    ("int", SortOrder.ASC): "2147483647",
    ("int", SortOrder.DESC): "-2147483648",
}

BY_FACET: Mapping[str, str] = {
    "key": "facet_of(state, assessment_type, source, priority, is_brief(created_at, updated_at, completed_at))",
    "key_type": "int",
    "is_brief": "key % 2 = 1",
}
BY_SERVER: Mapping[str, str] = {"key": "server_name", "key_type": "text", "is_brief": "false"}
"""What lists can be merged by."""


def fill_in(query: str, sort_by: SortBy, sort_order: SortOrder, **texts: str) -> str:
    """The query in one of the orders."""
    order = ORDERS[sort_by]
    farthest = _FARTHEST[order.type, sort_order]
    return query.format(
        column=order.column, type=order.type, bounds=order.bounds, farthest=farthest, **_DIRECTIONS[sort_order], **texts
    )
