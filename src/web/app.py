"""The web application: its parts, its routes, and how it runs and stops."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from importlib import metadata

from aiohttp import web

from ..legacy.intake import Intake
from ..legacy.telling import Notifications as LegacyNotifications
from ..models.envelope import MAX_COMMAND_BYTES
from ..models.targets import Targets
from ..settings import Settings, SettingsError, networks
from ..store.background import background
from ..store.batches import BatchRequests, BulkReader
from ..store.cache import SharedCache
from ..store.divergences import Divergences
from ..store.encryption import KeyRing
from ..store.maintenance import Maintenance
from ..store.postgres import open_pools
from ..store.reads import OutcomeReader, StateReader
from ..store.redis import open_redis
from ..store.refusals import RefusalStore
from ..store.replicas import open_replicas
from ..store.rollout import RolloutStore
from ..store.routing import ReadRouter
from ..store.trail import TrailReader
from ..store.webhooks import WebhookStore
from .admission import secure
from .asyncapi import asyncapi_document
from .auth import AUTHENTICATOR, required_authenticator
from .batches import BULK_READER, MEMORY
from .bodies import Memory
from .bulk import BULK, BulkCommands
from .commands import COMMANDS, Commands
from .contracts import CONTRACTS, Contracts
from .deletions import Deletions
from .errors import MIDDLEWARES
from .feed import FEED, MOST_STREAMS, Feed
from .freshness import READS
from .health import HEALTH, METRICS, Health, Metrics, standard_checks
from .kafka_probe import KafkaProbe
from .keys import KEYS
from .legacy import INTAKE, NOTIFICATIONS, Sender
from .limits import LIMITS, Limits
from .maintenance import CLEANUP, Cleanup
from .migration import ROLLOUT, Sampler
from .notifications import Notifications
from .once import ONCE, Once
from .openapi import openapi_document
from .proxies import PROXIES, Proxies
from .publisher import Publisher
from .reads import SOURCE
from .refusals import AUDIT, Refusals
from .route import add_routes
from .routes import ROUTES
from .server import Runner
from .streams import TRAIL
from .waiters import WAITING, Waiters
from .webhooks import TARGETS, WEBHOOKS

logger = logging.getLogger(__name__)

# After its outcome is known, a command is answered within this time.
_ANSWER_SECONDS = 2.0

_OTHER_FILES = 2_000
"""Requests, pools and logs, beside the streams."""

# Thousands of streams come back at once when another process ends.
_BACKLOG = 1_024


def build_app(settings: Settings) -> web.Application:
    """The whole HTTP API; it opens what it needs when it starts, and needs no service to be there for that.

    Raises:
        SettingsError: there is neither a JWT secret nor an issuer, or a key cannot be read.
    """
    app = web.Application(middlewares=MIDDLEWARES, client_max_size=MAX_COMMAND_BYTES)
    app[AUTHENTICATOR] = required_authenticator(settings)
    app[KEYS] = KeyRing.of(settings)
    app[PROXIES] = Proxies(settings.trusted_proxies)
    app[TARGETS] = Targets(networks(settings.webhook_allowed_networks))
    app.on_response_prepare.append(secure)
    app.cleanup_ctx.append(partial(_parts, settings))
    app.on_shutdown.append(_end_waits)
    version = metadata.version("assessmentstore")
    app[CONTRACTS] = Contracts.of(openapi_document(ROUTES, version), asyncapi_document(settings, version))
    add_routes(app.router, ROUTES)
    return app


async def serve(settings: Settings) -> None:
    """Run the HTTP API until SIGTERM or SIGINT, and stop so that nobody's request fails.

    1. `/ready` says no, and every answer closes its connection; all is served for `drain_seconds` more.
    2. No connection is taken any more; waits and streams end, and their clients come back elsewhere.
    3. Commands in flight get their outcome.

    Raises:
        SettingsError: a setting is missing, or the port is taken.
    """
    app = build_app(settings)
    app.on_response_prepare.append(_close_connections)
    # Every command in flight has its outcome by then, or its deadline.
    runner = Runner(app, shutdown_timeout=settings.command_timeout + _ANSWER_SECONDS)
    _allow_connections()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await runner.setup()
        await _listen(runner, settings)
        logger.info("Listening on %s:%s", settings.http_host, settings.http_port, extra={"action": "web_started"})
        await stop.wait()
        logger.info("Stopping", extra={"action": "web_stopping"})
        app[HEALTH].leaving = True
        await asyncio.sleep(settings.drain_seconds)
    finally:
        await runner.cleanup()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _allow_connections() -> None:
    """Let as many streams be open as there may be, where the usual soft limit is 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_STREAMS + _OTHER_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_STREAMS + _OTHER_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _listen(runner: web.AppRunner, settings: Settings) -> None:
    try:
        await web.TCPSite(runner, settings.http_host, settings.http_port, backlog=_BACKLOG).start()
    except OSError as error:
        where = f"{settings.http_host}:{settings.http_port}"
        words = f"ASSESSMENTSTORE_HTTP_PORT={settings.http_port}: cannot listen on {where} ({error.strerror})"
        raise SettingsError(f"{words}: stop whoever has it, or choose another") from error


async def _parts(settings: Settings, app: web.Application) -> AsyncIterator[None]:
    """Open what the handlers work with, keep it going, and close it in the opposite order."""
    async with AsyncExitStack() as stack:
        pools = await stack.enter_async_context(open_pools(settings, application="assessmentstore web"))
        redis = await stack.enter_async_context(open_redis(settings))
        cache = SharedCache(redis, settings.topic_prefix)
        replicas = await stack.enter_async_context(
            open_replicas(settings, pools.read, application="assessmentstore web")
        )
        router = ReadRouter(pools.read, settings.commands_topic, replicas)
        keys = app[KEYS]
        reader = StateReader(router, cache, keys)
        stack.push_async_callback(reader.settle)
        publisher = Publisher(settings)
        # Outcomes are read on the other pool: a rush of reads must not keep commands from their answers.
        commands = Commands(publisher, OutcomeReader(pools.write, keys), timeout=settings.command_timeout, keys=keys)
        waiters = Waiters(reader, reader)
        feed = Feed(TrailReader(pools.write, settings.commands_topic, keys))
        kafka = KafkaProbe(settings)
        stack.push_async_callback(kafka.close)
        app[SOURCE], app[COMMANDS], app[WAITING] = reader, commands, waiters
        app[READS] = router
        app[HEALTH] = Health(standard_checks(settings, pools.read, cache, kafka, replicas))
        # Streams that catch up take turns among themselves, and keep nobody from the live events.
        app[FEED], app[TRAIL] = feed, TrailReader(pools.write, settings.commands_topic, keys)
        app[METRICS] = Metrics(settings, pools)
        app[BULK_READER], app[MEMORY] = BulkReader(pools.write), Memory()
        app[BULK] = BulkCommands(publisher, app[BULK_READER], commands, timeout=settings.command_timeout)
        app[ONCE] = Once(BatchRequests(pools.write), keys)
        app[WEBHOOKS] = WebhookStore(pools.write, keys)
        maintenance = Maintenance(pools.write, settings.commands_topic)
        app[CLEANUP] = Cleanup(maintenance, cache, reader, Deletions(settings, maintenance))
        app[LIMITS], app[AUDIT] = Limits(redis, settings), Refusals(RefusalStore(pools.write))
        stack.push_async_callback(app[AUDIT].close)
        app[ROLLOUT] = RolloutStore(pools.write, settings.commands_topic)
        app[INTAKE] = Intake(Sender(publisher), Divergences(pools.write, keys), keys)
        app[NOTIFICATIONS] = LegacyNotifications(app[TRAIL])
        sampler = Sampler(app[ROLLOUT], app[HEALTH], settings)
        notifications = Notifications(cache, reader, commands, waiters, feed)
        watches = (replicas.watch,) if settings.replica_urls else ()
        works = (publisher.run, notifications.run, waiters.wake, waiters.poll, feed.run, app[AUDIT].run, *watches)
        works = (*works, sampler.run, cache.watch)
        for work in works:
            await stack.enter_async_context(background(work))
        yield


async def _end_waits(app: web.Application) -> None:
    """End what may take for ever; a command in flight ends by itself, with its outcome."""
    app[WAITING].stop()
    app[FEED].stop()


async def _close_connections(request: web.Request, response: web.StreamResponse) -> None:
    """While we are leaving, have every client and proxy come on another connection, which is another process's."""
    if request.app[HEALTH].leaving:
        response.force_close()
        response.headers["Connection"] = "close"  # this late, the headers are made
