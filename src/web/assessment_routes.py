"""The routes of one assessment, a part of the table of routes."""

from __future__ import annotations

from http import HTTPStatus

from ..models.assessment import AssessmentRecord, AssessmentRequest
from ..models.commands import Cancel, Complete, Fail, ReportProgress, Retry, Start
from ..models.errors import ErrorCode
from ..models.filters import HistoryQuery
from . import answers, examples
from .auth import Permission
from .diff import get_diff
from .lists import get_history
from .reads import get_state, get_status
from .requests import DiffQuery, StateQuery, WaitQuery
from .route import FRESH, UNCHANGED, Body, Reply, Route
from .waiters import wait
from .writes import ACTIONS, command_handler, create

_GROUP = "One assessment"
_COMMAND = ("Idempotency-Key", "Prefer", "traceparent")

_SENT = Reply(
    description="Kafka has the command: `Prefer: respond-async` was asked for.",
    of=answers.Accepted,
    headers=("Location", "Preference-Applied", "Consistency-Token"),
    example=examples.ACCEPTED,
)
_APPLIED = Reply(
    description="It is applied: the new state.",
    of=AssessmentRecord,
    headers=("ETag", "Consistency-Token", "Idempotency-Replayed?"),
    example=examples.STATE,
)

_REASON = Body(of=Cancel, required=False, example={"reason": "not needed any more"})


def _command(action: str, summary: str, body: Body, *, delete: bool = False) -> Route:
    """The route of one command on an existing assessment."""
    command_type, permission = ACTIONS[action]
    return Route(
        method="DELETE" if delete else "POST",
        path="/assessments/{id}" if delete else f"/assessments/{{id}}/{action}",
        name="deleteAssessment" if delete else f"{action}Assessment",
        handler=command_handler(command_type, permission),
        group=_GROUP,
        summary=summary,
        permission=permission,
        headers=(*_COMMAND, "If-Match", *FRESH),
        body=body,
        replies={HTTPStatus.OK: _APPLIED, HTTPStatus.ACCEPTED: _SENT},
        errors=(ErrorCode.INVALID_STATE_TRANSITION, ErrorCode.OPTIMISTIC_LOCK_FAILED, ErrorCode.IDEMPOTENCY_MISMATCH),
    )


ASSESSMENT_ROUTES = (
    Route(
        method="POST",
        path="/assessments",
        name="createAssessment",
        handler=create,
        group=_GROUP,
        summary="Create an assessment",
        description="The owner is the user of the token, whatever the body says.",
        permission=Permission.CREATE,
        headers=_COMMAND,
        body=Body(of=AssessmentRequest, example=examples.REQUEST),
        replies={
            HTTPStatus.CREATED: Reply(
                description="It exists.",
                of=answers.CreatedAssessment,
                headers=("Location", "ETag", "Consistency-Token", "Idempotency-Replayed?"),
                example=examples.CREATED,
            ),
            HTTPStatus.ACCEPTED: _SENT,
        },
        errors=(ErrorCode.ALREADY_EXISTS, ErrorCode.IDEMPOTENCY_MISMATCH),
    ),
    Route(
        method="GET",
        path="/assessments/{id}",
        name="getAssessment",
        handler=get_state,
        group=_GROUP,
        summary="The whole state of one assessment, as it is or as it was",
        description="With `atVersion` the answer never changes, and may be kept for an hour.",
        permission=Permission.VIEW,
        query=StateQuery,
        headers=("If-None-Match", *FRESH),
        replies={
            HTTPStatus.OK: Reply(
                description="The state.", of=AssessmentRecord, headers=("ETag",), example=examples.STATE
            ),
            HTTPStatus.NOT_MODIFIED: UNCHANGED,
        },
    ),
    Route(
        method="GET",
        path="/assessments/{id}/status",
        name="getStatus",
        handler=get_status,
        group=_GROUP,
        summary="How one assessment stands, in brief",
        permission=Permission.VIEW,
        headers=FRESH,
        replies={HTTPStatus.OK: Reply(description="The status.", of=answers.Status, example=examples.STATUS)},
    ),
    Route(
        method="GET",
        path="/assessments/{id}/wait",
        name="waitForAssessment",
        handler=wait,
        group=_GROUP,
        summary="Wait until an assessment is completed, failed or cancelled",
        permission=Permission.VIEW,
        query=WaitQuery,
        headers=FRESH,
        replies={HTTPStatus.OK: Reply(description="It has ended.", of=answers.Ended, example=examples.ENDED)},
        errors=(ErrorCode.TIMEOUT,),
    ),
    Route(
        method="GET",
        path="/assessments/{id}/history",
        name="getHistory",
        handler=get_history,
        group=_GROUP,
        summary="The audit trail of one assessment, oldest first",
        permission=Permission.VIEW,
        query=HistoryQuery,
        headers=FRESH,
        replies={HTTPStatus.OK: Reply(description="One entry for each accepted command.", of=answers.History)},
    ),
    Route(
        method="GET",
        path="/assessments/{id}/diff",
        name="diffAssessment",
        handler=get_diff,
        group=_GROUP,
        summary="What changed between two versions of one assessment",
        permission=Permission.VIEW,
        query=DiffQuery,
        headers=FRESH,
        replies={HTTPStatus.OK: Reply(description="The changes.", of=answers.Diff, example=examples.DIFF)},
    ),
    _command("start", "Begin to work on a pending assessment", Body(of=Start, required=False)),
    _command(
        "progress",
        "Say how far a processing assessment is",
        Body(of=ReportProgress, example={"progress": 40, "message": "two of five servers"}),
    ),
    _command(
        "complete",
        "End a processing assessment with its result",
        Body(of=Complete, example={"result": examples.RESULT}),
    ),
    _command("fail", "End a processing assessment with an error", Body(of=Fail, example={"error": "no route to host"})),
    _command("cancel", "End a pending or processing assessment without a result", _REASON),
    _command("cancel", "The same as to cancel it", _REASON, delete=True),
    _command("retry", "Put a failed assessment back to pending", Body(of=Retry, required=False)),
)
