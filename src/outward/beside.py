"""What a worker does for others beside its lanes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ..agents.app import CommandsApp
from ..store.audit_letters import AuditLetters
from ..store.deliveries import DeliveryQueues
from ..store.encryption import KeyRing
from .audit import forwarding
from .webhooks import telling


@asynccontextmanager
async def outward(app: CommandsApp) -> AsyncIterator[None]:
    """Tell the audit service and webhooks meanwhile."""
    settings = app.settings
    async with AsyncExitStack() as stack:
        if settings.audit_url is not None:
            await stack.enter_async_context(forwarding(settings, AuditLetters(app.pools.write)))
        queues = DeliveryQueues(app.pools.write, settings.commands_topic, KeyRing.of(settings))
        await stack.enter_async_context(telling(queues, settings.webhook_allowed_networks))
        yield
