"""The HTTP face: `POST /assessments`, its status, its end, and health."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import orjson
from aiohttp import web
from pydantic import ValidationError

from ..models.assessment import AssessmentRequest
from ..models.compliance import ComplianceFault, ComplianceOrder, ComplianceRefusal, ComplianceReport
from ..models.errors import Rejection
from .assess import Assessor, ModeError
from .runs import BusyError, KeyReusedError, Runs

logger = logging.getLogger(__name__)

_AT_ONCE = 0.2
"""Seconds that an order is waited for: what ends within them is answered with its outcome."""

_RETRY_AFTER = "1"
_MOST_BYTES = 1024 * 1024
_OPEN = frozenset({"/health", "/ready"})

_RUNS: web.AppKey[Runs] = web.AppKey("runs", Runs)
_API_KEY: web.AppKey[bytes] = web.AppKey("api_key", bytes)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RefusedError(Exception):
    """A request is answered with an error of the protocol."""

    def __init__(self, status: HTTPStatus, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers


def build_app(assessor: Assessor, api_key: str, *, most_at_once: int) -> web.Application:
    """The whole server.

    Args:
        assessor: what carries out the assessments.
        api_key: what everybody has to bring as `Authorization: Bearer`.
        most_at_once: runs at the same time.
    """
    app = web.Application(middlewares=[_refusals, _authenticated], client_max_size=_MOST_BYTES)
    app[_API_KEY] = api_key.encode()
    app[_RUNS] = Runs(assessor, most_at_once=most_at_once)
    app.cleanup_ctx.append(_closed_runs)
    app.router.add_post("/assessments", _order)
    app.router.add_get("/assessments/{id}/status", _status)
    app.router.add_delete("/assessments/{id}", _stop)
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _health)
    return app


async def _order(request: web.Request) -> web.Response:
    order, wanted = _read(await request.read(), request.headers.get("Idempotency-Key"))
    trace = request.headers.get("traceparent")
    logger.info("Ordered: %s", order.idempotency_key, extra={"action": "ordered", "traceparent": trace})
    try:
        run = request.app[_RUNS].begin(order, wanted)
    except ModeError as error:
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", str(error)) from error
    except KeyReusedError as error:
        raise RefusedError(HTTPStatus.CONFLICT, "IDEMPOTENCY_MISMATCH", str(error)) from error
    except BusyError as error:
        limited = {"Retry-After": _RETRY_AFTER}
        raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "RATE_LIMITED", str(error), **limited) from error
    await asyncio.wait([run.task], timeout=_AT_ONCE)
    return _told(run.report, HTTPStatus.OK if run.report.has_ended else HTTPStatus.ACCEPTED)


def _read(body: bytes, key: str | None) -> tuple[ComplianceOrder, AssessmentRequest]:
    """The order, and the request in it."""
    try:
        order = ComplianceOrder.model_validate(orjson.loads(body))
        wanted = AssessmentRequest.model_validate(order.request)
    except orjson.JSONDecodeError as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", f"The body is not JSON: {error}") from error
    except ValidationError as error:
        words = Rejection.from_validation(error).message
        raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, "VALIDATION_ERROR", words) from error
    if key is not None and key != order.idempotency_key:
        words = f"The Idempotency-Key of this order is {order.idempotency_key}: send that, or none"
        raise RefusedError(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", words)
    return order, wanted


async def _status(request: web.Request) -> web.Response:
    assessment_id = request.match_info["id"]
    run = request.app[_RUNS].find(assessment_id, _attempt(request))
    if run is None:
        raise _unknown(assessment_id)
    return _told(run.report, HTTPStatus.OK)


async def _stop(request: web.Request) -> web.Response:
    assessment_id = request.match_info["id"]
    if not request.app[_RUNS].stop(assessment_id, _attempt(request)):
        raise _unknown(assessment_id)
    logger.info("Stopped: %s", assessment_id, extra={"action": "stopped"})
    return web.Response(status=HTTPStatus.NO_CONTENT)


def _attempt(request: web.Request) -> int | None:
    """The attempt that a call is about, where it is not about the assessment as a whole."""
    attempt = request.query.get("attempt")
    if attempt is None:
        return None
    if not (attempt.isascii() and attempt.isdigit()):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "VALIDATION_ERROR", "attempt: expected a whole number from 0")
    return int(attempt)


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"overall": "healthy"})


def _unknown(assessment_id: str) -> RefusedError:
    return RefusedError(HTTPStatus.NOT_FOUND, "ASSESSMENT_NOT_FOUND", f"No run of {assessment_id} is known here")


def _told(report: ComplianceReport, status: HTTPStatus) -> web.Response:
    body = orjson.dumps(report.to_wire(), option=orjson.OPT_UTC_Z)
    return web.Response(status=status, body=body, content_type="application/json")


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the words of the protocol."""
    try:
        return await handler(request)
    except RefusedError as error:
        return _refused(error)
    except web.HTTPException as error:
        status = HTTPStatus(error.status)
        return _refused(RefusedError(status, status.name, error.text or status.phrase))
    except Exception:
        logger.exception("A request failed", extra={"action": "request_failed"})
        return _refused(RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Internal server error"))


@web.middleware
async def _authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody in without the key, but to ask for health."""
    if request.path not in _OPEN:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(key.strip().encode(errors="surrogateescape"), request.app[_API_KEY])
        if scheme.lower() != "bearer" or not known:
            words = "Send the key of this server as Authorization: Bearer KEY"
            raise RefusedError(HTTPStatus.UNAUTHORIZED, "UNAUTHENTICATED", words, **{"WWW-Authenticate": "Bearer"})
    return await handler(request)


def _refused(error: RefusedError) -> web.Response:
    refusal = ComplianceRefusal(error=ComplianceFault(code=error.code, message=str(error)))
    body = orjson.dumps(refusal.to_wire())
    return web.Response(status=error.status, body=body, content_type="application/json", headers=error.headers)


async def _closed_runs(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[_RUNS].close()
