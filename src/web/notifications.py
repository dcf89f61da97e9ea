"""The one Redis subscription of a web process: news of changed and deleted assessments, and replies to its commands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import orjson

from ..models.errors import UnavailableError
from ..store.cache import CHANGES, DELETED, Message, SharedCache, reply_channel
from ..store.reads import StateReader
from .commands import Commands
from .feed import Feed
from .waiters import Waiters

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class Notifications:
    """Pass on what Redis tells, and tell when it tells nothing."""

    def __init__(
        self, cache: SharedCache, reader: StateReader, commands: Commands, waiters: Waiters, feed: Feed
    ) -> None:
        self._cache = cache
        self._reader = reader
        self._commands = commands
        self._waiters = waiters
        self._feed = feed
        self._up = False

    async def run(self) -> None:
        """Stay subscribed, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._listen()
            except UnavailableError as error:
                pause = _FIRST_PAUSE if self._up else min(pause * 2, _LONGEST_PAUSE)
                self._lost(error)
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        messages = self._cache.messages(CHANGES, DELETED, reply_channel(self._commands.instance))
        async with aclosing(cast("AsyncGenerator[Message]", messages)) as stream:
            async for channel, message in stream:
                if message:
                    self._pass_on(channel, message)
                else:
                    self._subscribed()

    def _pass_on(self, channel: str, message: bytes) -> None:
        try:
            if channel == CHANGES:
                self._feed.changed()
                self._waiters.changed(message)
            elif channel == DELETED:
                self._reader.forget(orjson.loads(message))
            else:
                self._commands.replied(message)
        except (ValueError, KeyError, TypeError):
            # Somebody of another version speaks here. Whoever waits finds the truth in Postgres.
            logger.exception("A message on %s makes no sense", channel, extra={"action": "message_ignored"})

    def _subscribed(self) -> None:
        if self._up:
            return
        self._up = True
        logger.info("Listening to Redis", extra={"action": "redis_subscribed"})
        # Whatever was deleted meanwhile was not told.
        self._reader.forget_all()
        self._commands.subscribed()
        self._waiters.subscribed()
        self._feed.subscribed()

    def _lost(self, error: UnavailableError) -> None:
        if not self._up:
            return
        self._up = False
        logger.warning("Redis is away; waits look at Postgres: %s", error, extra={"action": "redis_lost"})
        self._commands.lost()
        self._waiters.lost()
        self._feed.lost()
