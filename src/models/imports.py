"""What is taken over from the old system: an assessment as it stood there, with its original times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from .assessment import FINAL_STATES, AssessmentRequest, AssessmentState, Progress
from .base import Count, Text, WireModel
from .result import AssessmentResult

# A life that was told in more rows would make a command too large.
_MOST_ROWS = 200


def _in_utc(at: datetime) -> datetime:
    return at.astimezone(UTC)


# As Postgres gives it back: the same bytes whoever writes it.
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class FormerChange(WireModel):
    """A row of the old system's audit log; what it had besides stays in the export."""

    action: Text
    old_state: Text | None = None
    new_state: Text | None = None
    user_id: Text | None = None
    created_at: Moment | None = None


class Import(WireModel):
    """Take an assessment over as it stands in the old system; for the migration alone."""

    request: AssessmentRequest
    state: AssessmentState
    progress: Progress = 0
    message: Text | None = None
    result: AssessmentResult | None = None
    error: Text | None = None
    retry_count: Count = 0
    created_at: Moment
    updated_at: Moment
    started_at: Moment | None = None
    completed_at: Moment | None = None
    next_retry_at: Moment | None = None
    history: Annotated[tuple[FormerChange, ...], Field(max_length=_MOST_ROWS)] = ()
    """The old system's audit log of it, oldest first."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        """Refuse what no assessment can be."""
        if (self.state in FINAL_STATES) != (self.completed_at is not None):
            raise ValueError(f"completedAt has to be there for an end, and only then: the state is {self.state}")
        if self.updated_at < self.created_at:
            raise ValueError("updatedAt lies before createdAt")
        if self.result is not None and self.state is not AssessmentState.COMPLETED:
            raise ValueError(f"a result belongs to what is completed: the state is {self.state}")
        return self
