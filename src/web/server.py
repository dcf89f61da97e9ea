"""How the application meets the network: limits of a connection, and our own words for what is not even a request.

aiohttp answers what it cannot parse by itself, as text that quotes the parser. Its class of connections and the place
that makes them are private; there is no other way to have these answers look like all others.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from ..models.errors import ErrorCode
from ..telemetry import ERRORS
from .admission import secure_headers
from .errors import from_aiohttp, problem, respond

logger = logging.getLogger(__name__)

# Requests in flight are answered at once when a stop begins; this is for those that write their answer just then.
_SHUTDOWN_SECONDS = 2.0

# A connection that has sent no whole header within this time is closed; longer than load balancers keep theirs.
_IDLE_SECONDS = 75.0

# Bytes of a request line or a header, and how many headers there may be.
_LONGEST_LINE = 8190
_MOST_HEADERS = 100


class Runner(web.AppRunner):
    """Run an application with answers of its own to everything."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        defaults: dict[str, Any] = {
            # Without cancellation a wait would outlive its client by up to its timeout.
            "handler_cancellation": True,
            # Bodies are unpacked by whoever reads them, who sees whether they are whole.
            "auto_decompress": False,
            "access_log": None,
            "shutdown_timeout": _SHUTDOWN_SECONDS,
            "keepalive_timeout": _IDLE_SECONDS,
            "max_line_size": _LONGEST_LINE,
            "max_field_size": _LONGEST_LINE,
            "max_headers": _MOST_HEADERS,
        }
        super().__init__(app, **(defaults | options))

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            _answer_refusals(made.request_handler),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> _Connection:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what no handler could; the connection ends with it."""
        if status == HTTPStatus.BAD_REQUEST:
            logger.info("Not an HTTP request: %s", message, extra={"action": "bad_request"})
            found = problem(ErrorCode.VALIDATION_ERROR, "This is not a valid HTTP request")
        else:
            logger.error("A request failed", exc_info=exc, extra={"action": "request_failed"})
            found = problem(ErrorCode.INTERNAL_ERROR, "Internal server error")
        ERRORS.labels(found.code).inc()
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun: it cannot become an error any more")
        response = web.Response(body=orjson.dumps(found.envelope()), status=found.status, headers={"Vary": "Accept"})
        response.content_type = "application/json"
        secure_headers(request, response)
        response.force_close()
        return response


def _answer_refusals(handle: Any) -> Any:
    """What aiohttp refuses before any middleware, like an `Expect` that it does not know."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handle(request)
        except web.HTTPException as error:
            if error.status < HTTPStatus.BAD_REQUEST:
                raise
            return respond(request, from_aiohttp(request, error))
        return response

    return answer
