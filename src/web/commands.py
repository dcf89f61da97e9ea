"""Commands on their way: put on Kafka, and answered with what became of them, never with a guess."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol
from uuid import uuid4

from aiohttp import web

from ..models.assessment import AssessmentRecord
from ..models.commands import CommandHeader
from ..models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from ..models.positions import Positions
from ..store.encryption import NO_KEYS, KeyRing
from ..store.patience import within
from ..store.replies import CommandKey, Outcome, read_reply
from ..telemetry import WAITERS
from .freshness import promise
from .outgoing import Outgoing
from .publisher import NotSentError

logger = logging.getLogger(__name__)

# While replies come over Redis, Postgres is asked just in case one was lost.
_SLOW_PAUSE = 1.0
_FIRST_PAUSE = 0.1
_PAUSE_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a command."""

    outcome: Outcome
    replayed: bool
    """Whether it is known to be the answer to an earlier command with the same id."""


class Sender(Protocol):
    """Whoever puts a command on Kafka."""

    async def send(self, assessment_id: str, value: bytes) -> Positions:
        """Return when Kafka has it, and where.

        Raises:
            NotSentError: Kafka does not have it.
            UnavailableError: Kafka may have it.
        """


class Outcomes(Protocol):
    """Whoever knows what became of a command."""

    async def get(self, command_id: str, fingerprint: bytes) -> Outcome | None:
        """The outcome, or nothing where the command is not applied yet.

        Raises:
            UnavailableError: the truth cannot be asked.
        """


class _Hint(Enum):
    """Why to ask Postgres for an outcome."""

    DUPLICATE = auto()
    PERHAPS = auto()


Replies = asyncio.Queue[Outcome | _Hint]
"""What a worker tells of the commands that are waited for, and when to ask Postgres instead."""


class Commands:
    """The road of a command from a request to its outcome."""

    def __init__(self, sender: Sender, outcomes: Outcomes, *, timeout: float, keys: KeyRing = NO_KEYS) -> None:
        self.instance = uuid4().hex
        """Where the workers send replies for this process."""
        self._sender = sender
        self._outcomes = outcomes
        self._timeout = timeout
        self._keys = keys
        self._waiting: dict[CommandKey, set[Replies]] = {}
        self.listening = False
        """Whether replies come."""

    async def publish(self, command: Outgoing) -> None:
        """Return as soon as Kafka has a command.

        Raises:
            RejectedError: SERVICE_UNAVAILABLE.
        """
        await self._send(command, self._deadline())

    async def apply(self, command: Outgoing) -> Applied:
        """Put a command on Kafka, and wait for what becomes of it.

        Raises:
            RejectedError: SERVICE_UNAVAILABLE, the outcome is not known.
        """
        header, deadline = command.header, self._deadline()
        with self.expecting([(header.id, header.fingerprint)]) as replies:
            await self._send(command, deadline)
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._outcome(header, replies)
            except TimeoutError as error:
                raise _unknown(header, f"The outcome is not known after {self._timeout:g} s") from error

    def replied(self, message: bytes) -> None:
        """Take a worker's reply."""
        key, outcome = read_reply(message)
        if isinstance(outcome, AssessmentRecord):
            outcome = self._keys.open_record(outcome)
        for replies in self._waiting.get(key, ()):
            replies.put_nowait(outcome or _Hint.DUPLICATE)

    def subscribed(self) -> None:
        """Replies come from now on; some may have been missed before."""
        self.listening = True
        self._look_again()

    def lost(self) -> None:
        """Replies don't come for now."""
        self.listening = False
        self._look_again()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout

    async def _send(self, command: Outgoing, deadline: float) -> None:
        header = command.header
        try:
            async with asyncio.timeout_at(deadline):
                promise(await self._sender.send(header.assessment_id, command.value))
        except NotSentError as error:
            raise _unavailable(header, "Kafka does not answer: the command was not taken, send it again") from error
        except UnavailableError as error:
            raise _unknown(header, "Kafka did not confirm the command") from error
        except TimeoutError as error:
            raise _unknown(header, f"Kafka did not confirm the command within {self._timeout:g} s") from error

    def _look_again(self) -> None:
        for waiting in self._waiting.values():
            for replies in waiting:
                replies.put_nowait(_Hint.PERHAPS)

    @contextmanager
    def expecting(self, keys: Collection[CommandKey]) -> Iterator[Replies]:
        """Hear what becomes of some commands; begin before they are sent."""
        replies: Replies = asyncio.Queue()
        for key in keys:
            self._waiting.setdefault(key, set()).add(replies)
        WAITERS.inc()
        try:
            yield replies
        finally:
            WAITERS.dec()
            for key in keys:
                self._waiting[key].discard(replies)
                if not self._waiting[key]:
                    del self._waiting[key]

    async def _outcome(self, header: CommandHeader, replies: Replies) -> Applied:
        pause = _FIRST_PAUSE
        while True:
            reply = await self._next(replies, _SLOW_PAUSE if self.listening else pause)
            if not isinstance(reply, _Hint):
                return Applied(reply, replayed=False)
            outcome = await self._look(header)
            if outcome is not None:
                return Applied(outcome, replayed=reply is _Hint.DUPLICATE)
            pause = min(pause * _PAUSE_GROWTH, _SLOW_PAUSE)

    @staticmethod
    async def _next(replies: Replies, pause: float) -> Outcome | _Hint:
        try:
            async with asyncio.timeout(pause):
                return await replies.get()
        except TimeoutError:
            return _Hint.PERHAPS

    async def _look(self, header: CommandHeader) -> Outcome | None:
        try:
            return await within(self._timeout, self._outcomes.get(header.id, header.fingerprint))
        except UnavailableError as error:
            # The wait goes on to its end: the reply may still come, and Postgres may come back.
            logger.debug("An outcome could not be looked up: %s", error, extra={"action": "outcome_unavailable"})
            return None


COMMANDS = web.AppKey("commands", Commands)


def _unknown(header: CommandHeader, reason: str) -> RejectedError:
    words = f"{reason}. The command may still be applied: ask again with the Idempotency-Key {header.id}"
    return _unavailable(header, words)


def _unavailable(header: CommandHeader, words: str) -> RejectedError:
    logger.warning("A command got no outcome: %s", words, extra={"action": "command_unanswered"})
    rejection = Rejection(ErrorCode.SERVICE_UNAVAILABLE, words, {"commandId": header.id})
    return RejectedError(rejection, assessment_id=header.assessment_id)
