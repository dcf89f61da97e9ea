"""What checks, imports and rollbacks come to, in the reference's shapes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from ..models.base import JsonObject, WireModel


class _Result(WireModel):
    def to_wire(self) -> JsonObject:
        """The result as JSON."""
        return self.model_dump(mode="json", by_alias=True)


class ValidationResult(_Result):
    """What an export looks like before anything is taken over."""

    passed: bool
    """No error of any kind: not the counts alone."""
    errors: list[str]
    warnings: list[str]
    stats: dict[str, Any]


class MigrationResult(_Result):
    """What an import did."""

    total_assessments: int
    migrated_assessments: int
    """In the store now: those that were imported, and those that were there already and are the same."""
    failed_assessments: int
    """Put aside, or different from what the store has."""
    errors: list[str]
    warnings: list[str]
    start_time: datetime
    end_time: datetime


class FinalValidationResult(ValidationResult):
    """What the store has, held against the export."""

    recommendations: list[str] = Field(default_factory=list)


class RollbackResult(_Result):
    """What a rollback did."""

    success: bool
    errors: list[str]
    warnings: list[str]
    rollback_time: datetime
    details: dict[str, Any]
