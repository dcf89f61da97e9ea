"""Many commands at once: all handed to Kafka together, and answered with what became of each, never with a guess.

Only the last commands ask the workers for replies: partitions are worked off in order, so that when these are applied,
so are most of the others, and Postgres tells of thousands in one query. A reply for each costs this process some 25 µs
of CPU, and the worker and Redis theirs; a row of that query costs it 1 µs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from aiohttp import web

from ..models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from ..models.positions import Positions
from ..store.batches import Settled
from ..store.patience import within
from ..store.replies import CommandKey
from .commands import Commands, Replies
from .freshness import promise
from .outgoing import Outgoing

logger = logging.getLogger(__name__)

REPLIES = 64
"""The last so many commands of a batch ask for replies: nearly every partition has one of them."""

# What is waited for on top of the time for one command: a tenth of the pace that a worker keeps on a small machine.
_COMMANDS_A_SECOND = 500

# While replies come, Postgres is asked just in case some were lost.
_SLOW_PAUSE = 1.0
_FIRST_PAUSE = 0.05
_PAUSE_GROWTH = 1.5

# Replies of several partitions that come together are followed by one query.
_TOGETHER_SECONDS = 0.01

_TOGETHER = 500
"""Commands that are sent while the next ones are checked."""

_CHUNK = 2000
"""Command ids in one query."""


class BulkSender(Protocol):
    """Whoever puts many commands on Kafka."""

    async def send_all(self, commands: Iterable[tuple[str, bytes]]) -> Positions:
        """Return when Kafka has all of them, and where.

        Raises:
            UnavailableError: Kafka may have any of them.
        """


class BulkOutcomes(Protocol):
    """Whoever knows what became of many commands."""

    async def outcomes(self, expected: Mapping[str, bytes]) -> dict[str, Settled]:
        """The outcomes of those that are applied.

        Raises:
            UnavailableError: the truth cannot be asked.
        """


class BulkCommands:
    """The road of many commands from a request to their outcomes."""

    def __init__(self, sender: BulkSender, outcomes: BulkOutcomes, commands: Commands, *, timeout: float) -> None:
        self._sender = sender
        self._outcomes = outcomes
        self._commands = commands
        self._timeout = timeout

    def reply_to(self, index: int, count: int) -> str | None:
        """Where the worker is to reply to one of so many commands."""
        return self._commands.instance if index >= count - REPLIES else None

    async def apply_all(self, commands: AsyncIterator[Outgoing], *, count: int, key: str) -> list[Settled]:
        """Put commands on Kafka as they come, and wait for what becomes of all of them, in their order.

        Args:
            commands: with ids that differ; the workers are at the first while the last are still checked.
            count: how many there may be.
            key: that the same request has to carry to be answered later.

        Raises:
            RejectedError: SERVICE_UNAVAILABLE, some outcomes are not known.
        """
        sent: dict[str, bytes] = {}
        settled: dict[str, Settled] = {}
        seconds = self._timeout + count / _COMMANDS_A_SECOND
        try:
            async with asyncio.timeout(seconds):
                last = await self._send(commands, sent)
                with self._commands.expecting([_key(command) for command in last]) as replies:
                    await self._send_all(last, sent)
                    await self._settle(sent, settled, replies)
        except UnavailableError as error:
            raise _unknown(key, str(error), len(settled), len(sent)) from error
        except TimeoutError as error:
            raise _unknown(key, f"Not done after {seconds:g} s", len(settled), len(sent)) from error
        return [settled[command_id] for command_id in sent]

    async def _send(self, commands: AsyncIterator[Outgoing], sent: dict[str, bytes]) -> list[Outgoing]:
        """Send all but the last ones, which ask for replies: those are to be listened for first."""
        part: list[Outgoing] = []
        last: list[Outgoing] = []
        async for command in commands:
            (last if command.header.reply_to else part).append(command)
            if len(part) == _TOGETHER:
                await self._send_all(part, sent)
                part = []
        await self._send_all(part, sent)
        return last

    async def _send_all(self, commands: Sequence[Outgoing], sent: dict[str, bytes]) -> None:
        sent |= map(_key, commands)
        pairs = ((command.header.assessment_id, command.value) for command in commands)
        promise(await self._sender.send_all(pairs))

    async def _settle(self, sent: Mapping[str, bytes], settled: dict[str, Settled], replies: Replies) -> None:
        """Look until every outcome is there."""
        pause = _FIRST_PAUSE
        while len(settled) < len(sent):
            await _woken(replies, _SLOW_PAUSE if self._commands.listening else pause)
            found = await self._look({key: sent[key] for key in sent if key not in settled})
            settled |= found
            pause = _FIRST_PAUSE if found else min(pause * _PAUSE_GROWTH, _SLOW_PAUSE)

    async def _look(self, expected: Mapping[str, bytes]) -> dict[str, Settled]:
        found: dict[str, Settled] = {}
        ids = list(expected)
        try:
            for start in range(0, len(ids), _CHUNK):
                part = {key: expected[key] for key in ids[start : start + _CHUNK]}
                found |= await within(self._timeout, self._outcomes.outcomes(part))
        except UnavailableError as error:
            # The wait goes on to its end: Postgres may come back.
            logger.debug("Outcomes could not be looked up: %s", error, extra={"action": "outcome_unavailable"})
        return found


BULK = web.AppKey("bulk", BulkCommands)


def _key(command: Outgoing) -> CommandKey:
    return command.header.id, command.header.fingerprint


async def _woken(replies: Replies, pause: float) -> None:
    """Wait for a reply, or for so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(pause):
            await replies.get()
            await asyncio.sleep(_TOGETHER_SECONDS)
    while not replies.empty():
        replies.get_nowait()


def _unknown(key: str, reason: str, known: int, count: int) -> RejectedError:
    words = (
        f"{reason}. Of {count} commands {known} are known to be applied or refused, the others may still be:"
        f" send the same request again with the Idempotency-Key {key}"
    )
    logger.warning("A batch got no answer: %s", words, extra={"action": "batch_unanswered"})
    return RejectedError(Rejection(ErrorCode.SERVICE_UNAVAILABLE, words, {"idempotencyKey": key}))
