"""Health, readiness and metrics, for the web and for the worker's own port."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ..models.errors import UnavailableError
from ..models.metrics import AssessmentMetrics
from ..models.positions import Positions
from ..refused import why_refused
from ..settings import Settings
from ..store.cache import SharedCache
from ..store.metrics import read_metrics
from ..store.patience import within
from ..store.postgres import Pool, Pools, postgres_errors
from ..store.queries import QUERIES
from ..store.replicas import Replicas
from ..store.timers import TimerStore
from ..telemetry import (
    ACTIVE_ASSESSMENTS,
    AVERAGE_PROCESSING_TIME,
    MIGRATION_PERCENTAGE,
    OPEN_AUDIT_LETTERS,
    OPEN_DEAD_LETTERS,
    OPEN_DIVERGENCES,
    PENDING_TOO_LONG,
    POOL_CONNECTIONS,
    THROUGHPUT,
    TIMERS_LATE,
    WEBHOOK_DELAY,
    WEBHOOK_QUEUE,
)
from .headers import prefers_json
from .kafka_probe import KafkaProbe
from .patience import promptly
from .reads import json_response

logger = logging.getLogger(__name__)

Check = Callable[[], Coroutine[Any, Any, Mapping[str, Any]]]
"""Ask something how it is: details, with a `status` of its own where it answers and is not well; or an error."""

_CHECK_SECONDS = 2.0

# The lag is told beside the health of the queue: a Postgres that hangs must not pass for a Kafka that does.
_LAG_SECONDS = 0.5

# Many probes at once ask each service once.
_SHARED_SECONDS = 1.0

# Nothing fails without Redis; it is only slower.
_DISPENSABLE = frozenset({"cache"})

_COUNT_SECONDS = 10.0


class Health:
    """What the checks say, asked at most once a second."""

    def __init__(self, checks: Mapping[str, Check], details: Mapping[str, Callable[[], Any]] | None = None) -> None:
        """Take what is asked, and what else is told, by its name."""
        self._checks = checks
        self._details = details or {}
        self._lock = asyncio.Lock()
        self._asked = -_SHARED_SECONDS
        self._services: dict[str, dict[str, Any]] = {}
        self._told: dict[str, str] = {}
        self.leaving = False
        """Whether the process is about to stop, so that requests are to go elsewhere."""

    async def services(self) -> dict[str, dict[str, Any]]:
        """Each service, with its `status` (healthy, degraded, unhealthy)."""
        async with self._lock:
            if time.monotonic() - self._asked >= _SHARED_SECONDS:
                found = await asyncio.gather(*(self._ask(name) for name in self._checks))
                self._services = dict(zip(self._checks, found, strict=True))
                self._asked = time.monotonic()
        return self._services

    async def health(self, _request: web.Request) -> web.Response:
        """`GET /health`: how everything is, always with 200."""
        services = await self.services()
        asked = datetime.now(UTC) - timedelta(seconds=time.monotonic() - self._asked)
        report = {"overall": _overall(services), "services": services, "lastUpdated": asked}
        details = {name: tell() for name, tell in self._details.items()}
        return json_response(report | {"details": details} if details else report)

    async def ready(self, _request: web.Request) -> web.Response:
        """`GET /ready`: 200 or 503, whether requests can be served."""
        services = await self.services()
        ready = not self.leaving and all(
            _serves(service) for name, service in services.items() if name not in _DISPENSABLE
        )
        checks = {name: service["status"] for name, service in services.items()}
        return json_response({"ready": ready, "checks": checks}, status=200 if ready else 503)

    async def _ask(self, name: str) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            details = await within(_CHECK_SECONDS, self._checks[name]())
            latency = round((time.perf_counter() - started) * 1000, 1)
            answer: dict[str, Any] = {"status": "healthy", "latencyMs": latency, **details}
            reason = str(answer.get("error", ""))
        except TimeoutError as error:
            answer, reason = {"status": "unhealthy", "error": str(error)}, str(error)
        except Exception as error:
            # Whatever a check dies of, it is not well. The reason may name hosts: it is for the log, not for everybody.
            answer = {"status": "unhealthy", "error": why_refused(error) or "does not answer"}
            reason = repr(error)
        self._log(name, answer["status"], reason)
        return answer

    def _log(self, name: str, status: str, reason: str) -> None:
        """Tell the operator of changes, not of every probe."""
        if self._told.get(name, "healthy") != status:
            level = logging.INFO if status == "healthy" else logging.WARNING
            logger.log(level, "%s is %s %s", name, status, reason, extra={"action": "health_changed"})
        self._told[name] = status


def _overall(services: Mapping[str, Mapping[str, Any]]) -> str:
    if any(item["status"] == "unhealthy" for name, item in services.items() if name not in _DISPENSABLE):
        return "unhealthy"
    return "healthy" if all(item["status"] == "healthy" for item in services.values()) else "degraded"


def _serves(service: Mapping[str, Any]) -> bool:
    """Whether a service does its work, be it slower than usual."""
    return service["status"] == "healthy" or service.get("serves") is True


def standard_checks(
    settings: Settings, pool: Pool, cache: SharedCache | None, kafka: KafkaProbe, replicas: Replicas | None = None
) -> dict[str, Check]:
    """The checks of the services; of the cache where there is one."""
    timers = TimerStore(pool)

    async def queue() -> dict[str, Any]:
        details, ends = await kafka.ping()
        lag, late = await _lag(pool, settings.commands_topic, ends), await _late(timers, settings.pending_too_long)
        return details | lag | late

    async def database() -> dict[str, Any]:
        with postgres_errors():
            ((version, migrated),) = await pool.fetch(QUERIES["ping"])
        details: dict[str, Any] = {"version": version}
        if told := replicas.health() if replicas else []:
            details["replicas"] = told
            out = sum(not replica["healthy"] for replica in told)
            if out:
                error = f"{out} of {len(told)} replicas are out of use: the primary answers in their place"
                details |= {"status": "degraded", "error": error, "serves": True}
        if not migrated:
            error = "the schema is missing: run assessmentstore migrate"
            details |= {"status": "degraded", "error": error, "serves": False}
        return details

    return {"database": database, **({"cache": cache.ping} if cache else {}), "queue": queue}


async def _lag(pool: Pool, topic: str, ends: Mapping[int, int]) -> dict[str, int]:
    """How many commands are not applied yet, in all and of the partition that is furthest behind; or nothing."""
    if not ends:
        return {}
    try:
        with postgres_errors():
            reading = pool.fetch(QUERIES["applied_positions"], topic, list(ends))
            applied = {row["partition"]: row["next_offset"] for row in await within(_LAG_SECONDS, reading)}
    except (UnavailableError, TimeoutError) as error:
        logger.debug("The lag is not known: %r", error, extra={"action": "lag_unavailable"})
        return {}
    behind = Positions(ends).missing(applied)
    return {"lag": sum(behind.values()), "maxPartitionLag": max(behind.values(), default=0)}


async def _late(timers: TimerStore, pending_seconds: float) -> dict[str, Any]:
    """How many assessments nobody takes up, and how late timers are; or nothing."""
    try:
        figures = await within(_LAG_SECONDS, timers.figures(pending_seconds))
    except (UnavailableError, TimeoutError) as error:
        logger.debug("How late timers are is not known: %r", error, extra={"action": "timers_unavailable"})
        return {}
    return {"pendingTooLong": figures.pending_too_long, "timersLateSeconds": round(figures.late_seconds, 1)}


class Metrics:
    """`GET /metrics`: Prometheus text, with gauges that are read when asked for; or the reference's figures as JSON."""

    def __init__(self, settings: Settings, pools: Pools) -> None:
        self._pending_seconds = settings.pending_too_long
        self._timers = TimerStore(pools.read)
        self._pools = pools
        self._counted = -_COUNT_SECONDS

    async def metrics(self, request: web.Request) -> web.Response:
        """Every metric of this process, or with `Accept: application/json` the figures of the whole store."""
        if prefers_json(request.headers.getall("Accept", [])):
            return json_response((await self._read()).to_wire(), headers={"Vary": "Accept"})
        await self._count_active()
        for name, pool in self._pools._asdict().items():
            POOL_CONNECTIONS.labels(name, "idle").set(pool.get_idle_size())
            POOL_CONNECTIONS.labels(name, "used").set(pool.get_size() - pool.get_idle_size())
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST, "Vary": "Accept"})

    async def _count_active(self) -> None:
        """Ask Postgres now and then; while it is away the last figures stand."""
        if time.monotonic() - self._counted < _COUNT_SECONDS:
            return
        self._counted = time.monotonic()
        try:
            figures = await self._read()
            with postgres_errors():
                counting = self._pools.read.fetchval(QUERIES["count_open_dead_letters"])
                OPEN_DEAD_LETTERS.set(await promptly(counting, seconds=_CHECK_SECONDS))
                waiting = self._pools.read.fetch(QUERIES["outward_figures"])
                ((letters, queued, delay),) = await promptly(waiting, seconds=_CHECK_SECONDS)
                (migration,) = await promptly(
                    self._pools.read.fetch(QUERIES["migration_status"]), seconds=_CHECK_SECONDS
                )
                MIGRATION_PERCENTAGE.set(0 if migration["legacy_mode"] else migration["percentage"])
                OPEN_DIVERGENCES.set(migration["divergent"])
            timers = await promptly(self._timers.figures(self._pending_seconds), seconds=_CHECK_SECONDS)
        except UnavailableError as error:
            logger.debug("Active assessments were not counted: %r", error, extra={"action": "count_unavailable"})
            return
        OPEN_AUDIT_LETTERS.set(letters)
        WEBHOOK_QUEUE.set(queued)
        WEBHOOK_DELAY.set(delay)
        ACTIVE_ASSESSMENTS.set(figures.active_assessments)
        AVERAGE_PROCESSING_TIME.set(figures.average_processing_time / 1000)
        THROUGHPUT.set(figures.throughput_per_minute)
        PENDING_TOO_LONG.set(timers.pending_too_long)
        TIMERS_LATE.set(timers.late_seconds)

    async def _read(self) -> AssessmentMetrics:
        """Add the counters up.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            return await promptly(self._add_up(), seconds=_CHECK_SECONDS)

    async def _add_up(self) -> AssessmentMetrics:
        async with self._pools.read.acquire() as connection:
            return await read_metrics(connection)


HEALTH = web.AppKey("health", Health)
METRICS = web.AppKey("metrics", Metrics)


async def get_health(request: web.Request) -> web.Response:
    """`GET /health`."""
    return await request.app[HEALTH].health(request)


async def get_ready(request: web.Request) -> web.Response:
    """`GET /ready`."""
    return await request.app[HEALTH].ready(request)


async def get_metrics(request: web.Request) -> web.Response:
    """`GET /metrics`."""
    return await request.app[METRICS].metrics(request)
