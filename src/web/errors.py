"""Errors over HTTP: one registry of codes, two renderings (the reference's envelope and RFC 9457), one middleware."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from ..models.errors import ErrorCode, RejectedError, StaleError, UnavailableError
from ..telemetry import ERRORS
from .admission import admit
from .headers import REPLAYED, accepts_problem
from .middleware import Handler, observe, route_pattern
from .refusals import note_refusal

logger = logging.getLogger(__name__)

REGISTRY: Mapping[ErrorCode, tuple[int, str]] = {
    ErrorCode.VALIDATION_ERROR: (400, "The request is not valid"),
    ErrorCode.UNAUTHENTICATED: (401, "A valid token is required"),
    ErrorCode.FORBIDDEN: (403, "Not allowed"),
    ErrorCode.NOT_FOUND: (404, "Assessment not found"),
    ErrorCode.WEBHOOK_NOT_FOUND: (404, "Webhook not found"),
    ErrorCode.TIMEOUT: (408, "The assessment has not ended in time"),
    ErrorCode.INVALID_STATE_TRANSITION: (409, "The state does not allow this"),
    ErrorCode.ALREADY_EXISTS: (409, "The assessment exists already"),
    ErrorCode.OPTIMISTIC_LOCK_FAILED: (409, "The assessment is at another version"),
    ErrorCode.PAYLOAD_TOO_LARGE: (413, "The body is too large"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "The body is not JSON"),
    ErrorCode.IDEMPOTENCY_MISMATCH: (422, "The key was used for another request"),
    ErrorCode.RATE_LIMITED: (429, "Too many requests"),
    ErrorCode.INTERNAL_ERROR: (500, "Internal server error"),
    ErrorCode.SERVICE_UNAVAILABLE: (503, "Not available for now"),
}
"""The status and the title of each code."""

# The reference counts failures of these routes under names of its own; ours are counted by code besides.
_SEED_TYPES = {
    ("POST", "/assessments"): "create_assessment_error",
    ("GET", "/assessments/{id}/status"): "get_status_error",
    ("GET", "/assessments/{id}/wait"): "wait_completion_error",
}

# Seconds after which a caller may try again: whatever is away is usually back soon, and a failing try is cheap.
_RETRY_AFTER = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as a response tells it."""

    status: int
    code: str
    title: str
    message: str
    assessment_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def envelope(self) -> dict[str, Any]:
        """The reference's body."""
        return {"error": {"code": self.code, "message": self.message, **self._members()}}

    def document(self, instance: str) -> dict[str, Any]:
        """The same as RFC 9457."""
        return {
            "type": f"urn:assessmentstore:problem:{self.code.lower().replace('_', '-')}",
            "title": self.title,
            "status": self.status,
            "detail": self.message,
            "instance": instance,
            "code": self.code,
            **self._members(),
        }

    def _members(self) -> dict[str, Any]:
        members = {"details": self.details or None, "assessmentId": self.assessment_id}
        return {name: value for name, value in members.items() if value is not None}


def problem(
    code: ErrorCode,
    message: str,
    *,
    details: Mapping[str, Any] | None = None,
    assessment_id: str | None = None,
    status: int | None = None,
) -> Problem:
    """A problem of the registry."""
    usual, title = REGISTRY[code]
    headers = {}
    if code is ErrorCode.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = _RETRY_AFTER
    if code is ErrorCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if details and "acceptEncoding" in details:  # RFC 9110, 12.5.3
        headers["Accept-Encoding"] = details["acceptEncoding"]
    if code is ErrorCode.RATE_LIMITED:
        headers["Retry-After"] = str((details or {}).get("retryAfter", _RETRY_AFTER))
    return Problem(
        status=status or usual,
        code=code,
        title=title,
        message=message,
        assessment_id=assessment_id,
        details=details or {},
        headers=headers,
    )


@web.middleware
async def render_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        found = from_aiohttp(request, error)
    except RejectedError as error:
        found = _from_rejection(request, error)
    except StaleError as error:
        found = _from_staleness(request, error)
    except UnavailableError as error:
        logger.warning("A request could not be answered: %s", error, extra={"action": "service_unavailable"})
        words = "The service cannot answer for now: try again"
        found = problem(ErrorCode.SERVICE_UNAVAILABLE, words, assessment_id=request.match_info.get("id"))
    except Exception:
        logger.exception("A request failed", extra={"action": "request_failed", "route": route_pattern(request)})
        found = problem(ErrorCode.INTERNAL_ERROR, "Internal server error")
    _note(request, found)
    return respond(request, found)


MIDDLEWARES = (observe, render_errors, admit)
"""What every application of ours wraps its handlers in, outermost first."""


def respond(request: web.Request, found: Problem) -> web.Response:
    """Answer with a problem in the rendering that the caller asks for."""
    if accepts_problem(request.headers.getall("Accept", [])):
        body, content_type = found.document(request.rel_url.raw_path), "application/problem+json"
    else:
        body, content_type = found.envelope(), "application/json"
    headers = {**found.headers, "Vary": "Accept", "Content-Type": content_type}
    response = web.Response(body=orjson.dumps(body), status=found.status, headers=headers)
    if found.status == HTTPStatus.REQUEST_TIMEOUT and found.code != ErrorCode.TIMEOUT:
        response.force_close()  # the rest of the request may come yet, and is no request of its own
    return response


def _from_rejection(request: web.Request, error: RejectedError) -> Problem:
    rejection = error.rejection
    preconditioned = rejection.code is ErrorCode.OPTIMISTIC_LOCK_FAILED and "If-Match" in request.headers
    found = problem(
        rejection.code,
        rejection.message,
        details=rejection.details,
        assessment_id=error.assessment_id or request.match_info.get("id"),
        status=HTTPStatus.PRECONDITION_FAILED if preconditioned else None,
    )
    return replace(found, headers={**found.headers, **REPLAYED}) if error.replayed else found


def _from_staleness(request: web.Request, error: StaleError) -> Problem:
    words = f"{error}: try again, or read without it"
    details = {"lag": {str(partition): count for partition, count in error.lag.items()}}
    assessment_id = request.match_info.get("id")
    return problem(ErrorCode.SERVICE_UNAVAILABLE, words, details=details, assessment_id=assessment_id)


def from_aiohttp(request: web.Request, error: web.HTTPException) -> Problem:
    """What aiohttp itself refuses: no such route, another method, a body that cannot be read."""
    status = HTTPStatus(error.status)
    words = {
        HTTPStatus.NOT_FOUND: f"There is nothing at {request.rel_url.raw_path}",
        HTTPStatus.REQUEST_TIMEOUT: error.reason,
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible at {request.rel_url.raw_path}",
    }
    headers = {name: value for name, value in error.headers.items() if name == "Allow"}
    message = words.get(status, status.description or status.phrase)
    return Problem(status=status, code=status.name, title=status.phrase, message=message, headers=headers)


def _note(request: web.Request, found: Problem) -> None:
    """Count an error; audit a refusal, and log one of access with the user and the route."""
    route = route_pattern(request)
    ERRORS.labels(found.code).inc()
    if seed_type := _SEED_TYPES.get((request.method, route)):
        ERRORS.labels(seed_type).inc()
    note_refusal(
        request,
        status=found.status,
        code=found.code,
        message=found.message,
        assessment_id=found.assessment_id or request.match_info.get("id"),
    )
    if found.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        logger.warning(
            "Access refused: %s",
            found.message,
            extra={"action": "access_refused", "route": f"{request.method} {route}"},
        )
