"""The routes of those who run the store, a part of the table of routes."""

from __future__ import annotations

from http import HTTPStatus

from ..models.errors import ErrorCode
from ..models.metrics import AssessmentMetrics
from . import answers
from .auth import Permission
from .health import get_health, get_metrics, get_ready
from .legacy import post_events, read_events
from .maintenance import cleanup
from .migration import change_migration, get_migration
from .requests import LegacyEvents, MigrationChange, NotificationsQuery, Retention
from .route import KEYED, Body, Reply, Route, done

_GROUP = "Operation"

OPERATION_ROUTES = (
    Route(
        method="POST",
        path="/maintenance/cleanup",
        name="cleanUp",
        handler=cleanup,
        group=_GROUP,
        summary="Delete what was completed, failed or cancelled long ago",
        permission=Permission.MAINTAIN,
        headers=KEYED,
        body=Body(of=Retention, example={"retentionDays": 365}),
        replies={HTTPStatus.OK: done("They are gone.", answers.Cleaned)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="GET",
        path="/migration",
        name="getMigration",
        handler=get_migration,
        group=_GROUP,
        summary="How far the move from the old system is",
        permission=Permission.VIEW,
        replies={HTTPStatus.OK: Reply(description="The status.", of=answers.MigrationStatus)},
    ),
    Route(
        method="PUT",
        path="/migration",
        name="changeMigration",
        handler=change_migration,
        group=_GROUP,
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
        group=_GROUP,
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
        group=_GROUP,
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
        group=_GROUP,
        summary="How everything is",
        is_probe=True,
        replies={HTTPStatus.OK: Reply(description="The body says how.", of=answers.HealthReport)},
    ),
    Route(
        method="GET",
        path="/ready",
        name="getReadiness",
        handler=get_ready,
        group=_GROUP,
        summary="Whether requests can be served",
        is_probe=True,
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
        group=_GROUP,
        summary="Figures for monitoring",
        is_probe=True,
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
