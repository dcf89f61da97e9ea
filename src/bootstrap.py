"""The composition root: settings become running parts."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
import uvloop
from aiohttp import web as aiohttp_web

from .agents.app import CommandsApp, build_app
from .agents.bridge import open_bridge
from .agents.prompt import PromptWorker
from .agents.topics import create_topics, topics_exist
from .executor.executor import executing
from .models.errors import UnavailableError
from .outward.beside import outward
from .services.processes import are_free
from .settings import Settings, SettingsError
from .store.encryption import KeyRing
from .store.migrate import is_migrated
from .store.migrate import migrate as migrate_database
from .store.refusals import RefusalStore
from .store.signing import signing_key
from .telemetry import watch_process
from .web.app import serve
from .web.auth import Authenticator
from .web.health import Health, Metrics, standard_checks
from .web.kafka_probe import KafkaProbe
from .web.limits import Limits
from .web.proxies import Proxies
from .web.refusals import Refusals
from .web.server import Runner
from .web.worker_routes import Door, add_status_routes, add_worker_routes

log = structlog.get_logger(__name__)

_PAUSE_SECONDS = 1.0

# A batch makes tens of thousands of small objects, none of them in a cycle: with the stock threshold of 700, looking
# for cycles among them is half the time of decode and fold.
_GARBAGE_THRESHOLDS = (100_000, 50, 100)


async def migrate(settings: Settings) -> list[str]:
    """Create or upgrade the Postgres schema and the topics, and say what was done.

    Raises:
        SettingsError: what is there does not fit the settings.
        UnavailableError: Postgres or Kafka is away.
    """
    migrations = await migrate_database(settings.database_url)
    topics = await create_topics(settings)
    return [f"applied migration {name}" for name in migrations] + [f"created topic {name}" for name in topics]


def run_web(settings: Settings) -> int:
    """Run the HTTP API until it is told to stop, and say how it ended: 0 in good order.

    Raises:
        SettingsError: a setting is missing, or the port is taken.
    """
    watch_process()
    uvloop.run(serve(settings))
    return 0


def run_worker(settings: Settings) -> int:
    """Run a worker until it is told to stop, and say how it ended: 0 in good order.

    Raises:
        SettingsError: the port is taken, or a key cannot be read.
    """
    watch_process()
    signing_key(settings)
    KeyRing.of(settings)
    if not are_free([settings.worker_port]):
        raise SettingsError(
            f"ASSESSMENTSTORE_WORKER_PORT={settings.worker_port}: the port is taken; a second worker on one machine"
            " needs a port of its own"
        )
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(_services_are_there(settings))
    app = build_app(settings, mount_web=_mount_worker_web, companions=[_executor, outward])
    worker = PromptWorker(app, loglevel="WARN", redirect_stdouts=False, override_logging=False, quiet=True)
    try:
        worker.execute_from_commandline()
    except SystemExit as ending:
        return 0 if ending.code in (None, 0) else 1
    return 0


@asynccontextmanager
async def _executor(app: CommandsApp) -> AsyncIterator[None]:
    """The executor beside the lanes, where a compliance server is named."""
    if not app.settings.compliance_urls:
        yield
        return

    def given() -> Mapping[int, bool]:
        return {partition: lane.flowing for partition, lane in app.lanes.current.items()}

    keys = KeyRing.of(app.settings)
    async with executing(app.settings, app.pools.write, keys, given) as executor:
        app.listeners.append(executor.notice)
        app.details["complianceServers"] = executor.servers
        yield


def run_bridge(settings: Settings) -> int:
    """Run the bridge to the old system until it is told to stop, and say how it ended: 0 in good order.

    Raises:
        SettingsError: the port is taken, or a key cannot be read.
    """
    watch_process()
    uvloop.run(_serve_bridge(settings))
    return 0


async def _serve_bridge(settings: Settings) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with bridging(settings):
        log.info("the bridge to the old system runs", port=settings.bridge_port)
        await stop.wait()


@asynccontextmanager
async def bridging(settings: Settings) -> AsyncIterator[None]:
    """The bridge, and a port where it tells how it is.

    Raises:
        SettingsError: the port is taken, or a key cannot be read.
    """
    async with open_bridge(settings) as pools, AsyncExitStack() as stack:
        kafka = KafkaProbe(settings)
        stack.push_async_callback(kafka.close)
        app = aiohttp_web.Application()
        # It has no use for Redis.
        health = Health(standard_checks(settings, pools.read, None, kafka))
        add_status_routes(app, health, Metrics(settings, pools))
        runner = Runner(app)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        try:
            await aiohttp_web.TCPSite(runner, settings.http_host, settings.bridge_port).start()
        except OSError as error:
            words = f"ASSESSMENTSTORE_BRIDGE_PORT={settings.bridge_port}: cannot listen on it ({error.strerror})"
            raise SettingsError(f"{words}: stop whoever has it, or choose another") from error
        yield


async def _services_are_there(settings: Settings) -> None:
    """Wait for Postgres with its schema and for Kafka with its topics: Faust does not start without them."""
    told = ""
    while True:
        try:
            missing = await _missing(settings)
        except UnavailableError as error:
            missing = str(error)
        if not missing:
            return
        if missing != told:
            log.warning("the worker waits", why=missing)
            told = missing
        await asyncio.sleep(_PAUSE_SECONDS)


async def _missing(settings: Settings) -> str:
    """What a worker cannot start without, or nothing."""
    if await is_migrated(settings.database_url) and await topics_exist(settings):
        return ""
    return "the schema or the topics are missing: run assessmentstore migrate"


def _mount_worker_web(app: CommandsApp, worker_web: aiohttp_web.Application) -> aiohttp_web.AppRunner:
    """The routes of the worker's own port, with one check more than the web has."""
    settings = app.settings
    kafka = KafkaProbe(settings, settings.events_topic, settings.rejections_topic, settings.dead_letters_topic)

    async def close(_: aiohttp_web.Application) -> None:
        await kafka.close()

    async def partitions() -> Mapping[str, Any]:
        owned = sorted(partition for partition, lane in app.lanes.current.items() if lane.flowing)
        return {"owned": owned} if app.lanes.ready else {"owned": owned, "status": "unhealthy"}

    checks = standard_checks(settings, app.pools.read, app.shared_cache, kafka)
    worker_web.on_cleanup.append(close)
    add_worker_routes(
        worker_web,
        source=app.states,
        authenticator=Authenticator.of(settings),
        health=Health(checks | {"partitions": partitions}, app.details),
        metrics=Metrics(settings, app.pools),
        door=Door(
            Proxies(settings.trusted_proxies), Limits(app.redis, settings), Refusals(RefusalStore(app.pools.write))
        ),
    )
    return Runner(worker_web)
