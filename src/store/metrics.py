"""The figures of the whole store, from its counters."""

from __future__ import annotations

from ..models.assessment import AssessmentState
from ..models.metrics import AssessmentMetrics
from .postgres import Connection
from .queries import QUERIES


async def read_metrics(connection: Connection) -> AssessmentMetrics:
    """Add the counters up."""
    rows = {row["state"]: row for row in await connection.fetch(QUERIES["metrics"])}
    ((ended, now),) = await connection.fetch(QUERIES["throughput"])
    count = {state: rows[state]["assessments"] if state in rows else 0 for state in AssessmentState}
    total = sum(count.values())
    timed = sum(row["timed"] for row in rows.values())
    return AssessmentMetrics(
        total_assessments=total,
        active_assessments=count[AssessmentState.PENDING] + count[AssessmentState.PROCESSING],
        completed_assessments=count[AssessmentState.COMPLETED],
        failed_assessments=count[AssessmentState.FAILED],
        cancelled_assessments=count[AssessmentState.CANCELLED],
        average_processing_time=sum(row["duration_ms"] for row in rows.values()) / timed if timed else 0.0,
        throughput_per_minute=ended,
        error_rate=_percent(count[AssessmentState.FAILED], total),
        retry_rate=_percent(sum(row["retried"] for row in rows.values()), total),
        success_rate=_percent(count[AssessmentState.COMPLETED], total),
        timestamp=now,
    )


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
