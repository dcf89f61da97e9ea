"""Webhooks: who wants to be told, and where; the workers tell them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from uuid import UUID, uuid4

import orjson
from aiohttp import web
from pydantic import ValidationError

from ..models.base import JsonObject
from ..models.errors import ErrorCode, RejectedError, Rejection
from ..models.filters import WebhooksQuery
from ..models.targets import ForbiddenTargetError, Targets
from ..models.webhooks import Webhook, WebhookDelivery, WebhookList, WebhookRequest, new_secret
from ..store.webhooks import MOST_OF_ONE_OWNER, WebhookStore
from .auth import Permission, User, authorize
from .bodies import read_object
from .once import ONCE, Work
from .patience import promptly
from .queries import read_query, wrong_parameters
from .reads import json_response

Plan = Callable[[], Awaitable[JsonObject]]
Do = Callable[[str, JsonObject], Awaitable[JsonObject]]

WEBHOOKS = web.AppKey("webhooks", WebhookStore)
TARGETS = web.AppKey("targets", Targets)


async def register(request: web.Request) -> web.Response:
    """`POST /webhooks`."""
    user = authorize(request, Permission.WEBHOOKS)
    body = await read_object(request)
    wanted = _wanted(request, body)

    async def plan() -> JsonObject:
        return {"id": str(uuid4()), "secret": new_secret()}

    async def do(_key: str, plan: JsonObject) -> JsonObject:
        number, secret = UUID(plan["id"]), plan["secret"]
        putting = request.app[WEBHOOKS].put(number, user.id, wanted, secret, sees_everything=user.sees_everything)
        made = await promptly(putting)
        if made is None:
            words = f"You have {MOST_OF_ONE_OWNER} webhooks, which is the most: delete one first"
            raise RejectedError(Rejection.invalid(words, limit=MOST_OF_ONE_OWNER))
        return _json(made)

    answer = await _once(request, user, "webhook", orjson.dumps(body, option=orjson.OPT_SORT_KEYS), plan, do)
    answer.set_status(201)
    return answer


async def get_webhooks(request: web.Request) -> web.Response:
    """`GET /webhooks`."""
    user = authorize(request, Permission.WEBHOOKS)
    query = read_query(request, WebhooksQuery)
    try:
        return json_response(_json(await promptly(request.app[WEBHOOKS].page(user.scope, query.limit, query.cursor))))
    except ValueError as error:
        raise wrong_parameters([("cursor", "not one of webhooks: begin without a cursor")]) from error


async def get_webhook(request: web.Request) -> web.Response:
    """`GET /webhooks/{webhook}`."""
    webhook, _ = await _own(request)
    return json_response(_json(webhook))


async def delete_webhook(request: web.Request) -> web.Response:
    """`DELETE /webhooks/{webhook}`."""
    webhook, _ = await _own(request)
    await promptly(request.app[WEBHOOKS].delete(webhook.id))
    return web.Response(status=204)


async def get_deliveries(request: web.Request) -> web.Response:
    """`GET /webhooks/{webhook}/deliveries`."""
    webhook, _ = await _own(request)
    found = await promptly(request.app[WEBHOOKS].deliveries(webhook.id))
    return json_response({"deliveries": [_json(delivery) for delivery in found]})


async def try_webhook(request: web.Request) -> web.Response:
    """`POST /webhooks/{webhook}/test`."""
    webhook, user = await _own(request)

    async def do(_key: str, _plan: JsonObject) -> JsonObject:
        await promptly(request.app[WEBHOOKS].try_out(webhook.id))
        return {"webhookId": str(webhook.id)}

    answer = await _once(request, user, "webhook test", webhook.id.bytes, _no_plan, do)
    answer.set_status(202)
    return answer


async def resume_webhook(request: web.Request) -> web.Response:
    """`POST /webhooks/{webhook}/resume`."""
    webhook, user = await _own(request)

    async def do(_key: str, _plan: JsonObject) -> JsonObject:
        await promptly(request.app[WEBHOOKS].resume(webhook.id))
        return _json(await _found(request, webhook.id))

    return await _once(request, user, "webhook resume", webhook.id.bytes, _no_plan, do)


async def rotate_webhook(request: web.Request) -> web.Response:
    """`POST /webhooks/{webhook}/rotate`."""
    webhook, user = await _own(request)

    async def plan() -> JsonObject:
        return {"secret": new_secret()}

    async def do(_key: str, plan: JsonObject) -> JsonObject:
        rotated = await promptly(request.app[WEBHOOKS].rotate(webhook.id, plan["secret"]))
        if rotated is None:
            raise _unknown(str(webhook.id))
        return _json(rotated)

    return await _once(request, user, "webhook rotate", webhook.id.bytes, plan, do)


def _wanted(request: web.Request, body: JsonObject) -> WebhookRequest:
    """What a body asks for, if the URL may be told anything.

    Raises:
        RejectedError: VALIDATION_ERROR.
    """
    try:
        wanted = WebhookRequest.model_validate(body)
    except ValidationError as error:
        raise RejectedError(Rejection.from_validation(error)) from error
    if any("\x00" in text for text in (wanted.description or "", wanted.assessment_id or "")):
        raise RejectedError(Rejection.invalid("a text has a null byte, which cannot be stored"))
    try:
        request.app[TARGETS].check_url(wanted.url)
    except ForbiddenTargetError as error:
        errors = [{"pointer": "/url", "message": str(error)}]
        raise RejectedError(Rejection.invalid(f"/url: {error}", errors=errors)) from error
    return wanted


async def _own(request: web.Request) -> tuple[Webhook, User]:
    """The webhook that a request is about, and whoever asks and may see to it.

    Raises:
        RejectedError: FORBIDDEN, or WEBHOOK_NOT_FOUND, which somebody else's is too: its id is nobody's business.
        UnavailableError: Postgres is away.
    """
    user = authorize(request, Permission.WEBHOOKS)
    try:
        number = UUID(request.match_info["webhook"])
    except ValueError as error:
        raise _unknown(request.match_info["webhook"]) from error
    webhook = await _found(request, number)
    if not user.sees(webhook.owner):
        raise _unknown(str(number))
    return webhook, user


async def _found(request: web.Request, number: UUID) -> Webhook:
    webhook = await promptly(request.app[WEBHOOKS].get(number))
    if webhook is None:
        raise _unknown(str(number))
    return webhook


async def _once(request: web.Request, user: User, name: str, content: bytes, plan: Plan, do: Do) -> web.Response:
    # Plans and answers have secrets.
    work = Work(name=name, digest=blake2b(content, digest_size=16).digest(), plan=plan, do=do, is_secret=True)
    return await request.app[ONCE].answer(request, user.id, work)


async def _no_plan() -> JsonObject:
    return {}


def _json(told: Webhook | WebhookDelivery | WebhookList) -> JsonObject:
    """What is told, as JSON has it: a driver's ids are of a type that orjson does not know."""
    return told.model_dump(mode="json", by_alias=True)


def _unknown(name: str) -> RejectedError:
    return RejectedError(Rejection(ErrorCode.WEBHOOK_NOT_FOUND, f"Webhook {name[:100]} not found"))
