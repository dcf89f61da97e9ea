"""Webhooks are told: each in its own time, at least once, those of an assessment in order.

A worker takes a webhook for one turn: some messages, a few at once, one after the other where they are about the same
assessment. A turn ends with the first failure. The message is sent again by the schedule of Standard Webhooks; the
webhook is left alone for a while that grows, so that one which is down is asked seldom, however much waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver

from ..models.errors import UnavailableError
from ..models.targets import ForbiddenTargetError, Targets, scheme_of
from ..models.webhooks import signed_headers
from ..settings import networks
from ..store.background import background
from ..store.deliveries import Delivery, DeliveryQueues, LeasedWebhook, Turn
from ..store.patience import within
from ..telemetry import WEBHOOK_ATTEMPTS, WEBHOOKS_DISABLED
from .http import Answer, jittered, post

log = structlog.get_logger(__name__)

SCHEDULE = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds from one attempt to the next, by Standard Webhooks: ten attempts in some three days."""

_ANSWER_SECONDS = 15.0

_TICK_SECONDS = 0.5

# A webhook that fails is asked again after two seconds, four, eight, ...
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 300.0
_MOST_DOUBLINGS = 9

# Read from the queue at a time.
_MESSAGES = 50
_MESSAGES_AT_ONCE = 4
_WEBHOOKS_AT_ONCE = 50

# Within a turn messages are begun for so long; with the last answer, it ends within the lease.
_TURN_SECONDS = 20.0
_LEASE_SECONDS = 45.0

_RELEASE_SECONDS = 2.0

_GONE = 410


class Sender:
    """Posts messages to where webhooks may go."""

    def __init__(self, sessions: Mapping[str, aiohttp.ClientSession]) -> None:
        self._sessions = sessions

    async def send(self, webhook: LeasedWebhook, delivery: Delivery, body: bytes) -> Answer:
        """Send one message, once."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "assessmentstore",
            **signed_headers(delivery.message_id, body, datetime.now(UTC), webhook.secrets),
        }
        return await post(self._sessions[scheme_of(webhook.url)], webhook.url, body, headers, seconds=_ANSWER_SECONDS)


@asynccontextmanager
async def open_sender(targets: Targets, resolver: AbstractResolver | None = None) -> AsyncIterator[Sender]:
    """A sender that connects to allowed addresses alone, whatever names resolve to."""
    async with AsyncExitStack() as stack:
        sessions = {}
        for scheme in ("https", "http"):
            connector = aiohttp.TCPConnector(socket_factory=_guard(targets, scheme), resolver=resolver)
            session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
            sessions[scheme] = await stack.enter_async_context(session)
        yield Sender(sessions)


def _guard(targets: Targets, scheme: str) -> Callable[[Any], socket.socket]:
    """Make the socket for an address that is about to be connected to, if that is allowed."""

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, place = info
        try:
            targets.check_address(ip_address(place[0]), scheme)
        except ForbiddenTargetError as error:
            raise PermissionError(errno.EACCES, str(error)) from error
        return socket.socket(family, kind, protocol)

    return make


class Dispatcher:
    """Tells webhooks, turn after turn."""

    def __init__(self, queues: DeliveryQueues, sender: Sender) -> None:
        self._queues = queues
        self._sender = sender
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._turns: set[asyncio.Task[None]] = set()
        self._told = ""

    async def run(self) -> None:
        """Tell webhooks until cancelled."""
        while True:
            try:
                is_busy = await self._begin_turns()
                self._told = ""
            except UnavailableError as error:
                is_busy = False
                self._tell(error)
            await asyncio.sleep(0 if is_busy else _TICK_SECONDS)

    async def close(self) -> None:
        """End the turns under way, and let others go on with them."""
        for turn in self._turns:
            turn.cancel()
        await asyncio.gather(*self._turns, return_exceptions=True)
        with suppress(UnavailableError, TimeoutError):  # the leases end by themselves
            await within(_RELEASE_SECONDS, self._queues.release(self._owner))

    async def _begin_turns(self) -> bool:
        """Fill the queues, and begin turns; whether there may be more to do at once."""
        has_more = await self._queues.fill()
        free = _WEBHOOKS_AT_ONCE - len(self._turns)
        leased = await self._queues.lease(self._owner, _LEASE_SECONDS, free) if free else []
        for webhook in leased:
            turn = asyncio.create_task(self._take_turn(webhook))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)
        return has_more or bool(leased)

    async def _take_turn(self, webhook: LeasedWebhook) -> None:
        try:
            if webhook.unreadable is not None:
                log.warning("a webhook cannot be told", webhook=str(webhook.id), why=webhook.unreadable)
            turn = await _Turn(self._queues, self._sender, webhook).take()
            reason = await self._queues.end_turn(self._owner, webhook.id, turn)
        except UnavailableError as error:
            self._tell(error)  # the lease ends, and whoever takes it sends what was not noted again
            return
        except Exception:
            log.exception("a turn of a webhook failed", webhook=str(webhook.id))
            return
        if reason is not None:
            WEBHOOKS_DISABLED.labels(reason).inc()
            log.warning("a webhook is switched off", webhook=str(webhook.id), reason=reason, why=turn.error)

    def _tell(self, error: UnavailableError) -> None:
        if str(error) != self._told:
            log.warning("webhooks wait", why=str(error))
        self._told = str(error)


class _Turn:
    """One turn of one webhook."""

    def __init__(self, queues: DeliveryQueues, sender: Sender, webhook: LeasedWebhook) -> None:
        self._queues = queues
        self._sender = sender
        self._webhook = webhook
        self._at_once = asyncio.Semaphore(_MESSAGES_AT_ONCE)
        self._ends_at = asyncio.get_running_loop().time() + _TURN_SECONDS
        self._delivered = 0
        self._failure = None if webhook.unreadable is None else Answer(None, webhook.unreadable)

    async def take(self) -> Turn:
        """Send what is due, up to the first failure.

        Raises:
            UnavailableError: Postgres is away.
        """
        while self._goes_on and (due := await self._queues.due(self._webhook.id, _MESSAGES)):
            lines: dict[str, list[Delivery]] = {}
            for delivery in due:
                lines.setdefault(delivery.assessment_id, []).append(delivery)
            await asyncio.gather(*(self._send_all(line) for line in lines.values()))
        if self._failure is None:
            return Turn(delivered=self._delivered)
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** min(self._webhook.failures, _MOST_DOUBLINGS), _LONGEST_PAUSE_SECONDS)
        return Turn(
            delivered=self._delivered,
            error=self._failure.words,
            pause=max(jittered(pause), self._failure.retry_after),
            is_gone=self._failure.status == _GONE,
        )

    async def _send_all(self, line: Sequence[Delivery]) -> None:
        """The messages about one assessment, one after the other."""
        for delivery in line:
            async with self._at_once:
                if not self._goes_on:
                    return
                await self._send(delivery)

    @property
    def _goes_on(self) -> bool:
        return self._failure is None and asyncio.get_running_loop().time() < self._ends_at

    async def _send(self, delivery: Delivery) -> None:
        if delivery.body is None:
            log.info("what a webhook was to be told is deleted", message=delivery.message_id)
            await self._queues.forget(delivery)
            return
        answer = await self._sender.send(self._webhook, delivery, delivery.body)
        if answer.is_good:
            WEBHOOK_ATTEMPTS.labels("delivered").inc()
            self._delivered += 1
            await self._queues.forget(delivery)
            return
        self._failure = answer
        pause = jittered(SCHEDULE[delivery.attempts]) if delivery.attempts < len(SCHEDULE) else None
        WEBHOOK_ATTEMPTS.labels("failed" if pause is not None else "given_up").inc()
        if pause is None:
            log.warning("a message was given up", webhook=str(self._webhook.id), message=delivery.message_id)
        await self._queues.postpone(delivery, answer.status, answer.words, pause)


@asynccontextmanager
async def telling(queues: DeliveryQueues, allowed: str) -> AsyncIterator[None]:
    """Tell webhooks meanwhile; `allowed` are networks that they may reach beside public addresses."""
    async with open_sender(Targets(networks(allowed))) as sender:
        dispatcher = Dispatcher(queues, sender)
        try:
            async with background(dispatcher.run):
                yield
        finally:
            await dispatcher.close()
