"""What a web process forgets when it hears of deletions, and when it may have missed some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import MagicMock

import pytest
from tests.harness.waiting import DEADLINE

from assessmentstore.models.errors import UnavailableError
from assessmentstore.store.cache import DELETED, Message
from assessmentstore.web import notifications as notifications_module
from assessmentstore.web.notifications import Notifications


class FakeRedis:
    """Says what it was given, one connection after the other, and breaks off."""

    def __init__(self, *connections: list[Message]) -> None:
        self._connections = list(connections)
        self.over = asyncio.Event()

    async def messages(self, *_: str) -> AsyncIterator[Message]:
        if not self._connections:
            self.over.set()
            await asyncio.Event().wait()
        for message in self._connections.pop(0):
            yield message
        raise UnavailableError("Redis does not answer")


async def listened(monkeypatch: pytest.MonkeyPatch, *connections: list[Message]) -> list[Any]:
    """What the reader was told, in order."""
    monkeypatch.setattr(notifications_module, "_FIRST_PAUSE", 0)
    redis, reader = FakeRedis(*connections), MagicMock()
    notifications = Notifications(redis, reader, MagicMock(), MagicMock(), MagicMock())  # type: ignore[arg-type]
    running = asyncio.create_task(notifications.run())
    await asyncio.wait_for(redis.over.wait(), DEADLINE)
    running.cancel()
    return [(call[0], *call[1]) for call in reader.method_calls]


_UP: Message = ("changes", b"")


async def test_deleted_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    told = await listened(monkeypatch, [_UP, _UP, (DELETED, b'["a-1","a-2"]'), (DELETED, b"what?")])

    assert told == [("forget_all",), ("forget", ["a-1", "a-2"])]


async def test_everything_is_forgotten_when_news_may_have_been_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await listened(monkeypatch, [_UP], [_UP]) == [("forget_all",), ("forget_all",)]
