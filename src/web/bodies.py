"""Request bodies: one JSON object, or a long list that is taken item by item, within a bound of memory for all."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from aiohttp import web

from ..models.base import JsonObject, as_whole
from ..models.envelope import MAX_COMMAND_BYTES
from ..models.errors import ErrorCode, RejectedError, Rejection
from .outgoing import too_large
from .patience import Turns
from .unpacking import coding_of, read_unpacked

MAX_BATCH_BYTES = 64 * 1024 * 1024
"""The largest body of a batch: 10,000 items of six kilobytes."""

MAX_ITEMS = 10_000
"""The most items of a batch: a second or two of work, and an answer that still fits any client."""

# Whoever sends so slowly holds memory that others wait for.
_UPLOAD_SECONDS = 60.0

# To ask for the time at each bracket would cost as much as all the rest.
_BRACKETS_A_TURN = 1000

_SPACE = re.compile(rb"[ \t\r\n]*")
_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_SCALAR = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^\s,\[\]{}"]++', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a batch."""

    values: list[Any]
    """Each as it was parsed; a Rejection where it is too large to be."""
    digest: bytes
    """The same for the same JSON, however it is written."""


class Memory:
    """The bytes of bodies that are held at any one time, over all batches; who finds no room waits."""

    def __init__(self, total: int = MAX_BATCH_BYTES) -> None:
        self._free = total
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Hold so many bytes."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._free >= count)
            self._free -= count
        try:
            yield
        finally:
            self._free += count
            async with self._freed:
                self._freed.notify_all()


async def read_object(request: web.Request) -> JsonObject:
    """The JSON object in the body; an empty body is an empty object.

    Raises:
        RejectedError: PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE or VALIDATION_ERROR.
    """
    body = await read_json(request)
    if not isinstance(body, dict):
        raise RejectedError(Rejection.invalid("The body has to be a JSON object"))
    return body


async def read_json(request: web.Request) -> Any:
    """The JSON value in the body; an empty body is an empty object.

    Raises:
        RejectedError: PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE or VALIDATION_ERROR.
    """
    try:
        content = await _read(request)
    except web.HTTPRequestEntityTooLarge as error:
        raise too_large() from error
    return _parse(content) if content else {}


def whole_member(body: JsonObject, name: str, *, largest: int) -> int:
    """A member of the body from 0 to `largest`.

    Raises:
        RejectedError: it is missing, or something else.
    """
    value = as_whole(body.get(name))
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise RejectedError(Rejection.invalid(f"/{name}: send a whole number from 0 to {largest}"))
    return value


def size_of(request: web.Request) -> int:
    """The bytes that the body of a batch may take.

    Raises:
        RejectedError: PAYLOAD_TOO_LARGE.
    """
    size = MAX_BATCH_BYTES if request.content_length is None else request.content_length
    if size > MAX_BATCH_BYTES:
        raise _batch_too_large()
    # What comes compressed is larger than its length says.
    return MAX_BATCH_BYTES if "Content-Encoding" in request.headers else size


async def read_items(request: web.Request) -> Items:
    """The list in the body, item by item: to parse 64 MB at once would stop every other request for seconds.

    Raises:
        RejectedError: PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, or VALIDATION_ERROR where it is no list of
            1 to 10,000 items.
    """
    try:
        async with asyncio.timeout(_UPLOAD_SECONDS):
            content = await _read(request.clone(client_max_size=MAX_BATCH_BYTES))
    except web.HTTPRequestEntityTooLarge as error:
        raise _batch_too_large() from error
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
    turns, values, digest = Turns(), [], blake2b(digest_size=16)
    async for piece in _split(content, turns):
        value, canonical = _item(piece)
        digest.update(b"%d\n" % len(canonical) + canonical)
        values.append(value)
        await turns.give_way()
    if not values:
        raise RejectedError(Rejection.invalid("The list is empty: send 1 item at least"))
    if len(values) > MAX_ITEMS:
        words = f"The list has more than {MAX_ITEMS} items: send several batches"
        raise RejectedError(Rejection.invalid(words, limit=MAX_ITEMS))
    return Items(values, digest.digest())


async def _read(request: web.BaseRequest) -> bytes:
    size, limit = request.content_length or 0, request.client_max_size
    if size > limit:
        raise web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=size)
    coding = coding_of(request)
    try:
        content = await (read_unpacked(request, coding) if coding else request.read())
    except web.RequestPayloadError as error:
        words = "The body cannot be read: it is not what Transfer-Encoding says"
        raise RejectedError(Rejection.invalid(words)) from error
    stated = request.headers.get("Content-Type")
    if content and stated is not None and request.content_type != "application/json":
        words = f"The body is {request.content_type}: send application/json"
        raise RejectedError(Rejection(ErrorCode.UNSUPPORTED_MEDIA_TYPE, words))
    return content


def _parse(content: bytes | memoryview) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise RejectedError(Rejection.invalid(f"The body is not JSON: {error}")) from error


def _item(piece: memoryview) -> tuple[Any, bytes]:
    """An item, and bytes that are the same for the same JSON."""
    if len(piece) > MAX_COMMAND_BYTES:
        return too_large().rejection, bytes(piece)
    value = _parse(piece)
    try:
        return value, orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        # Nested too deep, which is refused when it is its turn.
        return value, bytes(piece)


async def _split(content: bytes, turns: Turns) -> AsyncIterator[memoryview]:
    """The pieces between the commas of a JSON list, one more than are taken at the most.

    What is not JSON within a piece is found when the piece is parsed.
    """
    view = memoryview(content)
    position = _after_space(content, 0)
    if content[position : position + 1] != b"[":
        raise RejectedError(Rejection.invalid("The body has to be a JSON list"))
    position = _after_space(content, position + 1)
    if content[position : position + 1] == b"]":
        _expect_end(content, position + 1)
        return
    for _ in range(MAX_ITEMS + 1):
        end = await _end_of_value(content, position, turns)
        yield view[position:end]
        position = _after_space(content, end)
        if content[position : position + 1] == b"]":
            _expect_end(content, position + 1)
            return
        if content[position : position + 1] != b",":
            raise _not_json("a comma or ] is missing", position)
        position = _after_space(content, position + 1)


async def _end_of_value(content: bytes, start: int, turns: Turns) -> int:
    if content[start : start + 1] not in (b"{", b"["):
        match = _SCALAR.match(content, start)
        if match is None:
            raise _not_json("a value is missing", start)
        return match.end()
    depth, position, brackets = 1, start + 1, 0
    while depth:
        bracket = _TO_BRACKET.match(content, position)
        position = bracket.end() if bracket else position
        if content[position : position + 1] in (b"{", b"["):
            depth += 1
        elif content[position : position + 1] in (b"}", b"]"):
            depth -= 1
        else:
            raise _not_json("it ends too early", position)
        position += 1
        brackets += 1
        if brackets % _BRACKETS_A_TURN == 0:
            await turns.give_way()
    return position


def _after_space(content: bytes, position: int) -> int:
    match = _SPACE.match(content, position)
    return match.end() if match else position


def _expect_end(content: bytes, position: int) -> None:
    if _after_space(content, position) != len(content):
        raise _not_json("something follows on the list", position)


def _not_json(reason: str, position: int) -> RejectedError:
    return RejectedError(Rejection.invalid(f"The body is not JSON: {reason} at byte {position}"))


def _batch_too_large() -> RejectedError:
    words = f"The batch is too large: the limit is {MAX_BATCH_BYTES} bytes"
    return RejectedError(Rejection(ErrorCode.PAYLOAD_TOO_LARGE, words, {"limit": MAX_BATCH_BYTES}))
