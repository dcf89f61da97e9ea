"""The batch routes: thousands of commands in one request, one answer for each, by its place in the request.

The ids of a batch's commands are made of the user, the Idempotency-Key and the place, and so are those of assessments
that name none: a repeat sends the very same commands, which have no second effect. They never meet the ids of single
requests, where the key itself is the command id; one key may serve a batch and a single request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid5

from aiohttp import web

from ..models.base import MAX_ID_LENGTH, JsonObject
from ..models.commands import CommandType
from ..models.errors import RejectedError, Rejection
from ..store.batches import BulkReader, Settled
from .auth import Permission, User, authorize, foreign
from .bodies import MAX_ITEMS, Memory, read_items, read_object, size_of, whole_member
from .bulk import BULK
from .keys import keys_of
from .once import ONCE, Work
from .outgoing import Caller, Outgoing, prepare
from .patience import Turns, promptly
from .requests import LARGEST_COUNT
from .writes import named_id

BULK_READER = web.AppKey("bulk_reader", BulkReader)
MEMORY = web.AppKey("memory", Memory)

_COMMAND_IDS = UUID("2b6f6c0e-51b5-5a0f-8e55-0a3c1d9f7b11")
_ASSESSMENT_IDS = UUID("b0f7a9f2-7a34-5b0c-9a07-5b9e8a3f6c52")


@dataclass(frozen=True, slots=True)
class _Item:
    """One command before it is checked."""

    assessment_id: str
    data: JsonObject
    expected_version: int | None = None


async def create_batch(request: web.Request) -> web.Response:
    """`POST /assessments/batch`."""
    user = authorize(request, Permission.CREATE)
    async with request.app[MEMORY].taken(size_of(request)):
        items = await read_items(request)

        async def plan() -> JsonObject:
            return {}

        async def do(key: str, _plan: JsonObject) -> JsonObject:
            def item(index: int) -> _Item:
                body = _object(items.values[index])
                if "userId" in body:
                    body = body | {"userId": user.id}
                return _Item(named_id(body) or _id(_ASSESSMENT_IDS, user.id, key, index), body)

            results = await _apply(request, key, CommandType.CREATE, len(items.values), item)
            return {
                "assessmentIds": [found for found, settled in results if not isinstance(settled, Rejection)],
                "errors": [
                    {"index": index, **_error(settled)}
                    for index, (_, settled) in enumerate(results)
                    if isinstance(settled, Rejection)
                ],
            }

        work = Work(name="create", digest=items.digest, plan=plan, do=do)
        return await request.app[ONCE].answer(request, user.id, work)


async def progress_batch(request: web.Request) -> web.Response:
    """`POST /assessments/batch/progress`."""
    user = authorize(request, Permission.UPDATE)
    async with request.app[MEMORY].taken(size_of(request)):
        items = await read_items(request)

        async def plan() -> JsonObject:
            return await _out_of_reach(request, user, [_named(value) for value in items.values])

        async def do(key: str, plan: JsonObject) -> JsonObject:
            refused = _refusals(plan, items.values)

            def item(index: int) -> _Item:
                body = _object(items.values[index])
                if not isinstance(body.get("assessmentId"), str) or not body["assessmentId"]:
                    raise RejectedError(Rejection.invalid("/assessmentId: say which assessment"))
                return _Item(body["assessmentId"], {name: body[name] for name in body if name != "assessmentId"})

            count = len(items.values)
            results = await _apply(request, key, CommandType.PROGRESS, count, item, refused=refused)
            return {
                "results": [
                    {"index": index, "assessmentId": _named(items.values[index]), **_result(settled)}
                    for index, (_, settled) in enumerate(results)
                ]
            }

        work = Work(name="progress", digest=items.digest, plan=plan, do=do)
        return await request.app[ONCE].answer(request, user.id, work)


async def retry_batch(request: web.Request) -> web.Response:
    """`POST /assessments/batch/retry`."""
    user = authorize(request, Permission.RETRY)
    most = whole_member(await read_object(request), "maxRetries", largest=LARGEST_COUNT)

    async def plan() -> JsonObject:
        selected = await promptly(request.app[BULK_READER].retryable(most, owner=user.scope, limit=MAX_ITEMS))
        return {"selected": selected}

    async def do(key: str, plan: JsonObject) -> JsonObject:
        selected = plan["selected"]

        def item(index: int) -> _Item:
            assessment_id, version = selected[index]
            return _Item(assessment_id, {}, version)

        results = await _apply(request, key, CommandType.RETRY, len(selected), item)
        # Refused are those that somebody else changed since they were selected, and nothing else can be.
        return {"assessmentIds": [found for found, settled in results if not isinstance(settled, Rejection)]}

    return await request.app[ONCE].answer(request, user.id, Work(name="retry", digest=b"%d" % most, plan=plan, do=do))


async def _apply(
    request: web.Request,
    key: str,
    command_type: CommandType,
    count: int,
    item: Callable[[int], _Item],
    *,
    refused: Mapping[int, Rejection] = MappingProxyType({}),
) -> list[tuple[str, Settled]]:
    """Check all commands, send those that are right, and tell the assessment and the outcome of each."""
    bulk, turns, caller = request.app[BULK], Turns(), Caller.of(request)
    checked: list[str | Rejection] = []

    async def commands() -> AsyncIterator[Outgoing]:
        for index in range(count):
            await turns.give_way()
            try:
                command = _prepare(request, caller, command_type, item(index), place=(key, index, count))
            except RejectedError as error:
                checked.append(error.rejection)
                continue
            checked.append(refused.get(index, command.header.assessment_id))
            if index not in refused:
                yield command

    settled = iter(await bulk.apply_all(commands(), count=count, key=key))
    return [("", one) if isinstance(one, Rejection) else (one, next(settled)) for one in checked]


def _prepare(
    request: web.Request, caller: Caller, command_type: CommandType, item: _Item, *, place: tuple[str, int, int]
) -> Outgoing:
    key, index, count = place
    return prepare(
        command_type,
        item.assessment_id,
        item.data,
        command_id=_id(_COMMAND_IDS, caller.user_id, key, index),
        caller=caller,
        reply_to=request.app[BULK].reply_to(index, count),
        expected_version=item.expected_version,
        keys=keys_of(request),
    )


async def _out_of_reach(request: web.Request, user: User, names: Sequence[str | None]) -> JsonObject:
    """The places of items whose assessment does not exist, or is somebody else's."""
    ids = {name for name in names if name and len(name) <= MAX_ID_LENGTH and "\x00" not in name}
    owners = await promptly(request.app[BULK_READER].owners(ids))
    asked = [(index, name) for index, name in enumerate(names) if name in ids]
    return {
        "unknown": [index for index, name in asked if name not in owners],
        "foreign": [index for index, name in asked if name in owners and not user.sees(owners[name])],
    }


def _refusals(plan: JsonObject, values: Sequence[Any]) -> dict[int, Rejection]:
    refusals = {index: Rejection.not_found(values[index]["assessmentId"]) for index in plan["unknown"]}
    return refusals | {index: foreign(values[index]["assessmentId"]) for index in plan["foreign"]}


def _object(value: Any) -> JsonObject:
    if isinstance(value, Rejection):
        raise RejectedError(value)
    if not isinstance(value, dict):
        raise RejectedError(Rejection.invalid("The item has to be a JSON object"))
    return value


def _named(value: Any) -> str | None:
    """The assessment that an item names."""
    name = value.get("assessmentId") if isinstance(value, dict) else None
    return name if isinstance(name, str) and name else None


def _result(settled: Settled) -> JsonObject:
    return _error(settled) if isinstance(settled, Rejection) else {"version": settled}


def _error(rejection: Rejection) -> JsonObject:
    return {"code": rejection.code, "message": rejection.message}


def _id(namespace: UUID, user_id: str, key: str, index: int) -> str:
    # No key has a line break: the last two lines tell key and place from whatever the user id has.
    return str(uuid5(namespace, f"{user_id}\n{key}\n{index}"))
