"""The orders that lists have, and their queries: what stands in braces there is filled in from these tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..models.filters import SortBy, SortOrder


class Order(NamedTuple):
    """One of the orders."""

    column: str
    type: str
    filters: frozenset[str]
    """Those that are ranges of it."""


COUNTED = frozenset({"state", "type", "source", "min_priority", "max_priority"})
"""The filters that facets stand for."""

ORDERS: Mapping[SortBy, Order] = {
    SortBy.CREATED_AT: Order("created_at", "timestamptz", frozenset({"created_after", "created_before"})),
    SortBy.UPDATED_AT: Order("updated_at", "timestamptz", frozenset()),
    SortBy.PRIORITY: Order("priority", "int", frozenset({"min_priority", "max_priority"})),
    SortBy.PROGRESS: Order("progress", "int", frozenset({"min_progress", "max_progress"})),
}

_DIRECTIONS: Mapping[SortOrder, Mapping[str, str]] = {
    SortOrder.ASC: {"direction": "ASC", "beyond": ">", "within": "<="},
    SortOrder.DESC: {"direction": "DESC", "beyond": "<", "within": ">="},
}

BY_FACET: Mapping[str, str] = {"key": "facet_of(state, assessment_type, source, priority)", "key_type": "int"}
BY_SERVER: Mapping[str, str] = {"key": "server_name", "key_type": "text"}
"""What lists can be merged by."""

MERGED = frozenset({SortBy.CREATED_AT, SortBy.UPDATED_AT})
"""The orders in which each facet's assessments have an index; each server's have one in the order of creation alone."""


def fill_in(query: str, sort_by: SortBy, sort_order: SortOrder, **texts: str) -> str:
    """The query in one of the orders."""
    order = ORDERS[sort_by]
    return query.format(column=order.column, type=order.type, **_DIRECTIONS[sort_order], **texts)
