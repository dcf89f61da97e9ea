"""The client for code without an event loop: each call runs `AsyncClient` on a loop in a background thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from ..models.events import AssessmentEvent
from .asynchronous import AsyncClient
from .queries import Values
from .streams import EventStream, Reset
from .transport import ClientOptions, Token

P = ParamSpec("P")
T = TypeVar("T")


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # A program that forgets to close its client can end all the same.
        self._thread = threading.Thread(target=self._loop.run_forever, name="assessmentstore-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for some work; if the wait is broken off, by Ctrl-C say, so is the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and its thread."""
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Call(Generic[P, T]):
    """A method of the asynchronous client, as one that waits."""

    def __init__(self, method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, client: Client, owner: type[Client]) -> Callable[P, T]:
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return client.loop.run(self._method(client.asynchronous, *args, **kwargs))

        return call


class _Iteration(Generic[P, T]):
    """A method of the asynchronous client that yields, as a generator."""

    def __init__(self, method: Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, client: Client, owner: type[Client]) -> Callable[P, Iterator[T]]:
        def iterate(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
            items = self._method(client.asynchronous, *args, **kwargs)
            try:
                while True:
                    try:
                        yield client.loop.run(_next(items))
                    except StopAsyncIteration:
                        return
            finally:
                client.loop.run(items.aclose())

        return iterate


async def _next(items: AsyncGenerator[T, None]) -> T:
    return await anext(items)


class SyncEventStream:
    """An `EventStream` that waits."""

    def __init__(self, stream: EventStream, loop: _Loop) -> None:
        self._stream = stream
        self._loop = loop

    @property
    def last_event_id(self) -> str | None:
        """Where the stream is after what was taken from it."""
        return self._stream.last_event_id

    def __enter__(self) -> Self:
        self._loop.run(self._stream.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> AssessmentEvent | Reset:
        try:
            return self._loop.run(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """End the stream."""
        self._loop.run(self._stream.aclose())


class Client:
    """A session with the API; use it in `with`.

    Its methods are those of `AsyncClient`, and may be called by any thread. Handlers of events run in a thread, one
    event after the other, and may use the client.
    """

    def __init__(self, url: str, token: Token, **options: Unpack[ClientOptions]) -> None:
        """Describe the session, as for `AsyncClient`."""
        self.asynchronous = AsyncClient(url, token, **options)

    def __enter__(self) -> Self:
        self.loop = _Loop()
        self.loop.run(self.asynchronous.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.run(self.asynchronous.__aexit__(kind, error, trace))
        self.loop.close()

    create = _Call(AsyncClient.create)
    get = _Call(AsyncClient.get)
    get_unless = _Call(AsyncClient.get_unless)
    status = _Call(AsyncClient.status)
    history = _Call(AsyncClient.history)
    diff = _Call(AsyncClient.diff)
    wait = _Call(AsyncClient.wait)
    changes = _Iteration(AsyncClient.changes)
    start = _Call(AsyncClient.start)
    progress = _Call(AsyncClient.progress)
    complete = _Call(AsyncClient.complete)
    fail = _Call(AsyncClient.fail)
    cancel = _Call(AsyncClient.cancel)
    retry = _Call(AsyncClient.retry)
    list = _Call(AsyncClient.list)
    iterate = _Iteration(AsyncClient.iterate)
    search = _Call(AsyncClient.search)
    search_all = _Iteration(AsyncClient.search_all)
    statistics = _Call(AsyncClient.statistics)
    create_batch = _Call(AsyncClient.create_batch)
    progress_batch = _Call(AsyncClient.progress_batch)
    retry_batch = _Call(AsyncClient.retry_batch)
    cleanup = _Call(AsyncClient.cleanup)
    metrics = _Call(AsyncClient.metrics)
    health = _Call(AsyncClient.health)
    get_migration_status = _Call(AsyncClient.get_migration_status)
    is_migration_complete = _Call(AsyncClient.is_migration_complete)
    enable_legacy_mode = _Call(AsyncClient.enable_legacy_mode)
    set_migration_percentage = _Call(AsyncClient.set_migration_percentage)
    is_served_by_store = _Call(AsyncClient.is_served_by_store)
    subscribe = _Call(AsyncClient.subscribe)
    unsubscribe = _Call(AsyncClient.unsubscribe)

    def events(
        self, assessment_id: str | None = None, *, types: Values = (), last_event_id: str | None = None
    ) -> SyncEventStream:
        """Return the stream of events, as `AsyncClient.events` does."""
        stream = self.asynchronous.events(assessment_id, types=types, last_event_id=last_event_id)
        return SyncEventStream(stream, self.loop)
