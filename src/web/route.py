"""One route of the API: how it is served, and what is promised of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from ..models.errors import ErrorCode
from ..models.filters import Query
from .auth import Permission
from .errors import REGISTRY
from .middleware import Handler
from .queries import without_query

REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
"""A body that did not arrive; no code of the registry, since HTTP itself says so."""

_ANY_ID = "{id:[^/]+}"

_CLOSED_ERRORS = (
    ErrorCode.VALIDATION_ERROR,
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN,
    ErrorCode.RATE_LIMITED,
    ErrorCode.INTERNAL_ERROR,
    ErrorCode.SERVICE_UNAVAILABLE,
)
_BODY_ERRORS = (REQUEST_TIMEOUT, ErrorCode.PAYLOAD_TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request may carry."""

    of: type[BaseModel]
    is_list: bool = False
    most_items: int = 1
    required: bool = True
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer that is no error."""

    description: str
    of: type[BaseModel] | None = None
    """What it is as JSON."""
    text: str = ""
    """The media type that it has as a text; without either there is no body."""
    headers: tuple[str, ...] = ()
    """Names of the headers that it always has, or, with a question mark, may have."""
    example: Any = None


FRESH = ("Consistency-Token",)
"""The request headers of whatever reads."""

KEYED = ("Idempotency-Key", "traceparent")
"""Those of what is done once, however often it is asked for."""

UNCHANGED = Reply(description="It is the one that `If-None-Match` names.", headers=("ETag",))


def done(description: str, of: type[BaseModel]) -> Reply:
    """The answer to a request that is answered once."""
    return Reply(description=description, of=of, headers=("Idempotency-Replayed?", "Consistency-Token?"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route; the router, the OpenAPI document, the pages and the tests are made of these."""

    method: str
    path: str
    name: str
    """Unique, for generated clients: the `operationId`."""
    handler: Handler
    group: str
    summary: str
    description: str = ""
    permission: Permission | None = None
    """Without one the route is open to everybody."""
    query: type[Query] | None = None
    """Its parameters, which the handler reads; without any the route has none, and refuses them."""
    is_probe: bool = False
    """Whether it tells how the process is, and so ignores whatever parameters probes add."""
    headers: tuple[str, ...] = ()
    """Names of the request headers that mean something here."""
    body: Body | None = None
    replies: Mapping[HTTPStatus, Reply]
    errors: tuple[ErrorCode, ...] = ()
    """Those of its own, besides the ones of every route that has a token, a body or an id in its path."""
    can_fail: bool = True
    """Whether there is anything behind it that may be broken."""
    streams: bool = False

    @property
    def methods(self) -> set[str]:
        """What it answers; the HEAD of a stream would never end."""
        return {"GET", "HEAD"} if self.method == "GET" and not self.streams else {self.method}

    @property
    def has_id(self) -> bool:
        """Whether it is about one assessment."""
        return "{id}" in self.path

    @property
    def failures(self) -> dict[int, list[str]]:
        """The codes that it may answer, by status."""
        found: dict[int, list[str]] = {}
        for status, code in self._failures():
            if code not in found.setdefault(status, []):
                found[status].append(code)
        return dict(sorted(found.items()))

    def _failures(self) -> Iterator[tuple[int, str]]:
        if self.permission is None:
            broken = (ErrorCode.INTERNAL_ERROR,) if self.can_fail else ()
            usual: tuple[str, ...] = broken if self.is_probe else (ErrorCode.VALIDATION_ERROR, *broken)
        else:
            usual = (
                *_CLOSED_ERRORS,
                *((ErrorCode.NOT_FOUND,) if self.has_id else ()),
                *((ErrorCode.WEBHOOK_NOT_FOUND,) if "{webhook}" in self.path else ()),
                *(_BODY_ERRORS if self.body else ()),
            )
        for code in (*usual, *self.errors):
            yield (HTTPStatus.REQUEST_TIMEOUT if code == REQUEST_TIMEOUT else REGISTRY[ErrorCode(code)][0]), code
        if ErrorCode.OPTIMISTIC_LOCK_FAILED in self.errors and "If-Match" in self.headers:
            yield HTTPStatus.PRECONDITION_FAILED, ErrorCode.OPTIMISTIC_LOCK_FAILED


def add_routes(router: web.UrlDispatcher, routes: Sequence[Route]) -> None:
    """Serve routes; a path that is all words is never taken for one with an id, whatever the method is."""
    with_ids = [re.compile(route.path.replace("{id}", "[^/]+")) for route in routes if route.has_id]
    for route in routes:
        path = route.path.replace("{id}", _ANY_ID)
        handler = route.handler if route.query or route.is_probe else without_query(route.handler)
        for method in sorted(route.methods):
            router.add_route(method, path, handler)
        if not route.has_id and any(pattern.fullmatch(route.path) for pattern in with_ids):
            router.add_route("*", path, _refuse(route.methods))


def _refuse(allowed: Collection[str]) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, allowed)

    return handle
