"""Every route of the API, in one table."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import BaseModel

from ..models.assessment import AssessmentRecord, AssessmentRequest
from ..models.commands import Cancel, Complete, Fail, ReportProgress, Retry, Start
from ..models.errors import ErrorCode
from ..models.filters import HistoryQuery, ListQuery, SearchQuery, StatsQuery
from ..models.metrics import AssessmentMetrics
from . import answers, examples
from .auth import Permission
from .batches import create_batch, progress_batch, retry_batch
from .bodies import MAX_ITEMS
from .contracts import get_asyncapi, get_docs, get_landing, get_openapi
from .diff import get_diff
from .health import get_health, get_metrics, get_ready
from .legacy import post_events, read_events
from .lists import get_history, get_list, get_search, get_stats
from .maintenance import cleanup
from .middleware import Handler
from .migration import change_migration, get_migration
from .reads import get_state, get_status
from .requests import (
    DiffQuery,
    LegacyEvents,
    MigrationChange,
    NotificationsQuery,
    ProgressItem,
    Retention,
    RetrySelection,
    StateQuery,
    StreamQuery,
    WaitQuery,
)
from .route import Body, Reply, Route
from .streams import all_events, assessment_events
from .waiters import wait
from .webhook_routes import WEBHOOK_ROUTES
from .writes import ACTIONS, command_handler, create

_ONE, _MANY, _EVENTS, _OPERATION, _CONTRACTS = "One assessment", "Many assessments", "Events", "Operation", "Contracts"

_FRESH = ("Consistency-Token",)
_COMMAND = ("Idempotency-Key", "Prefer", "traceparent")

_BATCH = ("Idempotency-Key", "traceparent")

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
_STREAM = Reply(
    description="Server-Sent Events: `id`, `event` (its type) and `data` (the event); `reset` where some were missed.",
    text="text/event-stream",
    example=examples.STREAM,
)
_UNCHANGED = Reply(description="It is the one that `If-None-Match` names.", headers=("ETag",))


def _done(description: str, of: type[BaseModel]) -> Reply:
    """The answer to a request that is answered once."""
    return Reply(description=description, of=of, headers=("Idempotency-Replayed?", "Consistency-Token?"))


def _command(action: str, summary: str, body: Body | None, *, delete: bool = False) -> Route:
    """The route of one command on an existing assessment."""
    command_type, permission = ACTIONS[action]
    return Route(
        method="DELETE" if delete else "POST",
        path="/assessments/{id}" if delete else f"/assessments/{{id}}/{action}",
        name="deleteAssessment" if delete else f"{action}Assessment",
        handler=command_handler(command_type, permission),
        group=_ONE,
        summary=summary,
        permission=permission,
        headers=(*_COMMAND, "If-Match", *_FRESH),
        body=body,
        replies={HTTPStatus.OK: _APPLIED, HTTPStatus.ACCEPTED: _SENT},
        errors=(ErrorCode.INVALID_STATE_TRANSITION, ErrorCode.OPTIMISTIC_LOCK_FAILED, ErrorCode.IDEMPOTENCY_MISMATCH),
    )


_ASSESSMENTS = (
    Route(
        method="POST",
        path="/assessments",
        name="createAssessment",
        handler=create,
        group=_ONE,
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
        group=_ONE,
        summary="The whole state of one assessment, as it is or as it was",
        description="With `atVersion` the answer never changes, and may be kept for an hour.",
        permission=Permission.VIEW,
        query=StateQuery,
        headers=("If-None-Match", *_FRESH),
        replies={
            HTTPStatus.OK: Reply(
                description="The state.", of=AssessmentRecord, headers=("ETag",), example=examples.STATE
            ),
            HTTPStatus.NOT_MODIFIED: _UNCHANGED,
        },
    ),
    Route(
        method="GET",
        path="/assessments/{id}/status",
        name="getStatus",
        handler=get_status,
        group=_ONE,
        summary="How one assessment stands, in brief",
        permission=Permission.VIEW,
        headers=_FRESH,
        replies={HTTPStatus.OK: Reply(description="The status.", of=answers.Status, example=examples.STATUS)},
    ),
    Route(
        method="GET",
        path="/assessments/{id}/wait",
        name="waitForAssessment",
        handler=wait,
        group=_ONE,
        summary="Wait until an assessment is completed, failed or cancelled",
        permission=Permission.VIEW,
        query=WaitQuery,
        headers=_FRESH,
        replies={HTTPStatus.OK: Reply(description="It has ended.", of=answers.Ended, example=examples.ENDED)},
        errors=(ErrorCode.TIMEOUT,),
    ),
    Route(
        method="GET",
        path="/assessments/{id}/history",
        name="getHistory",
        handler=get_history,
        group=_ONE,
        summary="The audit trail of one assessment, oldest first",
        permission=Permission.VIEW,
        query=HistoryQuery,
        headers=_FRESH,
        replies={HTTPStatus.OK: Reply(description="One entry for each accepted command.", of=answers.History)},
    ),
    Route(
        method="GET",
        path="/assessments/{id}/diff",
        name="diffAssessment",
        handler=get_diff,
        group=_ONE,
        summary="What changed between two versions of one assessment",
        permission=Permission.VIEW,
        query=DiffQuery,
        headers=_FRESH,
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
    _command(
        "cancel",
        "End a pending or processing assessment without a result",
        Body(of=Cancel, required=False, example={"reason": "not needed any more"}),
    ),
    _command("cancel", "The same as to cancel it", None, delete=True),
    _command("retry", "Put a failed assessment back to pending", Body(of=Retry, required=False)),
)

_LISTS = (
    Route(
        method="GET",
        path="/assessments",
        name="listAssessments",
        handler=get_list,
        group=_MANY,
        summary="List assessments",
        description="Users see their own, ADMIN and HUMAN_OVERSIGHT everybody's; so it is in search and statistics.",
        permission=Permission.VIEW,
        query=ListQuery,
        headers=_FRESH,
        replies={HTTPStatus.OK: Reply(description="One page.", of=answers.AssessmentList, example=examples.LIST)},
    ),
    Route(
        method="GET",
        path="/assessments/search",
        name="searchAssessments",
        handler=get_search,
        group=_MANY,
        summary="Search ids, server names, messages, errors and requests",
        permission=Permission.VIEW,
        query=SearchQuery,
        headers=_FRESH,
        replies={
            HTTPStatus.OK: Reply(description="One page, best first.", of=answers.FoundList, example=examples.FOUND)
        },
    ),
    Route(
        method="GET",
        path="/assessments/stats",
        name="getStatistics",
        handler=get_stats,
        group=_MANY,
        summary="Counts, rates and averages of assessments",
        permission=Permission.VIEW,
        query=StatsQuery,
        headers=_FRESH,
        replies={HTTPStatus.OK: Reply(description="The statistics.", of=answers.Statistics)},
    ),
)

_BATCHES = (
    Route(
        method="POST",
        path="/assessments/batch",
        name="createAssessments",
        handler=create_batch,
        group=_MANY,
        summary="Create many assessments",
        description="Each item is judged by itself: what is wrong with one is told in `errors`.",
        permission=Permission.CREATE,
        headers=_BATCH,
        body=Body(of=AssessmentRequest, is_list=True, most_items=MAX_ITEMS, example=[examples.REQUEST]),
        replies={HTTPStatus.OK: _done("All are applied or refused.", answers.CreatedBatch)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="POST",
        path="/assessments/batch/progress",
        name="progressAssessments",
        handler=progress_batch,
        group=_MANY,
        summary="Say how far many assessments are",
        description="Each item is judged by itself.",
        permission=Permission.UPDATE,
        headers=_BATCH,
        body=Body(of=ProgressItem, is_list=True, most_items=MAX_ITEMS, example=[examples.PROGRESS_ITEM]),
        replies={HTTPStatus.OK: _done("All are applied or refused.", answers.ProgressedBatch)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="POST",
        path="/assessments/batch/retry",
        name="retryAssessments",
        handler=retry_batch,
        group=_MANY,
        summary="Put failed assessments back to pending",
        permission=Permission.RETRY,
        headers=_BATCH,
        body=Body(of=RetrySelection, example={"maxRetries": 3}),
        replies={HTTPStatus.OK: _done("These are pending again.", answers.RetriedBatch)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
)

_STREAMS = (
    Route(
        method="GET",
        path="/assessments/{id}/events",
        name="streamAssessmentEvents",
        handler=assessment_events,
        group=_EVENTS,
        summary="The events of one assessment, from its creation on, as they come",
        permission=Permission.VIEW,
        query=StreamQuery,
        headers=("Last-Event-ID", *_FRESH),
        replies={
            HTTPStatus.OK: _STREAM,
            HTTPStatus.NO_CONTENT: Reply(description="It has ended, and all of it was seen: do not come back."),
        },
        streams=True,
    ),
    Route(
        method="GET",
        path="/events",
        name="streamEvents",
        handler=all_events,
        group=_EVENTS,
        summary="The events of all assessments that the caller may see, from now on",
        permission=Permission.VIEW,
        query=StreamQuery,
        headers=("Last-Event-ID",),
        replies={HTTPStatus.OK: _STREAM},
        streams=True,
    ),
)

_OPERATIONS = (
    Route(
        method="POST",
        path="/maintenance/cleanup",
        name="cleanUp",
        handler=cleanup,
        group=_OPERATION,
        summary="Delete what was completed, failed or cancelled long ago",
        permission=Permission.MAINTAIN,
        headers=_BATCH,
        body=Body(of=Retention, example={"retentionDays": 365}),
        replies={HTTPStatus.OK: _done("They are gone.", answers.Cleaned)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="GET",
        path="/migration",
        name="getMigration",
        handler=get_migration,
        group=_OPERATION,
        summary="How far the move from the old system is",
        permission=Permission.VIEW,
        replies={HTTPStatus.OK: Reply(description="The status.", of=answers.MigrationStatus)},
    ),
    Route(
        method="PUT",
        path="/migration",
        name="changeMigration",
        handler=change_migration,
        group=_OPERATION,
        summary="Say which share of the ids the store serves, or that the old system serves everything",
        permission=Permission.MIGRATE,
        body=Body(of=MigrationChange, example={"legacyMode": False, "percentage": 25}),
        replies={HTTPStatus.OK: Reply(description="The new status.", of=answers.MigrationStatus)},
    ),
    Route(
        method="POST",
        path="/legacy/events",
        name="sendLegacyEvents",
        handler=post_events,
        group=_OPERATION,
        summary="Take in events of the old system",
        description="Sent again, an event has no second effect.",
        permission=Permission.MIGRATE,
        body=Body(of=LegacyEvents, example={"type": "assessment.started", "assessmentId": "a-1"}),
        replies={HTTPStatus.OK: Reply(description="What each came to.", of=answers.TakenEvents)},
    ),
    Route(
        method="GET",
        path="/legacy/events",
        name="readLegacyEvents",
        handler=read_events,
        group=_OPERATION,
        summary="What the store changed by itself, in the old system's names",
        description="Of each assessment in the order of its versions. No more is there yet where `next` is `after`.",
        permission=Permission.MIGRATE,
        query=NotificationsQuery,
        replies={HTTPStatus.OK: Reply(description="Some, and where to go on.", of=answers.LegacyNotifications)},
    ),
    Route(
        method="GET",
        path="/health",
        name="getHealth",
        handler=get_health,
        group=_OPERATION,
        summary="How everything is",
        replies={HTTPStatus.OK: Reply(description="The body says how.", of=answers.HealthReport)},
    ),
    Route(
        method="GET",
        path="/ready",
        name="getReadiness",
        handler=get_ready,
        group=_OPERATION,
        summary="Whether requests can be served",
        replies={
            HTTPStatus.OK: Reply(description="They can.", of=answers.Readiness),
            HTTPStatus.SERVICE_UNAVAILABLE: Reply(description="They cannot.", of=answers.Readiness),
        },
    ),
    Route(
        method="GET",
        path="/metrics",
        name="getMetrics",
        handler=get_metrics,
        group=_OPERATION,
        summary="Figures for monitoring",
        replies={
            HTTPStatus.OK: Reply(
                description="Prometheus text, or the figures of the whole store with `Accept: application/json`.",
                of=AssessmentMetrics,
                text="text/plain",
            )
        },
        errors=(ErrorCode.SERVICE_UNAVAILABLE,),
    ),
)


def _static(path: str, name: str, handler: Handler, summary: str, reply: Reply) -> Route:
    """The route of a document that is made when the process starts."""
    return Route(
        method="GET",
        path=path,
        name=name,
        handler=handler,
        group=_CONTRACTS,
        summary=summary,
        headers=("If-None-Match",),
        replies={HTTPStatus.OK: reply, HTTPStatus.NOT_MODIFIED: _UNCHANGED},
        can_fail=False,
    )


_DOCUMENT = Reply(description="The document.", of=answers.Document, headers=("ETag",))
_PAGE = Reply(description="The page.", text="text/html", headers=("ETag",))

_DOCUMENTS = (
    _static("/openapi.json", "getOpenApi", get_openapi, "This API, as OpenAPI 3.1", _DOCUMENT),
    _static("/asyncapi.json", "getAsyncApi", get_asyncapi, "The Kafka topics, as AsyncAPI 3.0", _DOCUMENT),
    _static("/docs", "getDocs", get_docs, "Both contracts, as a page for people", _PAGE),
    _static("/", "getLandingPage", get_landing, "Where to find what", _PAGE),
)

ROUTES = (*_LISTS, *_BATCHES, *_ASSESSMENTS, *_STREAMS, *WEBHOOK_ROUTES, *_OPERATIONS, *_DOCUMENTS)
"""Words before ids: the first route that fits is taken."""
