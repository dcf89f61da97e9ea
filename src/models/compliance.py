"""What the executor and a compliance server tell each other (docs/executor.md)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import model_validator

from .assessment import AssessmentRequest, Progress
from .base import Count, Identifier, JsonObject, NonEmptyText, Text, WireModel, WrittenAs
from .result import AssessmentResult


class ComplianceStatus(StrEnum):
    """How far a compliance server is with an attempt; it knows no cancelled one, but has forgotten it."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class ComplianceOrder(WireModel):
    """The body of `POST /assessments`: one attempt at an assessment."""

    assessment_id: Identifier
    attempt: Count
    """The `retryCount` of the assessment: 0 for the first attempt, one more with every retry."""
    request: Annotated[JsonObject, WrittenAs(AssessmentRequest)]
    """The request as it was stored on create."""

    @property
    def idempotency_key(self) -> str:
        """The `Idempotency-Key` of the order: it is the same whenever the attempt is ordered again."""
        return f"{self.assessment_id}:{self.attempt}"


class ComplianceReport(WireModel):
    """How an attempt is: the body of 200 and 202, from `POST /assessments` and `GET /assessments/{id}/status`."""

    assessment_id: Identifier
    status: ComplianceStatus
    progress: Progress | None = None
    """0 to 100; nothing where the server does not say."""
    message: Text | None = None
    result: AssessmentResult | None = None
    """Of a completed attempt, and only of that."""
    error: NonEmptyText | None = None
    """Why an attempt failed, and only of that."""

    @model_validator(mode="after")
    def _ended_with_its_outcome(self) -> Self:
        if self.status is ComplianceStatus.COMPLETED and self.result is None:
            raise ValueError("a completed attempt has to have a result")
        if self.status is ComplianceStatus.FAILED and self.error is None:
            raise ValueError("a failed attempt has to have an error")
        return self

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in {ComplianceStatus.COMPLETED, ComplianceStatus.FAILED}

    def to_wire(self) -> JsonObject:
        """The report with the members that say something."""
        found: dict[str, Any] = {name: value for name, value in super().to_wire().items() if value is not None}
        return found if self.result is None else found | {"result": self.result.to_wire()}


class ComplianceFault(WireModel):
    """What is wrong, in the body of a status of 400 and above."""

    code: NonEmptyText
    message: Text


class ComplianceRefusal(WireModel):
    """The body of a status of 400 and above."""

    error: ComplianceFault

    def to_wire(self) -> JsonObject:
        """The refusal as JSON."""
        return {"error": self.error.to_wire()}
