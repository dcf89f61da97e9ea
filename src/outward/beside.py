"""What a worker does for others beside its lanes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ..agents.app import CommandsApp
from ..store.audit_letters import AuditLetters
from .audit import forwarding


@asynccontextmanager
async def outward(app: CommandsApp) -> AsyncIterator[None]:
    """Tell the audit service and webhooks meanwhile."""
    settings = app.settings
    async with AsyncExitStack() as stack:
        if settings.audit_url is not None:
            await stack.enter_async_context(forwarding(settings, AuditLetters(app.pools.write)))
        yield
