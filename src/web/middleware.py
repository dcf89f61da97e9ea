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

_STARTED = web.RequestKey("started", float)

_HEADER = "traceparent"


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give a request its trace, and measure it."""
    traceparent = trace_context(request.headers.get(_HEADER))
    request[TRACEPARENT], request[_STARTED] = traceparent, time.perf_counter()
    ids = {"trace_id": traceparent.split("-")[1]}
    if "id" in request.match_info:
        ids["assessment_id"] = request.match_info["id"]
    # A connection's requests share one task, and so one context.
    clear_contextvars()
    bind_contextvars(**ids)
    begin_request()
    response = await handler(request)
    if not response.prepared:
        begin_answer(request, response)
    return response


def begin_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the headers of an answer and count it; a stream does so itself, before its first byte goes out.

    What is measured is the time until the answer begins: a stream may go on for hours, and that is no delay.
    """
    route = route_pattern(request)
    HTTP_TIME.labels(route).observe(time.perf_counter() - request[_STARTED])
    HTTP_REQUESTS.labels(route, str(response.status)).inc()
    response.headers[_HEADER] = request[TRACEPARENT]
    if positions := promised():
        response.headers[TOKEN_HEADER] = positions.encode()


def route_pattern(request: web.Request) -> str:
    """The route without its values, so that there are few of them."""
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical
