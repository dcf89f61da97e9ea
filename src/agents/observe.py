"""What a committed batch tells Prometheus."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog

from ..models.assessment import AssessmentState
from ..models.commands import CommandHeader
from ..telemetry import (
    CANCELLED_ASSESSMENTS,
    COMMANDS,
    COMPLETED_ASSESSMENTS,
    DEAD_LETTERS,
    DUPLICATES,
    FAILED_ASSESSMENTS,
    PROCESSING_TIME,
    QUEUE_WAIT_TIME,
    TOTAL_ASSESSMENTS,
)
from .fold import Decoded, Folded

log = structlog.get_logger(__name__)

_ENDED = {
    AssessmentState.COMPLETED: COMPLETED_ASSESSMENTS,
    AssessmentState.FAILED: FAILED_ASSESSMENTS,
    AssessmentState.CANCELLED: CANCELLED_ASSESSMENTS,
}


def observe_batch(batch: Sequence[Decoded], folded: Folded) -> None:
    """Count once what a batch did; a batch that is published by whoever takes over is not counted."""
    now = time.time()
    for decoded in batch:
        QUEUE_WAIT_TIME.observe(max(0.0, now - decoded.timestamp / 1000))
    for accepted in folded.changes.accepted:
        event = accepted.event
        log.debug("accepted", type=event.type, version=event.version, **_ids(accepted.header))
        COMMANDS.labels(accepted.header.type, "accepted").inc()
        if event.previous_state is None:
            TOTAL_ASSESSMENTS.inc()
        elif event.state in _ENDED and event.state is not event.previous_state:
            _ENDED[event.state].inc()
            duration = folded.changes.after[event.assessment_id].duration
            if duration is not None:
                PROCESSING_TIME.observe(duration / 1000)
    for refused in folded.changes.refused:
        COMMANDS.labels(refused.header.type, "refused").inc()
        log.info("refused", why=refused.rejection.message, code=refused.rejection.code, **_ids(refused.header))
    DUPLICATES.inc(folded.duplicates)
    for header in folded.borrowed:
        log.warning(
            "a command id came again with another content, which has no effect: give every command an id of its own",
            **_ids(header),
        )
    DEAD_LETTERS.inc(len(folded.changes.dead_letters))
    for letter in folded.changes.dead_letters:
        log.warning("a record is no command: it went to the dead letters", why=letter.reason, offset=letter.offset)


def _ids(header: CommandHeader) -> dict[str, str | None]:
    """What ties a log line to an assessment, a command and a trace."""
    trace_id = header.traceparent.split("-")[1] if header.traceparent and "-" in header.traceparent else None
    return {"assessment_id": header.assessment_id, "command_id": header.id, "trace_id": trace_id}
