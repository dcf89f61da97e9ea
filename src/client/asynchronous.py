"""The client for code that runs in an event loop."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Self, Unpack

from ..models.events import EventType
from .assessments import AssessmentCalls
from .lists import CollectionCalls
from .migration import MigrationCalls
from .queries import Values, query_items
from .streams import EventStream
from .subscriptions import Handler, OnError, Subscription, Subscriptions
from .transport import ClientOptions, Token, Transport


class AsyncClient(AssessmentCalls, CollectionCalls, MigrationCalls):
    """A session with the API; use it in `async with`.

    Every call is made again while the server is busy or being restarted. That is safe: every POST carries an
    Idempotency-Key.
    """

    def __init__(self, url: str, token: Token, **options: Unpack[ClientOptions]) -> None:
        """Describe the session.

        Args:
            url: where the API is, like `http://127.0.0.1:3000`.
            token: a JWT, or what returns one.
            options: patience and the like.
        """
        self._transport = Transport(url, token, **options)
        self._subscriptions = Subscriptions(lambda types, last_id: self.events(types=types, last_event_id=last_id))

    async def __aenter__(self) -> Self:
        self._transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._subscriptions.close()
        await self._transport.close()

    def events(
        self, assessment_id: str | None = None, *, types: Values = (), last_event_id: str | None = None
    ) -> EventStream:
        """Return the stream of events, over Server-Sent Events.

        Args:
            assessment_id: whose; else of all that the user may see.
            types: that are wanted, like `assessment.completed`; else all.
            last_event_id: the `last_event_id` of an earlier stream, to go on there. Else the stream of all begins
                now, and that of one assessment with its creation.
        """
        return EventStream(self._transport, assessment_id, query_items({"type": types}), last_event_id)

    async def subscribe(
        self, types: Collection[EventType | str], handler: Handler, on_error: OnError | None = None
    ) -> Subscription:
        """Call a handler for each event from now on, one after the other, until `unsubscribe`.

        Args:
            types: that it gets; an empty collection is all.
            handler: a coroutine function, or another one, which runs in a thread. It is called again where it fails.
            on_error: takes what failed for good, and the subscription goes on; without it, that ends it.

        Raises:
            ClientError: the stream was refused, or the API does not answer.
        """
        return await self._subscriptions.subscribe(types, handler, on_error)

    async def unsubscribe(self, which: Subscription | str) -> bool:
        """End a subscription, by its id or as it was returned; whether there was one."""
        return await self._subscriptions.unsubscribe(which)
