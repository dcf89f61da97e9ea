"""Handlers of events: each is called for one event after the other, again where it fails, and nothing is swallowed."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
import string
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..models.events import AssessmentEvent, EventType
from .errors import ClientError, DeliveryError
from .retries import pauses
from .streams import EventStream, Reset

logger = logging.getLogger(__name__)

Handler = Callable[[AssessmentEvent], Awaitable[None] | None]
"""Takes an event. One that is no coroutine function runs in a thread, so that it may block."""

OnError = Callable[[DeliveryError], Awaitable[None] | None]
"""Takes what could not be delivered; when it returns, that is dealt with, and the subscription goes on."""

# The fifth failure comes some seconds after the first: what does not last so long does not count.
_ATTEMPTS = 5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0

_BASE_36 = string.digits + string.ascii_lowercase


@dataclass(eq=False)
class Subscription:
    """A handler that gets events."""

    event_types: frozenset[EventType]
    """The types that it gets; all where none is named."""
    handler: Handler
    on_error: OnError | None = None
    """Without one, a handler that fails for good ends its subscription."""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    id: str = field(default_factory=lambda: new_id(time.time()))
    active: bool = True
    """Whether events come."""
    task: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Wait for its end.

        Raises:
            DeliveryError: what ended it.
        """
        if self.task is not None:
            try:
                await asyncio.shield(self.task)
            except asyncio.CancelledError:
                if not self.task.cancelled():
                    raise

    async def deliver(self, event: AssessmentEvent) -> None:
        """Hand an event to the handler, again where it fails, and at last to `on_error`.

        Raises:
            DeliveryError: the handler failed for good, and nobody deals with that.
        """
        if not self.active or (self.event_types and event.type not in self.event_types):
            return
        pause = pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await _call(self.handler, event)
            except Exception as error:
                logger.warning("A handler failed on %s: %r", event.id, error, extra={"action": "handler_failed"})
                cause = error
            else:
                return
            if attempt < _ATTEMPTS:
                await asyncio.sleep(next(pause))
        words = f"The handler of {self.id} failed {_ATTEMPTS} times on event {event.id}: {cause!r}"
        await self.report(DeliveryError(words, subscription_id=self.id, event=event), cause)

    async def report(self, error: DeliveryError, cause: Exception | None = None) -> None:
        """Let somebody deal with an error.

        Raises:
            DeliveryError: nobody does.
        """
        if self.on_error is None:
            raise error from cause
        error.__cause__ = cause
        await _call(self.on_error, error)


def id_of(which: Subscription | str) -> str:
    """The id of a subscription that is told by its id, or as it was returned."""
    return which if isinstance(which, str) else which.id


class Subscriptions:
    """The handlers that one client feeds, each by a task and a stream of its own."""

    def __init__(self, stream: Callable[[Collection[EventType], str | None], EventStream]) -> None:
        self._stream = stream
        self._active: dict[str, Subscription] = {}

    async def subscribe(
        self, types: Collection[EventType | str], handler: Handler, on_error: OnError | None = None
    ) -> Subscription:
        """Give the handler each event from now on."""
        subscription = Subscription(frozenset(map(EventType, types)), handler, on_error)
        stream = await self._stream(subscription.event_types, None).__aenter__()
        self._active[subscription.id] = subscription
        subscription.task = run_task(lambda: [subscription], self._run(subscription, stream))
        subscription.task.add_done_callback(lambda _: self._active.pop(subscription.id, None))
        return subscription

    async def unsubscribe(self, which: Subscription | str) -> bool:
        """End a subscription, in the midst of its handler where that runs; whether there was one."""
        subscription = self._active.pop(id_of(which), None)
        if subscription is None:
            return False
        subscription.active = False
        if subscription.task is not None:
            await end_task(subscription.task)
        return True

    async def close(self) -> None:
        """End all."""
        await asyncio.gather(*(self.unsubscribe(subscription_id) for subscription_id in [*self._active]))

    async def _run(self, subscription: Subscription, stream: EventStream) -> None:
        pause = pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
        try:
            while subscription.active:
                try:
                    item = await anext(stream)
                except ClientError as error:
                    words = f"The events of {subscription.id} do not come: {error}"
                    await subscription.report(DeliveryError(words, subscription_id=subscription.id), error)
                    await asyncio.sleep(next(pause))
                    stream = self._stream(subscription.event_types, stream.last_event_id)
                else:
                    await _hand_out(subscription, item)
        finally:
            await stream.aclose()


async def _hand_out(subscription: Subscription, item: AssessmentEvent | Reset) -> None:
    if isinstance(item, Reset):
        words = f"Events were lost to {subscription.id} ({item.reason}): it goes on from {item.position}"
        await subscription.report(DeliveryError(words, subscription_id=subscription.id))
    else:
        await subscription.deliver(item)


def run_task(
    subscriptions: Callable[[], Collection[Subscription]], work: Coroutine[Any, Any, None]
) -> asyncio.Task[None]:
    """Do the work of subscriptions in a task of its own; what ends it is logged, and told to who waits."""

    async def run() -> None:
        try:
            await work
        except Exception as error:
            logger.exception("Events are delivered no more: %s", error, extra={"action": "subscription_failed"})  # noqa: TRY401 - the message says which
            raise
        finally:
            for subscription in subscriptions():
                subscription.active = False

    task = asyncio.create_task(run())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is logged, whoever waits
    return task


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end; a task that ends itself goes on to where it looks whether it is wanted."""
    if task is asyncio.current_task():
        return
    task.cancel()
    await asyncio.wait([task])


async def _call(function: Callable[[Any], Awaitable[None] | None], argument: object) -> None:
    if inspect.iscoroutinefunction(function):
        await function(argument)
    elif inspect.isawaitable(result := await asyncio.to_thread(function, argument)):
        await result


def new_id(now: float) -> str:
    """The id of a subscription: the time in milliseconds, and 9 characters that nobody else has."""
    return f"sub_{int(now * 1000)}_{''.join(secrets.choice(_BASE_36) for _ in range(9))}"
