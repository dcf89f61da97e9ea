"""Reads of one assessment, over any source of states: the web's caches, or the worker's own table."""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web

from ..models.assessment import AssessmentRecord
from ..models.base import MAX_ID_LENGTH
from ..models.errors import ErrorCode, RejectedError, Rejection
from ..store.reads import StateSource
from .auth import Permission, User, authorize, check_owner
from .freshness import consistency
from .headers import entity_tag, none_match
from .past import at_time, at_version
from .patience import promptly
from .queries import read_query, wrong_parameters
from .requests import StateQuery

SOURCE = web.AppKey("source", StateSource)

STATE_PATH = "/assessments/{id:[^/]+}"

# A version that was just promised is usually a moment away; longer waits are what `/wait` is for.
_MIN_VERSION_SECONDS = 2.0
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25

# A version stays what it is. Only retention ends it, after which its id may be used again.
_KEPT = {"Cache-Control": "private, max-age=3600"}

_STATUS_MEMBERS = {"assessment_id", "state", "progress", "message", "created_at", "updated_at", "completed_at"}


async def get_state(request: web.Request) -> web.Response:
    """`GET /assessments/{id}`."""
    user = authorize(request, Permission.VIEW)
    query = read_query(request, StateQuery)
    record = await _at_least(request, user, query.min_version)
    headers: dict[str, str] = {}
    if query.at_version is not None or query.at is not None:
        record = await _as_it_was(request, user, record, query)
        headers = {} if query.at_version is None else _KEPT
    if none_match(request.headers.getall("If-None-Match", []), record.version):
        return web.Response(status=304, headers=_validators(record) | headers)
    return state_response(record, headers=headers)


async def get_status(request: web.Request) -> web.Response:
    """`GET /assessments/{id}/status`."""
    record = await visible(request, authorize(request, Permission.VIEW))
    body = record.model_dump(mode="json", by_alias=True, include=_STATUS_MEMBERS)
    body["status"] = body.pop("state")
    return json_response(body)


async def _as_it_was(request: web.Request, user: User, record: AssessmentRecord, query: StateQuery) -> AssessmentRecord:
    """The assessment at the version or at the time that a query asks for."""
    if query.at_version is None:
        assert query.at is not None  # noqa: S101 - one of them is
        return await at_time(request, record, query.at)
    if query.at is not None:
        raise wrong_parameters([("at", "not together with atVersion: send one of them")])
    if record.version < query.at_version:
        record = await visible(request, user, min_version=query.at_version)  # a cache may be behind
    return await at_version(request, record, query.at_version)


async def visible(request: web.Request, user: User, *, min_version: int = 0) -> AssessmentRecord:
    """The assessment that a request is about, as fresh as its `Consistency-Token` asks for.

    Raises:
        RejectedError: ASSESSMENT_NOT_FOUND, FORBIDDEN, or VALIDATION_ERROR for a token that is none.
        StaleError: nobody has applied as much as the token asks for.
        UnavailableError: nobody who knows it answers.
    """
    assessment_id = path_id(request)
    reading = request.app[SOURCE].get(assessment_id, min_version=min_version, positions=consistency(request))
    record = await promptly(reading)
    if record is None:
        raise RejectedError(Rejection.not_found(assessment_id), assessment_id=assessment_id)
    check_owner(user, record)
    return record


def path_id(request: web.Request) -> str:
    """The assessment id in the path.

    Raises:
        RejectedError: no assessment can have it.
    """
    assessment_id = request.match_info["id"]
    if len(assessment_id) > MAX_ID_LENGTH or "\x00" in assessment_id:
        raise RejectedError(Rejection.not_found(assessment_id[:MAX_ID_LENGTH].replace("\x00", "")))
    return assessment_id


def state_response(record: AssessmentRecord, *, headers: dict[str, str] | None = None) -> web.Response:
    """The whole state with its `ETag`."""
    headers = {"Content-Type": "application/json", **_validators(record), **(headers or {})}
    return web.Response(body=record.to_json(), headers=headers)


def json_response(body: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    content = orjson.dumps(body, option=orjson.OPT_UTC_Z)
    return web.Response(body=content, status=status, headers={"Content-Type": "application/json", **(headers or {})})


async def _at_least(request: web.Request, user: User, min_version: int) -> AssessmentRecord:
    """The assessment at a version or later, which may be a moment away; so may be its very creation."""
    deadline = asyncio.get_running_loop().time() + _MIN_VERSION_SECONDS
    pause = _FIRST_PAUSE
    while True:
        try:
            record = await visible(request, user, min_version=min_version)
            if record.version >= min_version:
                return record
            late: RejectedError = _too_old(record, min_version)
        except RejectedError as error:
            if min_version == 0 or error.rejection.code is not ErrorCode.NOT_FOUND:
                raise
            late = error
        if asyncio.get_running_loop().time() + pause > deadline:
            raise late
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def _too_old(record: AssessmentRecord, min_version: int) -> RejectedError:
    words = f"Assessment {record.assessment_id} is at version {record.version}, not yet at {min_version}: try again"
    details = {"minVersion": min_version, "version": record.version}
    return RejectedError(Rejection(ErrorCode.SERVICE_UNAVAILABLE, words, details), assessment_id=record.assessment_id)


def _validators(record: AssessmentRecord) -> dict[str, str]:
    # A copy may be kept, but never used without asking: states change at any moment.
    return {"ETag": entity_tag(record.version), "Cache-Control": "private, no-cache"}
