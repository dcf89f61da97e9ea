"""The figures of the whole store, as the reference's `getMetrics` has them."""

from __future__ import annotations

from datetime import datetime

from .base import WireModel


class AssessmentMetrics(WireModel):
    """What is stored and how it fares; rates are percent of all assessments."""

    total_assessments: int
    active_assessments: int
    """Pending or processing."""
    completed_assessments: int
    failed_assessments: int
    cancelled_assessments: int
    average_processing_time: float
    """Milliseconds from the start of an assessment to its end; 0 where none has ended."""
    throughput_per_minute: int
    """Assessments that ended within the last minute."""
    error_rate: float
    retry_rate: float
    success_rate: float
    timestamp: datetime
