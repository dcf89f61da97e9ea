"""The Faust app of a worker: one agent that hands record batches to lanes, and the worker's own web."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any

import faust
import structlog
from aiohttp import web
from faust.types import TP
from redis.asyncio import Redis

from ..kafka import kafka_connection
from ..models.assessment import AssessmentRecord
from ..models.positions import Positions
from ..settings import Settings
from ..store.background import background
from ..store.batch import BatchStore
from ..store.cache import SharedCache
from ..store.checkpoints import CheckpointStore
from ..store.encryption import NO_KEYS, KeyRing
from ..store.postgres import Pools, open_pools
from ..store.reads import StateReader, StateSource
from ..store.redis import open_redis
from ..store.routing import ReadRouter
from ..store.signing import signing_key
from ..store.table import StateTable
from ..store.timers import TimerStore
from .batches import BatchConsumer, BatchTransport
from .caught_up import Position
from .commands import PartitionProcessors
from .crash_points import CrashPoints
from .evictions import evicting
from .lanes import Lanes
from .prompt import NoTables
from .scrubber import Scrubber, scrubbing
from .timers import Timers

log = structlog.get_logger(__name__)

# A worker that cannot end in good order ends all the same: its partitions go to the others.
_STOP_SECONDS = 20.0

_HEARTBEATS_IN_SESSION = 10

# How long the group waits for a member to hand its partitions back: longer than lanes need to close.
_REBALANCE_SECONDS = 20.0

# The consumer's own limit on the time between polls would evict a worker whose lanes wait for Postgres.
_POLL_INTERVAL_SECONDS = 86_400.0

_COMMIT_INTERVAL_SECONDS = 2.0

# How soon a worker learns that somebody changed the partitions: before most producers do, who ask every five minutes.
_METADATA_MILLISECONDS = 10_000

_FETCH_BYTES = 1024 * 1024
"""Bytes of each partition that are fetched ahead: with the batches that wait, the bound of a worker's memory."""


class Tables:
    """The RocksDB tables of this worker, opened when a partition is first owned."""

    def __init__(self, settings: Settings) -> None:
        # The port names the worker among others on the machine: RocksDB lets one process have a table.
        self._folder = settings.data_dir / f"worker-{settings.worker_port}"
        self._tables: dict[int, StateTable] = {}

    def open(self, partition: int) -> StateTable:
        """The table of a partition."""
        if partition not in self._tables:
            self._tables[partition] = StateTable(self._folder / f"partition-{partition}")
        return self._tables[partition]

    def evict(self, assessment_ids: Collection[str]) -> None:
        """Forget assessments, whichever table they are in."""
        for table in self._tables.values():
            table.evict(assessment_ids)

    def close(self) -> None:
        """Let go of all files."""
        for table in self._tables.values():
            table.close()


def own_tables(tables: Tables, lanes: Lanes) -> dict[int, StateTable]:
    """The tables of the partitions that this worker has now."""
    return {partition: tables.open(partition) for partition, lane in lanes.current.items() if lane.flowing}


class WorkerStates:
    """Reads on a worker: its own partitions from the tables, everything else as every other process does."""

    def __init__(self, tables: Tables, lanes: Lanes, others: StateSource, keys: KeyRing = NO_KEYS) -> None:
        self._tables = tables
        self._lanes = lanes
        self._others = others
        self._keys = keys

    async def get(
        self, assessment_id: str, *, min_version: int = 0, positions: Positions | None = None
    ) -> AssessmentRecord | None:
        """One assessment, from the table of a partition that this worker owns where it is there and fresh enough.

        Raises:
            StaleError: nobody has applied as much as `positions` name, not even after a moment.
            UnavailableError: it is in no table, and neither Redis nor Postgres answers.
        """
        own = own_tables(self._tables, self._lanes)
        if positions is None or positions.reached_by({key: table.position or 0 for key, table in own.items()}):
            for table in own.values():
                state = table.get(assessment_id)
                if state is not None and state.version >= min_version and self._keys.has_keys_of(state):
                    return self._keys.open_record(state)
        return await self._others.get(assessment_id, min_version=min_version, positions=positions)


class CommandsApp(faust.App):
    """A Faust app whose consumer feeds lanes; `build_app` makes one."""

    settings: Settings
    lanes: Lanes
    states: WorkerStates
    pools: Pools
    shared_cache: SharedCache
    consumer: BatchConsumer
    crash_points: CrashPoints
    redis: Redis
    mount_web: Callable[[CommandsApp, web.Application], web.AppRunner]
    companions: Sequence[Companion]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resources = AsyncExitStack()
        self.listeners: list[Callable[[Mapping[str, AssessmentRecord]], None]] = []
        """They are told the assessments that a batch changed, once it is committed."""
        self.details: dict[str, Callable[[], Any]] = {}
        """What `/health` tells beside the services."""

    @property
    def commands_topic(self) -> str:
        """The topic that the lanes read."""
        return self.settings.commands_topic

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Open what the lanes need, in the loop that they run in."""
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        await super().on_first_start()
        self.pools = await self._resources.enter_async_context(open_pools(self.settings, application="worker"))
        self.redis = await self._resources.enter_async_context(open_redis(self.settings))
        self.shared_cache = SharedCache(self.redis, self.settings.topic_prefix)
        await self._resources.enter_async_context(background(self.shared_cache.watch))
        tables = Tables(self.settings)
        self._resources.callback(tables.close)
        await self._resources.enter_async_context(evicting(self.shared_cache, tables.evict))
        keys = KeyRing.of(self.settings)
        self.lanes = Lanes(self._processors(tables, keys), self._end_on_bug, batch_size=self.settings.batch_size)
        # A worker reads little that it does not own: replicas are for the API.
        router = ReadRouter(self.pools.read, self.settings.commands_topic)
        if rate := self.settings.scrub_rate:
            own = partial(own_tables, tables, self.lanes)
            scrubber = Scrubber(self.pools.read, self.shared_cache, own, keys, rate=rate)
            await self._resources.enter_async_context(scrubbing(scrubber))
        self.states = WorkerStates(tables, self.lanes, StateReader(router, self.shared_cache, keys), keys)
        timers = Timers(self.settings, TimerStore(self.pools.read), self._positions)
        await self._resources.enter_async_context(background(timers.run))
        for companion in self.companions:
            await self._resources.enter_async_context(companion(self))

    def on_webserver_init(self, web_server: Any) -> None:
        """Add the worker's own routes, and have them run as we want it."""
        web_server._runner = self.mount_web(self, web_server.web_app)

    async def on_stop(self) -> None:
        """Finish the batches under way before the consumer leaves the group."""
        asyncio.get_running_loop().call_later(_STOP_SECONDS, _end_process, "it does not stop in good order")
        if hasattr(self, "lanes"):
            await self.lanes.close()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Close what the lanes needed."""
        await super().on_shutdown()
        await self._resources.aclose()

    def _positions(self) -> dict[int, Position]:
        """Where the lanes stand that are claimed."""
        return {
            partition: Position(
                flow=lane.flow,
                applied=lane.applied_position,
                is_idle=lane.is_idle,
                end=self.consumer.highwater(TP(self.commands_topic, partition)),
            )
            for partition, lane in self.lanes.current.items()
            if lane.flowing
        }

    def _processors(self, tables: Tables, keys: KeyRing) -> Callable[[], PartitionProcessors]:
        key = signing_key(self.settings)
        if key is None:
            log.warning("the audit trail is chained, but no checkpoint is made: set ASSESSMENTSTORE_AUDIT_SIGNING_KEY")
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.crash_points = CrashPoints.from_environment()
        return lambda: PartitionProcessors(
            self.settings,
            owner=owner,
            store=BatchStore(self.pools.write),
            cache=self.shared_cache,
            open_table=tables.open,
            checkpoints=CheckpointStore(self.pools.write),
            signing_key=key,
            keys=keys,
            crash_points=self.crash_points,
            tell=self._tell,
        )

    def _tell(self, changed: Mapping[str, AssessmentRecord]) -> None:
        for listener in self.listeners:
            listener(changed)

    async def _end_on_bug(self, error: BaseException) -> None:
        """An error that nobody foresaw ends the process: another worker goes on, or this one after a restart."""
        asyncio.get_running_loop().call_later(_STOP_SECONDS, _end_process, repr(error))
        await self.crash(error)


Companion = Callable[[CommandsApp], AbstractAsyncContextManager[None]]
"""Work that goes on beside the lanes, from their start to their end."""


def _end_process(why: str) -> None:
    log.error("the worker is ended", why=why)
    os._exit(1)


class _AsTheyCome(faust.Schema[Any, Any]):
    """No decoding: the lanes do it, so that what cannot be decoded is not lost."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        """A decoder that passes the message on."""

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001
            return app.create_event(None, message.value, None, message)

        return decode


def _credentials(settings: Settings) -> Any:
    """How Faust reaches the brokers, as every other client does; nothing where it needs nothing."""
    connection = kafka_connection(settings)
    if "sasl_mechanism" not in connection:
        return connection["ssl_context"]
    return faust.SASLCredentials(
        username=connection["sasl_plain_username"],
        password=connection["sasl_plain_password"],
        mechanism=connection["sasl_mechanism"],
        ssl_context=connection["ssl_context"],
    )


def build_app(
    settings: Settings,
    *,
    mount_web: Callable[[CommandsApp, web.Application], web.AppRunner],
    middlewares: Sequence[Any] = (),
    companions: Sequence[Companion] = (),
) -> CommandsApp:
    """The worker's Faust app.

    Args:
        settings: of this installation.
        mount_web: adds the routes of the worker's port, and makes what runs it.
        middlewares: of the worker's port.
        companions: what else runs in this process.
    """
    app = CommandsApp(
        settings.app_id,
        version=1,
        broker=[f"kafka://{server}" for server in settings.kafka_bootstrap.split(",")],
        broker_credentials=_credentials(settings),
        datadir=settings.data_dir / f"worker-{settings.worker_port}" / "faust",
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / _HEARTBEATS_IN_SESSION,
        broker_request_timeout=max(30.0, settings.session_timeout + 5),
        broker_rebalance_timeout=max(_REBALANCE_SECONDS, settings.session_timeout),
        broker_max_poll_interval=_POLL_INTERVAL_SECONDS,
        broker_commit_interval=_COMMIT_INTERVAL_SECONDS,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=_FETCH_BYTES,
        consumer_metadata_max_age_ms=_METADATA_MILLISECONDS,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        TableManager=NoTables,
        web_host=settings.http_host,
        web_port=settings.worker_port,
        web_bind=settings.http_host,
        web_application_options={"middlewares": list(middlewares)},
        web_in_thread=False,
        debug=False,
    )
    app.settings = settings
    app.mount_web = mount_web
    app.companions = companions
    commands = app.topic(settings.commands_topic, schema=_AsTheyCome())

    @app.agent(commands, name="commands")
    async def dispatch(stream: Any) -> None:
        """Hand each record batch to its lane; nothing here can fail, for Faust would lose what it had buffered."""
        async for event in stream.noack().events():
            app.lanes.put(event.message.partition, event.value)

    return app
