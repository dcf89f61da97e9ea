"""Copies of states, as caches have them: what cannot be read is as good as not there, since Postgres has it."""

from __future__ import annotations

import logging

from ..models.assessment import AssessmentRecord

logger = logging.getLogger(__name__)


def read_copy(assessment_id: str, value: bytes) -> AssessmentRecord | None:
    """The state that a cache has of an assessment; nothing where it is no state, or is of another assessment."""
    try:
        state = AssessmentRecord.from_json(value)
    except ValueError:
        why = "it is no state in JSON"
    else:
        if state.assessment_id == assessment_id:
            return state
        why = "it is a state of another assessment"
    extra = {"action": "copy_passed_over", "assessment_id": assessment_id, "why": why}
    logger.warning("a copy in a cache is passed over: assessmentstore verify --repair removes it", extra=extra)
    return None


def read_copies(values: dict[str, bytes]) -> dict[str, AssessmentRecord]:
    """Those of several copies that can be read, by assessment id."""
    states = {key: read_copy(key, value) for key, value in values.items()}
    return {key: state for key, state in states.items() if state is not None}
