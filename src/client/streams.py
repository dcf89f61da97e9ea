"""Events as they happen: one stream over however many connections it takes, without a loss or a repetition."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
import orjson

from ..models.assessment import UNCHANGING_STATES
from ..models.events import AssessmentEvent, event_from_json
from .errors import UNEXPECTED_ANSWER, ClientError
from .queries import QueryItems
from .retries import spread
from .sse import Message, SseParser
from .transport import Transport, assessment_path, read_answer, refusal

_EVENT_STREAM = "text/event-stream"
_RESET = "reset"
_NO_CONTENT = 204

# Until the server has told its own number.
_RETRY_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Reset:
    """Events were lost to this stream, and it goes on from a later position: read anew what you keep."""

    reason: str
    """`deleted`: they are no more; `future`, `malformed`: the position was not one of this server."""
    position: str


class EventStream:
    """The events of one assessment, or of all that the user may see: iterate over it.

    It comes back by itself when the connection or the server is lost, where it was, and ends when no event can follow.
    In `async with` it stands when the block begins: nothing that happens from then on is missed.
    """

    def __init__(
        self, transport: Transport, assessment_id: str | None, query: QueryItems, last_event_id: str | None
    ) -> None:
        self._transport = transport
        self._path = f"{assessment_path(assessment_id)}/events" if assessment_id else "/events"
        self._of_all = assessment_id is None
        self._query = query
        self._parser = SseParser(last_event_id or "")
        self._retry = _RETRY_MILLISECONDS
        self._place = last_event_id
        self._pending: deque[Message] = deque()
        self._chunks = self._read()
        self._over = False

    @property
    def last_event_id(self) -> str | None:
        """Where the stream is after what was taken from it: another one goes on from there."""
        return self._place

    async def __aenter__(self) -> Self:
        # The stream of all begins with its position, which may come in pieces.
        while await self._more() and self._of_all and not self._parser.last_event_id:
            pass
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AssessmentEvent | Reset:
        """Wait for the next event.

        Raises:
            ClientError: the stream was refused, or the API does not answer for longer than patience lasts.
        """
        while not self._pending:
            if not await self._more():
                raise StopAsyncIteration
        message = self._pending.popleft()
        self._place = message.last_event_id if self._pending else self._parser.last_event_id
        item = _item(message)
        if not self._of_all and not isinstance(item, Reset) and item.state in UNCHANGING_STATES:
            await self.aclose()
        return item

    async def aclose(self) -> None:
        """End the stream."""
        self._over = True
        self._pending.clear()
        await self._chunks.aclose()

    async def _more(self) -> bool:
        """Take the next bytes; whether there are any."""
        data = None if self._over else await anext(self._chunks, None)
        if data is None:
            self._over = True
            return False
        self._pending.extend(self._parser.feed(data))
        if not self._pending:
            self._place = self._parser.last_event_id or None
        return True

    async def _read(self) -> AsyncGenerator[bytes, None]:
        """The bytes of one connection after the other, until the server says that it is over."""
        patience = self._transport.patience()
        while True:
            headers = {"Last-Event-ID": self._parser.last_event_id} if self._parser.last_event_id else {}
            try:
                with self._transport.told():
                    async with self._transport.stream(self._path, self._query, headers) as response:
                        self._transport.note_answer()
                        if response.status == _NO_CONTENT:
                            return
                        await _check(response)
                        patience.restart_when_used()
                        async for data in response.content.iter_any():
                            yield data
                pause = spread()
            except ClientError as error:
                pause = self._transport.pause(error, patience)
            self._retry = self._retry if self._parser.retry is None else self._parser.retry
            # What came of an event that was cut off is forgotten: it comes again, as a whole.
            self._parser = SseParser(self._parser.last_event_id)
            await asyncio.sleep(self._retry / 1000 + pause)


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise what speaks against reading a stream."""
    if response.status != 200:
        raise refusal(await read_answer(response))
    if response.content_type != _EVENT_STREAM:
        words = f"{response.url} answers {response.content_type} where a stream of events was expected"
        raise ClientError(response.status, UNEXPECTED_ANSWER, words)


def _item(message: Message) -> AssessmentEvent | Reset:
    try:
        if message.event == _RESET:
            told = orjson.loads(message.data)
            return Reset(str(told["reason"]), str(told["position"]))
        return event_from_json(message.data)
    except (ValueError, KeyError, TypeError) as error:
        words = f"an event of the kind {message.event!r} cannot be read (is this client too old?): {message.data[:100]}"
        raise ClientError(200, UNEXPECTED_ANSWER, words) from error
