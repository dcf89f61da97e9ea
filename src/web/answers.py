"""What the API answers, as types: the contract documents are made of these, and tests hold answers against them.

Handlers write most answers without them: to check one's own answer at every request costs more than it tells.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ..models.assessment import AssessmentRecord, AssessmentState
from ..models.base import Count, JsonObject, PercentDone, Version, WireModel, WrittenAs
from ..models.errors import OpenErrorCode
from ..models.events import AssessmentEvent
from ..models.result import AssessmentResult

Rate = Annotated[float, Field(json_schema_extra={"minimum": 0, "maximum": 1})]
HealthState = Literal["healthy", "degraded", "unhealthy"]


class Answer(WireModel):
    """A type that is answered: a member without a default is always there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)


class ErrorDetail(Answer):
    """What went wrong."""

    code: str
    """For programs; stays the same."""
    message: str
    """For people; may be put in other words."""
    details: JsonObject = Field(default_factory=dict)
    """What the code is about: `errors` with a JSON pointer each, or the versions that differ."""
    assessment_id: str = ""
    timestamp: datetime | None = None


class Error(Answer):
    """Every error, unless the caller asks for `application/problem+json`."""

    error: ErrorDetail


class Problem(Answer):
    """The same as RFC 9457 has it."""

    type: str
    """`urn:assessmentstore:problem:` and the code in lower case."""
    title: str
    status: Annotated[int, Field(json_schema_extra={"minimum": 400, "maximum": 599})]
    detail: str
    """The message, for people."""
    instance: str
    """The path that was asked."""
    code: str
    """For programs; stays the same."""
    details: JsonObject = Field(default_factory=dict)
    assessment_id: str = ""


class CreatedAssessment(Answer):
    """The assessment exists."""

    assessment_id: str
    status: Literal["created"]
    message: str
    estimated_time: float
    """Milliseconds that the options give it."""
    version: Version


class Accepted(Answer):
    """Kafka has the command; what becomes of it is not known yet."""

    assessment_id: str
    status: Literal["accepted"]
    command_id: str
    """The Idempotency-Key, or one that was made up."""


class Status(Answer):
    """How an assessment stands, in brief."""

    assessment_id: str
    status: AssessmentState
    progress: PercentDone
    message: str | None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class Ended(Answer):
    """How an assessment ended."""

    assessment_id: str
    status: Literal[AssessmentState.COMPLETED, AssessmentState.FAILED, AssessmentState.CANCELLED]
    result: Annotated[JsonObject, WrittenAs(AssessmentResult)] | None
    error: str | None
    duration: int | None
    """Milliseconds from start to end; nothing where it never started."""


class _Page(Answer):
    total: Count
    """How many there are, over all pages."""
    next_cursor: str | None
    """Leads to the next page; nothing on the last one."""
    total_is_exact: Literal[False] | None = None
    """Where it is there, it is false: there are at least as many as `total` says."""


class AssessmentList(_Page):
    """A page of a list."""

    assessments: list[AssessmentRecord]


class FoundAssessment(AssessmentRecord):
    """An assessment, and where in it something was found."""

    highlights: dict[str, str]
    """By field, the text around what was found, as HTML with the place in `<mark>`."""


class FoundList(_Page):
    """A page of what was found, best first."""

    assessments: list[FoundAssessment]


class DailyCount(Answer):
    """The assessments that were created on one day, and what became of them so far."""

    day: date = Field(alias="date")
    count: Count
    completed: Count
    failed: Count


class ServerCount(Answer):
    """The assessments of one server."""

    server_name: str
    assessment_count: Count
    last_assessment: datetime


class Statistics(Answer):
    """Counts, rates and averages."""

    total: Count
    by_state: dict[AssessmentState, Count]
    by_type: dict[str, Count]
    by_priority: dict[str, Count]
    success_rate: Rate
    """Completed ones by all of them."""
    average_processing_time_by_state: dict[AssessmentState, int]
    """Milliseconds from start to end."""
    success_rate_by_type: dict[str, Rate]
    daily_counts: list[DailyCount]
    top_servers: list[ServerCount]


class HistoryEntry(Answer):
    """One accepted command."""

    action: str
    """The event without `assessment.` in front."""
    old_state: AssessmentState | None
    new_state: AssessmentState
    old_version: int | None
    new_version: Version
    user_id: str | None
    command_id: str
    details: Annotated[AssessmentEvent, Field(discriminator="type")]
    """The event, as it was published."""
    created_at: datetime


class History(Answer):
    """The audit trail, oldest first."""

    history: list[HistoryEntry]


class Change(Answer):
    """A member in which two states differ; a side that does not have it is left out."""

    field: str
    """A JSON Pointer (RFC 6901) into what `GET /assessments/{id}` answers; a list is one value."""
    before: Any = Field(None, alias="from")
    after: Any = Field(None, alias="to")


class Diff(Answer):
    """What changed between two versions: with these changes the one is the other."""

    assessment_id: str
    from_version: Version = Field(alias="from")
    to_version: Version = Field(alias="to")
    changes: list[Change]


class ItemProblem(Answer):
    """What was wrong with one item of a batch."""

    index: Count
    """Its place in the request."""
    code: OpenErrorCode
    message: str


class CreatedBatch(Answer):
    """What became of each item; both lists are in the order of the request."""

    assessment_ids: list[str]
    errors: list[ItemProblem]


class AppliedItem(Answer):
    """An item that was applied."""

    index: Count
    assessment_id: str
    version: Version


class RefusedItem(ItemProblem):
    """An item that was refused."""

    assessment_id: str | None


class ProgressedBatch(Answer):
    """What became of each item, in the order of the request."""

    results: list[AppliedItem | RefusedItem]


class RetriedBatch(Answer):
    """The assessments that are pending again."""

    assessment_ids: list[str]


class Cleaned(Answer):
    """What a cleanup did."""

    deleted: Count


class MigrationStatus(Answer):
    """How far the move from the old system is."""

    legacy_mode: bool
    """Whether the old system serves everything."""
    migration_percentage: PercentDone
    """Of the ids, those that the store serves: the ones whose bucket is below it."""
    assessments_migrated: Count
    """Assessments that the store has."""
    total_assessments: Count
    """And those that are known of and not in it: quarantined, or of an import under way."""
    last_updated: datetime
    """When mode or percentage were last set."""
    phase: Literal["steady", "ramping", "rolled_back"]
    """Whether the percentage grows by itself, or was taken back."""
    held_because: str | None
    """What keeps it from growing."""
    open_divergences: Count
    """Entries of the ledger that are not resolved."""


class TakenEvent(Answer):
    """What became of one event of the old system."""

    index: Count
    assessment_id: str | None
    outcome: Literal["sent", "reported", "dead-letter"]
    """It is a command; it is a record to be compared; or it cannot be translated, and is kept as it came."""
    command_id: str | None
    reason: str | None


class TakenEvents(Answer):
    """What became of each event, in the order of the request."""

    results: list[TakenEvent]


class LegacyNotifications(Answer):
    """What the store changed by itself, in the old system's names."""

    events: list[JsonObject]
    next: str
    """The place to go on at."""


class ServiceHealth(Answer):
    """How one service is, with details of its own."""

    model_config = ConfigDict(extra="allow")

    status: HealthState
    latency_ms: float | None = None
    version: str | None = None
    error: str | None = None
    lag: Count | None = None
    """Of the queue: commands that no worker has applied yet."""
    max_partition_lag: Count | None = None
    """Of the queue: the same of the partition that is furthest behind."""
    pending_too_long: Count | None = None
    """Of the queue: assessments that nobody takes up, counted to 10,000."""
    timers_late_seconds: float | None = None
    """Of the queue: how late the timer is that is due longest."""


class HealthReport(Answer):
    """How everything is."""

    overall: HealthState
    services: dict[str, ServiceHealth]
    last_updated: datetime
    """When the services were asked."""
    details: JsonObject = Field(default_factory=dict)
    """What no request depends on, such as the compliance servers of a worker."""


class Readiness(Answer):
    """Whether requests can be served."""

    ready: bool
    checks: dict[str, HealthState]


class Document(Answer):
    """An OpenAPI or AsyncAPI document."""

    model_config = ConfigDict(extra="allow")
