"""What a committed batch tells Prometheus and the log."""

from __future__ import annotations

import logging
import time
from collections import Counter
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
    QUEUE_WAIT_TIME.observe_all([max(0.0, now - decoded.timestamp / 1000) for decoded in batch])
    changes = folded.changes
    for kind, count in Counter(item.header.type for item in changes.accepted).items():
        COMMANDS.labels(kind, "accepted").inc(count)
    for kind, count in Counter(item.header.type for item in changes.refused).items():
        COMMANDS.labels(kind, "refused").inc(count)
    _count_transitions(folded)
    DUPLICATES.inc(folded.duplicates)
    DEAD_LETTERS.inc(len(changes.dead_letters))
    _log_batch(folded)


def _count_transitions(folded: Folded) -> None:
    events = [item.event for item in folded.changes.accepted]
    TOTAL_ASSESSMENTS.inc(sum(event.previous_state is None for event in events))
    ended = [event for event in events if event.state in _ENDED and event.previous_state is not None]
    for state, count in Counter(event.state for event in ended).items():
        _ENDED[state].inc(count)
    durations = [folded.changes.after[event.assessment_id].duration for event in ended]
    PROCESSING_TIME.observe_all([duration / 1000 for duration in durations if duration is not None])


def _log_batch(folded: Folded) -> None:
    changes = folded.changes
    # A structlog call that is filtered out still costs more than the rest of this module.
    if logging.getLogger(__name__).isEnabledFor(logging.DEBUG):
        for accepted in changes.accepted:
            event = accepted.event
            log.debug("accepted", type=event.type, version=event.version, **_ids(accepted.header))
    for refused in changes.refused:
        log.info("refused", why=refused.rejection.message, code=refused.rejection.code, **_ids(refused.header))
    for header in folded.borrowed:
        log.warning(
            "a command id came again with another content, which has no effect: give every command an id of its own",
            **_ids(header),
        )
    for letter in changes.dead_letters:
        log.warning("a record is no command: it went to the dead letters", why=letter.reason, offset=letter.offset)


def _ids(header: CommandHeader) -> dict[str, str | None]:
    """What ties a log line to an assessment, a command and a trace."""
    trace_id = header.traceparent.split("-")[1] if header.traceparent and "-" in header.traceparent else None
    return {"assessment_id": header.assessment_id, "command_id": header.id, "trace_id": trace_id}
