"""The answers of a compliance server: a report of the agreed shape, or a fault that says what is wrong with it."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

import aiohttp
import orjson
from pydantic import ValidationError

from ..client.retries import retry_after
from ..models.compliance import ComplianceRefusal, ComplianceReport
from ..models.errors import Rejection
from ..models.storable import unstorable
from .faults import ComplianceError, FaultKind

MAX_ANSWER_BYTES = 10 * 1024 * 1024
"""The largest answer that is read; what does not end by then is broken off."""

_REPORTS = frozenset({200, 202})
_AGAIN = frozenset({408, 425, 429})
_MISCONFIGURED = frozenset({401, 403, 404, 405})

# What is told of a server's words: the rest is in its own log.
_TOLD_CHARACTERS = 500


class Answer(NamedTuple):
    """What a server says of an attempt."""

    report: ComplianceReport
    ask_after: float | None
    """Seconds that it wants to be left alone before it is asked again."""


async def read_answer(server: str, response: aiohttp.ClientResponse, assessment_id: str) -> Answer:
    """Read a report on an assessment.

    Args:
        server: that answers.
        response: whose body was not read yet.
        assessment_id: that it has to be about.

    Raises:
        ComplianceError: it is none.
    """
    body = await _read(server, response)
    if response.status not in _REPORTS:
        refuse(server, response, body)
    report = parse_report(server, body)
    if report.assessment_id != assessment_id:
        what = f"it was asked about {assessment_id} and answers about {report.assessment_id[:_TOLD_CHARACTERS]}"
        raise ComplianceError(FaultKind.BAD_ANSWER, server, what)
    return Answer(report, retry_after(response.headers.get("Retry-After")))


def parse_report(server: str, body: bytes) -> ComplianceReport:
    """Read the body of a report.

    Raises:
        ComplianceError: BAD_ANSWER, it is none, or has what cannot be stored.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ComplianceError(FaultKind.BAD_ANSWER, server, f"its answer is not JSON: {error}") from error
    if reason := unstorable(content):
        raise ComplianceError(FaultKind.BAD_ANSWER, server, f"its answer cannot be stored: {reason}")
    try:
        return ComplianceReport.model_validate(content)
    except ValidationError as error:
        what = f"its answer has not the agreed shape: {Rejection.from_validation(error).message}"
        raise ComplianceError(FaultKind.BAD_ANSWER, server, what) from error


async def expect_forgotten(server: str, response: aiohttp.ClientResponse) -> None:
    """Read the answer to a DELETE.

    Raises:
        ComplianceError: the server may still work on the assessment.
    """
    body = await _read(server, response)
    if response.status != 404 and not 200 <= response.status < 300:
        refuse(server, response, body)


def refuse(server: str, response: aiohttp.ClientResponse, body: bytes) -> NoReturn:
    """Tell what a status that promises no report means.

    Raises:
        ComplianceError: always.
    """
    status, after = response.status, retry_after(response.headers.get("Retry-After"))
    told = f"it answers {status}{_words(body)}"
    if status in _AGAIN:
        raise ComplianceError(FaultKind.BUSY, server, told, retry_after=after)
    if status in _MISCONFIGURED or 300 <= status < 400:
        words = f"{told}: check ASSESSMENTSTORE_COMPLIANCE_URL and ASSESSMENTSTORE_COMPLIANCE_API_KEY"
        raise ComplianceError(FaultKind.MISCONFIGURED, server, words)
    if status >= 500:
        raise ComplianceError(FaultKind.SERVER_ERROR, server, told, retry_after=after)
    raise ComplianceError(FaultKind.REFUSED if status >= 400 else FaultKind.BAD_ANSWER, server, told)


def _words(body: bytes) -> str:
    """The server's own words, where its answer has the agreed shape."""
    try:
        refusal = ComplianceRefusal.model_validate_json(body)
    except ValidationError:
        return ""
    told = f"{refusal.error.code}: {refusal.error.message}"[:_TOLD_CHARACTERS].replace("\x00", "")
    return f" {told}"


async def _read(server: str, response: aiohttp.ClientResponse) -> bytes:
    """The whole body, within the limit."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            what = f"its answer did not end within {MAX_ANSWER_BYTES // 1024 // 1024} MiB"
            raise ComplianceError(FaultKind.TOO_LARGE, server, what)
    return bytes(body)
