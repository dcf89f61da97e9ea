"""What the worker serves on its own port: states from its table, health, readiness and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from aiohttp import web

from ..store.background import background
from ..store.reads import StateSource
from .admission import secure
from .auth import AUTHENTICATOR, Authenticator
from .errors import MIDDLEWARES
from .health import Health, Metrics
from .limits import LIMITS, Limits
from .proxies import PROXIES, Proxies
from .reads import SOURCE, STATE_PATH, get_state
from .refusals import AUDIT, Refusals


class Door(NamedTuple):
    """Whose word is taken for where a caller is, how often he may ask, and who remembers that he was refused."""

    proxies: Proxies
    limits: Limits
    refusals: Refusals


def add_worker_routes(
    app: web.Application,
    *,
    source: StateSource,
    authenticator: Authenticator | None,
    health: Health,
    metrics: Metrics,
    door: Door | None = None,
) -> None:
    """Add the worker's routes to an application that has not started yet.

    Args:
        app: Faust's own.
        source: where states come from.
        authenticator: reads the tokens; without one nobody can be known, and states are not served at all.
        health: the checks of the services, and the worker's own.
        metrics: of this process.
        door: what the door needs besides the authenticator.
    """
    add_status_routes(app, health, metrics)
    if authenticator is not None:
        app[SOURCE], app[AUTHENTICATOR] = source, authenticator
        app.router.add_get(STATE_PATH, get_state)
        if door is not None:
            app[PROXIES], app[LIMITS], app[AUDIT] = door
            app.cleanup_ctx.append(_audit)


def add_status_routes(app: web.Application, health: Health, metrics: Metrics) -> None:
    """Add what every process tells of itself to an application that has not started yet."""
    app.middlewares.extend(MIDDLEWARES)
    app.on_response_prepare.append(secure)
    app.router.add_get("/health", health.health)
    app.router.add_get("/ready", health.ready)
    app.router.add_get("/metrics", metrics.metrics)


async def _audit(app: web.Application) -> AsyncIterator[None]:
    async with background(app[AUDIT].run):
        yield
    await app[AUDIT].close()
