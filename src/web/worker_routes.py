"""What the worker serves on its own port: states from its table, health, readiness and metrics."""

from __future__ import annotations

from aiohttp import web

from ..store.reads import StateSource
from .admission import secure
from .auth import AUTHENTICATOR, Authenticator
from .errors import MIDDLEWARES
from .health import Health, Metrics
from .reads import SOURCE, STATE_PATH, get_state


def add_worker_routes(
    app: web.Application, *, source: StateSource, authenticator: Authenticator | None, health: Health, metrics: Metrics
) -> None:
    """Add the worker's routes to an application that has not started yet.

    Args:
        app: Faust's own.
        source: where states come from.
        authenticator: reads the tokens; without one nobody can be known, and states are not served at all.
        health: the checks of the services, and the worker's own.
        metrics: of this process.
    """
    app.middlewares.extend(MIDDLEWARES)
    app.on_response_prepare.append(secure)
    app.router.add_get("/health", health.health)
    app.router.add_get("/ready", health.ready)
    app.router.add_get("/metrics", metrics.metrics)
    if authenticator is not None:
        app[SOURCE], app[AUTHENTICATOR] = source, authenticator
        app.router.add_get(STATE_PATH, get_state)
