"""What the API can be asked beside the lists: query parameters and bodies, as types that the documents are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, RootModel, StrictBool

from ..models.base import WHOLE, Identifier, JsonObject, WireModel
from ..models.commands import ReportProgress
from ..models.events import EventType
from ..models.filters import IN_DIGITS, Instant, Query

LARGEST_VERSION = 2**31 - 1

DEFAULT_TIMEOUT = 30_000
LONGEST_TIMEOUT = 3_600_000
"""Milliseconds; a longer wait is asked again."""

LARGEST_COUNT = 2**31 - 1

_WholeNumber = Annotated[int, Field(strict=True, ge=0, le=LARGEST_COUNT), WHOLE]


class StateQuery(Query):
    """`GET /assessments/{id}`."""

    min_version: Annotated[int, Field(ge=0, le=LARGEST_VERSION), IN_DIGITS] = 0
    """Wait a moment for this version or a later one; 503 where it does not come."""
    at_version: Annotated[int, Field(ge=1, le=LARGEST_VERSION), IN_DIGITS] | None = None
    """The state as it was at this version; 404 where there is no such version yet."""
    at: Instant | None = None
    """The state as it was at this time (inclusive); 404 where it was created later. Not together with `atVersion`."""


class DiffQuery(Query):
    """`GET /assessments/{id}/diff`."""

    from_version: Annotated[int, Field(ge=1, le=LARGEST_VERSION, alias="from"), IN_DIGITS]
    """The version that is changed."""
    to_version: Annotated[int, Field(ge=1, le=LARGEST_VERSION), IN_DIGITS] | None = Field(None, alias="to")
    """The version that the changes lead to, be it an earlier one; else the present one."""


class WaitQuery(Query):
    """`GET /assessments/{id}/wait`."""

    timeout: Annotated[int, Field(ge=0, le=LONGEST_TIMEOUT), IN_DIGITS] = DEFAULT_TIMEOUT
    """Milliseconds."""


class StreamQuery(Query):
    """`GET /events` and `GET /assessments/{id}/events`."""

    type: tuple[EventType, ...] = ()
    """Only these events; may repeat."""
    last_event_id: str | None = None
    """For clients that cannot send the header."""


class NotificationsQuery(Query):
    """`GET /legacy/events`."""

    after: str | None = None
    """The `next` of an earlier answer; without, from the beginning."""


class MigrationChange(WireModel):
    """Who serves what, from now on; one of them has to be there, and what is left out stays."""

    legacy_mode: StrictBool | None = None
    """Let the old system serve everything."""
    percentage: Annotated[int, Field(strict=True, ge=0, le=100), WHOLE] | None = None
    """Of the ids that the store is to serve. A roll-out that goes on by itself ends with it."""


class LegacyEvents(RootModel[JsonObject | list[Any]]):
    """One event of the old system, or a list of them, under any of its names."""


class ProgressItem(ReportProgress):
    """How far one assessment is."""

    assessment_id: Identifier


class RetrySelection(WireModel):
    """Which failed assessments are to be retried."""

    max_retries: _WholeNumber
    """Those that were retried less often than this."""


class Retention(WireModel):
    """What is to be deleted."""

    retention_days: _WholeNumber
    """What was completed, failed or cancelled more than so many days ago."""
