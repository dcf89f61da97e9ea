"""The routes that change an assessment: each puts one command on Kafka."""

from __future__ import annotations

from urllib.parse import quote
from uuid import UUID, uuid4, uuid5

from aiohttp import web
from structlog.contextvars import bind_contextvars

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.commands import CommandType
from ..models.errors import ErrorCode, RejectedError, Rejection
from .auth import Permission, User, authorize
from .bodies import read_object
from .commands import COMMANDS, Applied
from .headers import REPLAYED, entity_tag, expected_version, idempotency_key, prefers_async
from .keys import keys_of
from .middleware import Handler
from .outgoing import Caller, Outgoing, prepare
from .reads import json_response, path_id, state_response, visible

ACTIONS: dict[str, tuple[CommandType, Permission]] = {
    "start": (CommandType.START, Permission.UPDATE),
    "progress": (CommandType.PROGRESS, Permission.UPDATE),
    "complete": (CommandType.COMPLETE, Permission.UPDATE),
    "fail": (CommandType.FAIL, Permission.UPDATE),
    "cancel": (CommandType.CANCEL, Permission.CANCEL),
    "retry": (CommandType.RETRY, Permission.RETRY),
}
"""`POST /assessments/{id}/<name>`, its command, and who may send it."""

# The ids of creates that name none but carry an Idempotency-Key: a retry has to meet the same assessment.
_NAMESPACE = UUID("6f1a1c5e-5d0b-5a53-9c39-0c7f2b0c6d51")


async def create(request: web.Request) -> web.Response:
    """`POST /assessments`."""
    user = authorize(request, Permission.CREATE)
    body = await read_object(request)
    key = idempotency_key(request.headers.getall("Idempotency-Key", []))
    if "userId" in body:
        body["userId"] = user.id
    command = _prepare(request, CommandType.CREATE, _new_id(body, user, key), body, key=key)
    location = {"Location": _location(command)}
    if prefers_async(request.headers.getall("Prefer", [])):
        return await _accept(request, command)
    applied = await request.app[COMMANDS].apply(command)
    record = _accepted(command, applied)
    answer = {
        "assessmentId": record.assessment_id,
        "status": "created",
        "message": "Assessment created successfully",
        "estimatedTime": record.estimated_time,
        "version": record.version,
    }
    headers = location | {"ETag": entity_tag(record.version)} | _replayed(applied)
    return json_response(answer, status=201, headers=headers)


def command_handler(command_type: CommandType, permission: Permission) -> Handler:
    """The handler of one command on an existing assessment."""

    async def handle(request: web.Request) -> web.Response:
        user = authorize(request, permission)
        body = await read_object(request)
        key = idempotency_key(request.headers.getall("Idempotency-Key", []))
        version = expected_version(request.headers.getall("If-Match", []))
        command = _prepare(request, command_type, path_id(request), body, key=key, version=version)
        await visible(request, user)
        if prefers_async(request.headers.getall("Prefer", [])):
            return await _accept(request, command)
        applied = await request.app[COMMANDS].apply(command)
        return state_response(_accepted(command, applied), headers=_replayed(applied))

    return handle


def _prepare(
    request: web.Request,
    command_type: CommandType,
    assessment_id: str,
    body: JsonObject,
    *,
    key: str | None,
    version: int | None = None,
) -> Outgoing:
    command_id = key or str(uuid4())
    bind_contextvars(assessment_id=assessment_id, command_id=command_id)
    return prepare(
        command_type,
        assessment_id,
        body,
        command_id=command_id,
        caller=Caller.of(request),
        reply_to=request.app[COMMANDS].instance,
        expected_version=version,
        keys=keys_of(request),
    )


async def _accept(request: web.Request, command: Outgoing) -> web.Response:
    """Answer as soon as Kafka has the command."""
    await request.app[COMMANDS].publish(command)
    header = command.header
    answer = {"assessmentId": header.assessment_id, "status": "accepted", "commandId": header.id}
    headers = {"Location": _location(command), "Preference-Applied": "respond-async"}
    return json_response(answer, status=202, headers=headers)


def _new_id(body: JsonObject, user: User, key: str | None) -> str:
    """The id that a create names, or a new one; one that is no text is left for the validation to name."""
    return named_id(body) or str(uuid4() if key is None else uuid5(_NAMESPACE, f"{user.id}\n{key}"))


def named_id(body: JsonObject) -> str | None:
    """The id that a create names."""
    named = next((body[name] for name in ("assessmentId", "id", "assessment_id") if body.get(name) is not None), None)
    return named if isinstance(named, str) and named else None


def _accepted(command: Outgoing, applied: Applied) -> AssessmentRecord:
    """The state after a command; RejectedError where it was refused."""
    if isinstance(applied.outcome, Rejection):
        replayed = applied.replayed and applied.outcome.code is not ErrorCode.IDEMPOTENCY_MISMATCH
        raise RejectedError(applied.outcome, assessment_id=command.header.assessment_id, replayed=replayed)
    return applied.outcome


def _replayed(applied: Applied) -> dict[str, str]:
    return REPLAYED if applied.replayed else {}


def _location(command: Outgoing) -> str:
    return f"/assessments/{quote(command.header.assessment_id, safe='')}"
