"""The assessment: its states, the request that starts it, and the record that says how it stands."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, computed_field, model_validator

from .base import (
    WHOLE,
    Duration,
    Identifier,
    JsonObject,
    NonEmptyText,
    OpenWireModel,
    PercentDone,
    Text,
    Timestamp,
    Version,
    WireModel,
    WrittenAs,
)
from .result import AssessmentResult
from .retries import RetryPolicy


class AssessmentState(StrEnum):
    """Where an assessment stands."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_STATES = frozenset({AssessmentState.COMPLETED, AssessmentState.FAILED, AssessmentState.CANCELLED})
"""The states that end a wait; a failed assessment may still be retried."""

UNCHANGING_STATES = frozenset({AssessmentState.COMPLETED, AssessmentState.CANCELLED})
"""The states that no command leads out of."""

DEFAULT_ESTIMATED_TIME = 30_000
"""Milliseconds told to a client whose options name no timeout."""


class AssessmentType(StrEnum):
    """What is checked."""

    COMPLIANCE = "compliance"
    HEALTH = "health"
    SECURITY = "security"


class AssessmentSource(StrEnum):
    """Which system asks."""

    INSTALLER = "installer"
    COMPLIANCE = "compliance"


Progress = Annotated[int, Field(strict=True, ge=0, le=100), WHOLE]


class AssessmentOptions(OpenWireModel):
    """How thorough the check is; options of the assessors' own are kept."""

    include_details: StrictBool | None = None
    generate_report: StrictBool | None = None
    save_results: StrictBool | None = None
    check_server_status: StrictBool | None = None
    validate_config: StrictBool | None = None
    check_compliance: StrictBool | None = None
    deep_scan: StrictBool | None = None
    server_filter: list[Text] | None = None
    """Name patterns of the servers to look at."""
    timeout: Duration | None = None
    """Milliseconds that the check is expected to take."""
    custom_options: JsonObject | None = None


class AssessmentRequest(OpenWireModel):
    """What `assessment.create` asks for; members of the caller's own are kept."""

    assessment_id: Identifier | None = None
    assessment_type: AssessmentType
    options: AssessmentOptions
    server_name: NonEmptyText | None = None
    source: AssessmentSource | None = None
    priority: Annotated[int, Field(strict=True, ge=1, le=10), WHOLE] = 5
    """1 to 10, the higher the sooner."""
    timeout: Duration = 300
    """Seconds without progress after which a processing assessment fails; each start and each progress begins them
    anew."""
    retry_policy: RetryPolicy | None = None
    """Whether and when it is tried again by itself once it failed; without one, that of the installation holds."""
    timestamp: Timestamp | None = None
    """When the caller asked."""
    user_id: NonEmptyText | None = None
    """The owner, where the command itself names none."""
    metadata: JsonObject | None = None
    progress: Progress | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_id(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "id" not in data:
            return data
        data = dict(data)
        other = data.pop("id")
        if data.setdefault("assessmentId", other) != other:
            raise ValueError("id and assessmentId differ: give one of them")
        return data

    def to_wire(self) -> JsonObject:
        """The request as JSON: what the caller gave, and the defaults of priority and timeout."""
        return {"priority": self.priority, "timeout": self.timeout} | super().to_wire()


class AssessmentRecord(WireModel):
    """The whole state of one assessment, as `GET /assessments/{id}` answers it."""

    assessment_id: str
    state: AssessmentState
    version: Version
    """1 on create, one more with every accepted command."""
    progress: PercentDone = 0
    message: str | None = None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    """When the present attempt was started."""
    completed_at: datetime | None = None
    """When it was completed, failed or cancelled."""
    request_data: Annotated[JsonObject, WrittenAs(AssessmentRequest)]
    result_data: Annotated[JsonObject, WrittenAs(AssessmentResult)] | None = None
    error_message: str | None = None
    retry_count: int = 0
    next_retry_at: datetime | None = None
    """When a failed assessment is tried again by itself."""
    metadata: JsonObject | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def duration(self) -> int | None:
        """Milliseconds from start to end; nothing while it runs or where it never started."""
        if self.started_at is None or self.completed_at is None:
            return None
        return round((self.completed_at - self.started_at).total_seconds() * 1000)

    @property
    def owner(self) -> str | None:
        """The user who created it."""
        owner = self.request_data.get("userId")
        return owner if isinstance(owner, str) else None

    @property
    def is_final(self) -> bool:
        """Whether a wait for it is over."""
        return self.state in FINAL_STATES

    @property
    def estimated_time(self) -> float:
        """Milliseconds that the caller expected it to take."""
        options = self.request_data.get("options") or {}
        timeout = options.get("timeout")
        return timeout if isinstance(timeout, int | float) else DEFAULT_ESTIMATED_TIME

    def to_wire(self) -> JsonObject:
        """The record as the API answers it."""
        wire = super().to_wire()
        wire["duration"] = self.duration
        return wire

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read what `to_json` wrote."""
        return cls.model_validate_json(data)
