"""Somebody with webhooks: he writes down all that he is told, refuses some of it at first, and is away at times."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from aiohttp import web

from ..models.webhooks import NewWebhook
from ..services.processes import free_ports
from .http_client import HttpClient
from .listener import Listener
from .plan import WEBS, Fault

_PORTS = range(13_000, 14_000)

_TRIES = 50
_PAUSE_SECONDS = 0.2

# One message in so many is refused the first time.
_REFUSED = 7


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was taken."""

    body: bytes
    headers: Mapping[str, str]


@dataclass
class Hook:
    """A webhook, and what it was told."""

    owner: str
    wanted: Mapping[str, Any]
    """Of the registration."""
    webhook: NewWebhook | None = None
    taken: list[Delivery] = field(default_factory=list)
    """In their order."""
    tries: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How often each message came."""


class Receiver(Listener):
    """The server that the webhooks of a run lead to."""

    def __init__(self, hooks: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Take who registers what."""
        (port,) = free_ports(1, among=_PORTS)
        super().__init__(port, [web.post("/{number}", self._take)])
        self.hooks = [Hook(owner, wanted) for owner, wanted in hooks]
        self.closing = False
        """Whether everything is taken from now on."""

    async def register(self, http: HttpClient) -> bool:
        """Register the webhooks, and say whether all are."""
        for number, hook in enumerate(self.hooks):
            body = {"url": f"{self.url}/{number}", **hook.wanted}
            headers = {"Idempotency-Key": f"webhook {number}"}
            for turn in range(_TRIES):
                door = WEBS[turn % len(WEBS)]
                answer = await http.ask(door, "POST", "/webhooks", user=hook.owner, body=body, headers=headers)
                if answer.status == 201:
                    hook.webhook = NewWebhook.model_validate(answer.body)
                    break
                await asyncio.sleep(_PAUSE_SECONDS)
        return all(hook.webhook for hook in self.hooks)

    async def happen(self, fault: Fault) -> None:
        """Be away for a while."""
        await self.stop()
        await asyncio.sleep(fault.seconds)
        await self.start()

    async def _take(self, request: web.Request) -> web.Response:
        hook = self.hooks[int(request.match_info["number"])]
        name = request.headers.get("webhook-id", "")
        hook.tries[name] += 1
        delivery = Delivery(await request.read(), {key.lower(): value for key, value in request.headers.items()})
        if not self.closing and hook.tries[name] == 1 and len(hook.tries) % _REFUSED == 0:
            return web.Response(status=503)
        hook.taken.append(delivery)
        return web.Response(status=204)


def id_of(hook: Hook) -> UUID:
    """The id of a webhook that is registered."""
    assert hook.webhook is not None  # noqa: S101 - else the run does not begin
    return hook.webhook.id
