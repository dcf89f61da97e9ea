"""What lists, search and statistics can be asked: the query parameters of the API, and their ranges."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.alias_generators import to_camel

from .assessment import AssessmentSource, AssessmentState, AssessmentType
from .base import MAX_ID_LENGTH

MOST_PER_PAGE = 1000
DEFAULT_PER_PAGE = 100

MOST_SKIPPED = 10_000
"""The largest `offset`; whoever wants to go further follows `nextCursor`, which costs the same on every page."""

LONGEST_QUERY = 200


class SortBy(StrEnum):
    """What a list is ordered by; ties are broken by id."""

    CREATED_AT = "createdAt"
    UPDATED_AT = "updatedAt"
    PRIORITY = "priority"
    PROGRESS = "progress"


class SortOrder(StrEnum):
    """Up or down."""

    ASC = "asc"
    DESC = "desc"


# What pydantic would read without it: seconds since 1970, as in "0.5".
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _instant(value: Any) -> Any:
    """A time as people put it into a URL: a plus sign that came as a blank is one again, and numbers are no times."""
    if isinstance(value, str):
        if not _DATE.match(value):
            raise ValueError("expected a time like 2026-01-31T12:00:00Z")
        return value.replace(" ", "+") if value.count(" ") == 1 and "T" in value else value
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("expected a time between the years 1 and 9999 in UTC") from error


def _no_null(value: str) -> str:
    if "\x00" in value:
        raise ValueError("a null byte is in no text that is stored")
    return value


@cache
def _known_time_zones() -> set[str]:
    # Files beside the zones: what the host itself is set to, and what it is set to before anybody has.
    return available_timezones() - {"localtime", "Factory"}


def _time_zone(value: str) -> str:
    name = value.replace(" ", "+")  # as in Etc/GMT+3, where the plus sign came as a blank
    if name not in _known_time_zones():
        raise ValueError("expected the name of a time zone, like Europe/Berlin")
    return name


Instant = Annotated[datetime, BeforeValidator(_instant), AfterValidator(_in_utc)]
"""RFC 3339; without an offset it is UTC, a date alone is its midnight."""

# It stands after the limits of a length, which would else speak of items.
_NO_NULL = AfterValidator(_no_null)

Cursor = Annotated[str, StringConstraints(min_length=1, max_length=2000), _NO_NULL]
"""Where a page ended, as an earlier answer told it."""

# Without it 1.0, " 1" and 1_0 would be numbers, too.
_DIGITS = re.compile(r"[0-9]{1,10}", re.ASCII)


def _whole(value: Any) -> Any:
    if isinstance(value, str) and not _DIGITS.fullmatch(value):
        raise ValueError("expected a whole number")
    return value


IN_DIGITS = BeforeValidator(_whole)
"""Of a whole number: it is written in digits and nothing else."""

Priority = Annotated[int, Field(ge=1, le=10), IN_DIGITS]
Percent = Annotated[int, Field(ge=0, le=100), IN_DIGITS]


class Query(BaseModel):
    """The parameters of one route."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class AssessmentFilters(Query):
    """Which assessments; what is not given lets all through, and ranges are from … (inclusive) to … ."""

    state: tuple[AssessmentState, ...] = ()
    """May repeat."""
    type: tuple[AssessmentType, ...] = ()
    """May repeat."""
    source: AssessmentSource | None = None
    server_name: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH), _NO_NULL] | None = None
    """The name of a server, or a pattern: `*` stands for any text, `?` for one character."""
    created_after: Instant | None = None
    """Created at this time or later."""
    created_before: Instant | None = None
    """Created before this time."""
    completed_after: Instant | None = None
    """Completed, failed or cancelled at this time or later."""
    completed_before: Instant | None = None
    """Completed, failed or cancelled before this time."""
    min_priority: Priority | None = None
    max_priority: Priority | None = None
    min_progress: Percent | None = None
    max_progress: Percent | None = None

    @property
    def are_counted(self) -> bool:
        """Whether counters are kept for these filters, whatever they let through."""
        uncounted = {"server_name", "created_after", "created_before", "completed_after", "completed_before"}
        return not self.given & (uncounted | {"min_progress", "max_progress"})

    @property
    def given(self) -> frozenset[str]:
        """The names of the filters that are set."""
        return frozenset(name for name in AssessmentFilters.model_fields if getattr(self, name) not in (None, ()))


class Page(Query):
    """A part of a long answer."""

    limit: Annotated[int, Field(ge=1, le=MOST_PER_PAGE), IN_DIGITS] = DEFAULT_PER_PAGE
    """The most assessments on a page; a page of very large ones may have fewer, and a `nextCursor`."""
    offset: Annotated[int, Field(ge=0, le=MOST_SKIPPED), IN_DIGITS] = 0
    """How many are passed over; to go on through all, follow `nextCursor` instead."""
    cursor: Cursor | None = None
    """The `nextCursor` of the page before, with the same filters and order, and without an `offset`."""

    @field_validator("cursor")
    @classmethod
    def _without_offset(cls, value: str | None, info: ValidationInfo) -> str | None:
        # Each page would pass over some that nobody has seen.
        if value is not None and info.data.get("offset"):
            raise ValueError("not together with an offset: it goes on where the page before ended")
        return value


class ListQuery(AssessmentFilters, Page):
    """`GET /assessments`."""

    sort_by: SortBy = SortBy.CREATED_AT
    sort_order: SortOrder = SortOrder.DESC


class SearchQuery(Page):
    """`GET /assessments/search`."""

    q: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_QUERY),
        _NO_NULL,
    ]
    """Words, or parts of them; each has to be there."""


class StatsQuery(AssessmentFilters):
    """`GET /assessments/stats`."""

    timezone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    """Whose days `dailyCounts` has (IANA)."""


class WebhooksQuery(Query):
    """`GET /webhooks`."""

    limit: Annotated[int, Field(ge=1, le=MOST_PER_PAGE), IN_DIGITS] = DEFAULT_PER_PAGE
    """The most webhooks on a page."""
    cursor: Cursor | None = None
    """The `nextCursor` of the page before."""


class HistoryQuery(Query):
    """`GET /assessments/{id}/history`."""

    after_version: Annotated[int, Field(ge=0, lt=2**31), IN_DIGITS] = 0
    """Leave out what led to this version or an earlier one."""
    limit: Annotated[int, Field(ge=1, le=10_000), IN_DIGITS] = 10_000
    """The most entries."""
