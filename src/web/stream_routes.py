"""The routes of event streams, a part of the table of routes."""

from __future__ import annotations

from http import HTTPStatus

from . import examples
from .auth import Permission
from .requests import StreamQuery
from .route import FRESH, Reply, Route
from .streams import all_events, assessment_events

_GROUP = "Events"

_STREAM = Reply(
    description="Server-Sent Events: `id`, `event` (its type) and `data` (the event); `reset` where some were missed.",
    text="text/event-stream",
    example=examples.STREAM,
)

STREAM_ROUTES = (
    Route(
        method="GET",
        path="/assessments/{id}/events",
        name="streamAssessmentEvents",
        handler=assessment_events,
        group=_GROUP,
        summary="The events of one assessment, from its creation on, as they come",
        permission=Permission.VIEW,
        query=StreamQuery,
        headers=("Last-Event-ID", *FRESH),
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
        group=_GROUP,
        summary="The events of all assessments that the caller may see, from now on",
        permission=Permission.VIEW,
        query=StreamQuery,
        headers=("Last-Event-ID", *FRESH),
        replies={HTTPStatus.OK: _STREAM},
        streams=True,
    ),
)
