"""The answers of the API, typed; an assessment itself is a `models.assessment.AssessmentRecord`.

They keep members that they do not know, so that an older client shows all that a newer server says.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from pydantic import Field

from ..models.assessment import AssessmentRecord, AssessmentState
from ..models.base import JsonObject, OpenWireModel


class CreatedAssessment(OpenWireModel):
    """What a create answers."""

    assessment_id: str
    status: str
    """`created` once it is applied, `accepted` where that was not waited for."""
    version: int | None = None
    estimated_time: float | None = None
    """Milliseconds that the assessment is expected to take."""
    message: str | None = None


class Status(OpenWireModel):
    """How far an assessment is."""

    assessment_id: str
    status: AssessmentState
    progress: int
    message: str | None = None
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None


class Outcome(OpenWireModel):
    """How an assessment ended."""

    assessment_id: str
    status: AssessmentState
    result: JsonObject | None = None
    error: str | None = None
    duration: int | None = None
    """Milliseconds from start to end."""


class Change(OpenWireModel):
    """A member in which two versions differ; `model_fields_set` tells which sides have it."""

    field: str
    """A JSON Pointer into the state as the API answers it."""
    before: Any = Field(None, alias="from")
    after: Any = Field(None, alias="to")


class Diff(OpenWireModel):
    """What changed between two versions."""

    assessment_id: str
    from_version: int = Field(alias="from")
    to_version: int = Field(alias="to")
    changes: tuple[Change, ...]


class Assessments(OpenWireModel):
    """A page of a list."""

    assessments: tuple[AssessmentRecord, ...]
    total: int
    total_is_exact: bool = True
    """Otherwise there are at least so many."""
    next_cursor: str | None = None
    """Where the next page begins; nothing on the last one."""


class FoundAssessment(AssessmentRecord):
    """An assessment that a search found."""

    highlights: dict[str, str] = Field(default_factory=dict)
    """By field, the text around what was found, as HTML with the place in `<mark>`."""

    def to_wire(self) -> JsonObject:
        """The record, and its highlights."""
        return super().to_wire() | {"highlights": self.highlights}


class FoundAssessments(OpenWireModel):
    """A page of what a search found, the best first."""

    assessments: tuple[FoundAssessment, ...]
    total: int
    total_is_exact: bool = True
    next_cursor: str | None = None


class DailyCount(OpenWireModel):
    """What was created on one day, and what became of it."""

    date: date
    count: int
    completed: int
    failed: int


class ServerCount(OpenWireModel):
    """The assessments of one server."""

    server_name: str
    assessment_count: int
    last_assessment: datetime | None = None


class Statistics(OpenWireModel):
    """Counts, rates and times."""

    total: int
    by_state: dict[str, int]
    by_type: dict[str, int]
    by_priority: dict[str, int]
    success_rate: float
    """Completed ones of all, 0 to 1."""
    average_processing_time_by_state: dict[str, float]
    """Milliseconds."""
    success_rate_by_type: dict[str, float]
    daily_counts: tuple[DailyCount, ...]
    top_servers: tuple[ServerCount, ...]


class HistoryEntry(OpenWireModel):
    """One accepted command in the audit trail."""

    action: str
    old_state: AssessmentState | None
    new_state: AssessmentState
    old_version: int | None
    new_version: int
    user_id: str | None = None
    command_id: str | None = None
    details: JsonObject | None = None
    created_at: datetime


class History(OpenWireModel):
    """The audit trail of an assessment, oldest first."""

    history: tuple[HistoryEntry, ...]


class BatchError(OpenWireModel):
    """Why one item of a batch was refused."""

    index: int
    code: str
    message: str


class BatchAnswer(OpenWireModel):
    """What became of a batch of creates."""

    assessment_ids: tuple[str, ...]
    """Of those that were accepted, in the order of the request."""
    errors: tuple[BatchError, ...] = ()


class ItemResult(OpenWireModel):
    """What became of one item: a version, or a code and a message."""

    index: int
    assessment_id: str | None = None
    version: int | None = None
    code: str | None = None
    message: str | None = None


class ProgressBatchAnswer(OpenWireModel):
    """What became of a batch of progress reports."""

    results: tuple[ItemResult, ...]


class RetryBatchAnswer(OpenWireModel):
    """The assessments that were put back to pending."""

    assessment_ids: tuple[str, ...]


class Cleaned(OpenWireModel):
    """What a cleanup deleted."""

    deleted: int


class MigrationStatus(OpenWireModel):
    """How far the move from the old system is."""

    legacy_mode: bool
    """Whether the old system serves everything."""
    migration_percentage: int
    """Of the ids, those that the store serves."""
    assessments_migrated: int
    total_assessments: int
    last_updated: datetime
    phase: str
    held_because: str | None = None
    open_divergences: int = 0


class ServiceHealth(OpenWireModel):
    """How one service is."""

    status: str


class Health(OpenWireModel):
    """How the API is, and what it rests on."""

    overall: str
    """`healthy`, `degraded` or `unhealthy`."""
    services: dict[str, ServiceHealth]
