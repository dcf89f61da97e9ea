"""`GET` and `PUT /migration`; and what this process tells the roll-out of its requests."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple
from uuid import uuid4

from aiohttp import web
from pydantic import ValidationError

from ..models.errors import RejectedError, Rejection, UnavailableError
from ..settings import Settings
from ..store.rollout import RolloutStore, Sample
from ..telemetry import HTTP_REQUESTS, HTTP_TIME
from .auth import Permission, authorize
from .bodies import read_object
from .health import Health
from .patience import promptly
from .reads import json_response
from .requests import MigrationChange

logger = logging.getLogger(__name__)

ROLLOUT = web.AppKey("rollout", RolloutStore)

# Two samples within each look at the figures.
_SAMPLES_A_LOOK = 2

# What takes as long as its caller wants it to, or is no business of users.
_UNTIMED = frozenset({"/assessments/{id}/wait", "/assessments/{id}/events", "/events", "/health", "/ready", "/metrics"})


async def get_migration(request: web.Request) -> web.Response:
    """`GET /migration`."""
    authorize(request, Permission.VIEW)
    return await _status(request)


async def change_migration(request: web.Request) -> web.Response:
    """`PUT /migration`."""
    user = authorize(request, Permission.MIGRATE)
    body = await read_object(request)
    try:
        change = MigrationChange.model_validate(body)
    except ValidationError as error:
        raise RejectedError(Rejection.from_validation(error)) from error
    if change.legacy_mode is None and change.percentage is None:
        # Whoever sends back what GET answered, or misspells a name, would believe that it counts.
        raise RejectedError(Rejection.invalid("Nothing is to change: send legacyMode, percentage or both"))
    setting = request.app[ROLLOUT].set(user.id, legacy_mode=change.legacy_mode, percentage=change.percentage)
    await promptly(setting)
    logger.info("%s steers the migration", user.id, extra={"action": "migration_set", **change.to_wire()})
    return await _status(request)


async def _status(request: web.Request) -> web.Response:
    found = await promptly(request.app[ROLLOUT].read())
    return json_response(
        {**found.to_wire(), "heldBecause": found.state.held_because, "openDivergences": found.divergent}
    )


class _Counted(NamedTuple):
    requests: int
    errors: int
    seconds: float

    def since(self, other: _Counted) -> _Counted:
        """What came in between."""
        return _Counted(
            self.requests - other.requests, self.errors - other.errors, max(0.0, self.seconds - other.seconds)
        )


class Sampler:
    """Tells the roll-out, while there is one, how the requests of this process went."""

    def __init__(self, rollout: RolloutStore, health: Health, settings: Settings) -> None:
        self._rollout = rollout
        self._health = health
        self._pause = settings.migration_check_interval / _SAMPLES_A_LOOK
        self._process = uuid4().hex

    async def run(self) -> None:
        """Tell again and again, until cancelled; while Postgres is away, of all that time afterwards."""
        told = _counted()
        while True:
            await asyncio.sleep(self._pause)
            now = _counted()
            healthy = await self._is_healthy()
            try:
                await self._rollout.add_sample(Sample(self._process, *now.since(told), healthy))
            except UnavailableError as error:
                logger.debug("A sample was not kept: %s", error, extra={"action": "sample_not_kept"})
            else:
                told = now

    async def _is_healthy(self) -> bool:
        services = await self._health.services()
        return all(services[name]["status"] != "unhealthy" for name in ("database", "queue") if name in services)


def _counted() -> _Counted:
    """The requests of this process since its start."""
    requests = errors = 0.0
    for sample in next(iter(HTTP_REQUESTS.collect())).samples:
        if sample.name.endswith("_total") and sample.labels["route"] not in _UNTIMED:
            requests += sample.value
            errors += sample.value if sample.labels["status"] >= "500" else 0
    times = next(iter(HTTP_TIME.collect())).samples
    seconds = sum(item.value for item in times if item.name.endswith("_sum") and item.labels["route"] not in _UNTIMED)
    return _Counted(int(requests), int(errors), seconds)
