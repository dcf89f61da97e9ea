"""Around every request: its trace context, the ids in its log lines, and its metrics."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from structlog.contextvars import bind_contextvars, clear_contextvars

from ..models.positions import TOKEN_HEADER
from ..telemetry import HTTP_REQUESTS, HTTP_TIME
from .freshness import begin_request, promised
from .headers import trace_context

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

TRACEPARENT = web.RequestKey("traceparent", str)
"""The W3C trace context that a request runs in."""

_HEADER = "traceparent"


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give a request its trace, and measure it."""
    traceparent = trace_context(request.headers.get(_HEADER))
    request[TRACEPARENT] = traceparent
    ids = {"trace_id": traceparent.split("-")[1]}
    if "id" in request.match_info:
        ids["assessment_id"] = request.match_info["id"]
    started = time.perf_counter()
    # A connection's requests share one task, and so one context.
    clear_contextvars()
    bind_contextvars(**ids)
    begin_request()
    response = await handler(request)
    route = route_pattern(request)
    HTTP_TIME.labels(route).observe(time.perf_counter() - started)
    HTTP_REQUESTS.labels(route, str(response.status)).inc()
    response.headers[_HEADER] = traceparent
    if positions := promised():
        response.headers[TOKEN_HEADER] = positions.encode()
    return response


def route_pattern(request: web.Request) -> str:
    """The route without its values, so that there are few of them."""
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical
