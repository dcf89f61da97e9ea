"""The door: who comes in, how often, and how slowly he may speak; and what every answer carries out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from structlog.contextvars import bind_contextvars

from ..models.errors import RejectedError
from .auth import AUTHENTICATOR, USER
from .limits import ALLOWANCE, LIMITS, check_allowance
from .middleware import Handler, route_pattern
from .proxies import PROXIES, Proxies, remote_address

OPEN_ROUTES = frozenset({"/", "/health", "/ready", "/metrics", "/openapi.json", "/asyncapi.json", "/docs", "unmatched"})
"""The routes that need no token and know no limit; every other one is closed, whoever adds it."""

STREAMS = frozenset({"/events", "/assessments/{id}/events"})
"""The routes whose answer begins before it is made."""

_READS = frozenset({"GET", "HEAD"})

# The largest batch takes seconds on any line; whoever needs longer holds a connection and memory for nothing.
_BODY_SECONDS = 60.0

# JSON is data: no browser is to run, show or embed it. A page names its own policy.
_POLICY = "default-src 'none'; frame-ancestors 'none'"
_TWO_YEARS = 63_072_000

_NO_PROXIES = Proxies()


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody in without a token, nor more often than is allowed."""
    if AUTHENTICATOR in request.app and not is_open(request):
        await _identify(request)
        if LIMITS in request.app:
            handler = await _limited(request, handler)
    with _body_in_time(request):
        return await handler(request)


def is_open(request: web.Request) -> bool:
    """Whether a request is served to everybody."""
    return route_pattern(request) in OPEN_ROUTES


async def _identify(request: web.Request) -> None:
    try:
        # Two of them are no token: whoever stands between might have looked at the other one.
        user = await request.app[AUTHENTICATOR].user(", ".join(request.headers.getall("Authorization", [])))
    except RejectedError:
        if LIMITS in request.app:
            check_allowance(request, await request.app[LIMITS].guess(remote_address(request)))
        raise
    request[USER] = user
    bind_contextvars(user_id=user.id)


async def _limited(request: web.Request, handler: Handler) -> Handler:
    """Count a request before it is handled; a read of whoever has plenty left, while it is handled.

    On a busy machine the way to Redis and back takes as long as the read itself.
    """
    limits, user = request.app[LIMITS], request[USER].id
    if request.method not in _READS or route_pattern(request) in STREAMS or not limits.has_plenty(user):
        check_allowance(request, await limits.user(user))
        return handler

    async def count_meanwhile(request: web.Request) -> web.StreamResponse:
        counting = asyncio.create_task(limits.user(user))
        try:
            return await handler(request)
        finally:
            check_allowance(request, await counting)

    return count_meanwhile


@contextmanager
def _body_in_time(request: web.Request) -> Iterator[None]:
    """End whoever reads the body of a request that does not arrive."""
    if not request.can_read_body:
        yield
        return

    def expire() -> None:
        words = f"The body has not arrived within {_BODY_SECONDS:g} s"
        request.content.set_exception(web.HTTPRequestTimeout(reason=words))
        request.content.feed_eof()  # nobody waits for the rest

    timer = asyncio.get_running_loop().call_later(_BODY_SECONDS, expire)
    try:
        yield
    finally:
        timer.cancel()


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """Complete the headers of an answer before they go out; a signal, so that streams get them too."""
    secure_headers(request, response)
    if request.app.get(PROXIES, _NO_PROXIES).is_https(request):
        response.headers["Strict-Transport-Security"] = f"max-age={_TWO_YEARS}"
    if allowance := request.get(ALLOWANCE):
        response.headers.update(allowance.headers())


def secure_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """The headers that every answer has, whoever gives it."""
    headers = response.headers
    headers["Server"] = "assessmentstore"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Content-Security-Policy", _POLICY)
    headers.setdefault("Referrer-Policy", "no-referrer")
    if response.status >= 400 or request.method not in ("GET", "HEAD"):
        headers["Cache-Control"] = "no-store"
    else:
        headers.setdefault("Cache-Control", "no-store")
