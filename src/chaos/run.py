"""One run: start an installation, let the plan happen to it, wait until all has come to rest, and judge."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from ..bootstrap import migrate
from ..models.errors import AssessmentStoreError
from ..services import Services
from ..store.encryption import KeyRing
from .besides import Besides
from .clients import Clients, live_all
from .evidence import Violation
from .faults import Faults, Happened
from .fleet import Fleet
from .history import Call, History, Kind
from .http_client import HttpClient
from .installation import Installation
from .kafka_client import KafkaClient
from .model import expect
from .own_services import OwnServices, create_database, settings_on
from .plan import JOINER, WEBS, WORKERS, Plan
from .records import judge_records
from .sabotages import BY_NAME
from .streams import Seen, follow_all, observe
from .testimony import judge_calls
from .truth import Truth
from .verdict import Verdict, count_told
from .world import World, read_world, settle

_START_SECONDS = 120.0
_BEGIN_SECONDS = 30.0

# What is not applied, published and shown by then counts as lost.
SETTLE_SECONDS = 90.0
_STREAM_SECONDS = 20.0

_POLL_SECONDS = 0.2

_DATA = "data"
"""Of the workers, below the folder of a run."""

_OBSERVER = "consumer of events"

Say = Callable[[str], None]


class ChaosError(AssessmentStoreError):
    """The run itself failed, so that there is nothing to judge."""


@dataclass(frozen=True)
class Stage:
    """Where runs take place: services of their own, and a folder for what they leave."""

    own: OwnServices
    services: Services
    folder: Path


@asynccontextmanager
async def open_stage(folder: Path) -> AsyncIterator[Stage]:
    """Start services for one run after the other, and stop them."""
    own = OwnServices(folder)
    try:
        yield Stage(own, await own.up(), folder)
    finally:
        await own.down()


def tidy(stage: Stage) -> None:
    """Remove what is of no use any more when all is well: the data of the services and of the workers."""
    for folder in (stage.folder / "services", *stage.folder.glob(f"*/{_DATA}")):
        shutil.rmtree(folder, ignore_errors=True)


async def run(
    stage: Stage, plan: Plan, folder: Path, *, sabotage: str = "", patience: float = SETTLE_SECONDS, say: Say
) -> tuple[Verdict, Sequence[Call]]:
    """Do all that a plan says, judge, and leave history, plan and verdict in a folder.

    Args:
        stage: where.
        plan: what is to happen.
        folder: for what the run leaves.
        sabotage: what is to be wrong with workers and webs.
        patience: seconds until what is not done counts as lost.
        say: told how far it is.

    Raises:
        ChaosError: nothing could be judged.
    """
    _leave(folder, "plan.json", plan.to_wire())
    async with AsyncExitStack() as stack:
        run_ = _Run(stage, plan, folder, sabotage, patience, say)
        await run_.open(stack)
        await run_.happen()
        return await run_.judge(), run_.calls


class _Run:
    def __init__(self, stage: Stage, plan: Plan, folder: Path, sabotage: str, patience: float, say: Say) -> None:
        self._stage = stage
        self._plan = plan
        self._folder = folder
        self._sabotage = sabotage
        self._patience = patience
        self._say = say
        broken = BY_NAME[sabotage].broken if sabotage else lambda _: ""
        self._besides = Besides(plan, folder, broken)
        self._installation = Installation(
            settings_on(stage.services, folder.absolute() / _DATA, self._besides.settings)
        )
        names = (*WORKERS, JOINER, *WEBS)
        sabotages = {"worker": ",".join(filter(None, ("hurry", broken("worker")))), "web": broken("web")}
        self._fleet = Fleet(self._installation, names, sabotages, folder / "logs")
        self._history = History(folder / "history.jsonl")
        self._seen: list[Seen] = []

    @property
    def calls(self) -> Sequence[Call]:
        """The history."""
        return self._history.calls

    async def open(self, stack: AsyncExitStack) -> None:
        """Start workers, webs and clients, and wait until all are there."""
        self._say("schema and topics")
        await create_database(self._installation.settings)
        await migrate(self._installation.settings)
        self._say("workers and webs")
        await self._besides.open(stack)
        stack.push_async_callback(self._fleet.destroy)
        await asyncio.gather(*(self._fleet.start(name) for name in (*WORKERS, *WEBS)))
        if late := await self._not_ready(_START_SECONDS):
            raise ChaosError(f"{late[0]} is not ready after {_START_SECONDS:g} s: see {self._fleet.log(late[0])}")
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        # Without connections that are kept: a request must not fail for a web that was restarted since the last one.
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        )
        secret = self._installation.settings.jwt_secret
        http = HttpClient(session, secret.get_secret_value() if secret else "", self._fleet.urls)
        settings = self._installation.settings
        producers = [
            KafkaClient(settings, idempotent=True, compression=None),
            KafkaClient(settings, idempotent=False, compression="lz4"),
            KafkaClient(settings, idempotent=True, compression="gzip"),
        ]
        self._clients = Clients(http, producers, self._history, KeyRing.of(settings))
        stack.push_async_callback(self._clients.stop)
        await self._begin_to_watch(http, stack)
        if not await self._besides.register(http):
            raise ChaosError(f"the webs register no webhooks: see {self._fleet.log(WEBS[0])}")

    async def _not_ready(self, seconds: float) -> list[str]:
        """The workers and webs that are not ready within so many seconds."""
        names = (*WORKERS, *WEBS)
        ready = await asyncio.gather(*(self._fleet.ready(name, seconds) for name in names))
        return [name for name, is_ready in zip(names, ready, strict=True) if not is_ready]

    async def _begin_to_watch(self, http: HttpClient, stack: AsyncExitStack) -> None:
        """Let streams and a consumer follow everything, from before the first event."""
        streams = [Seen(f"stream of everything {number}", "web", self._history) for number in (1, 2)]
        observer = Seen(_OBSERVER, "kafka", self._history)
        works = [
            follow_all(http, streams[0], doors=WEBS),
            follow_all(http, streams[1], doors=WEBS[::-1]),
            observe(self._installation.settings, observer),
        ]
        self._seen = [*streams, observer]
        self._watching = [asyncio.create_task(work) for work in works]
        stack.push_async_callback(self._stop_watching)
        try:
            async with asyncio.timeout(_BEGIN_SECONDS):
                await asyncio.gather(*(seen.begun.wait() for seen in self._seen))
        except TimeoutError as error:
            raise ChaosError(f"the event streams do not begin: see {self._folder}") from error

    async def _stop_watching(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)

    async def happen(self) -> None:
        """Load and faults, side by side; then everything is made good."""
        self._history.begin()
        redis = self._installation.settings.redis_url
        self._faults = Faults(
            self._fleet,
            self._stage.own,
            redis,
            lambda: self._history.now,
            self._say,
            patience=self._patience,
        )
        self._faults.besides = self._besides.faults(self._installation, self._faults, self._clients)
        await asyncio.gather(live_all(self._plan.lives, self._clients.live), self._faults.run(self._plan.faults))
        self._say("everything is made good")
        self._besides.close()
        await self._faults.heal()
        self._late = await self._not_ready(self._patience)

    async def judge(self) -> Verdict:
        """Wait until all has come to rest, and judge what is stored and what was told."""
        self._say("waiting until all is applied, published and shown")
        unsettled = await settle(self._installation, self._patience, redis=True, also=self._besides.unfinished)
        late = [f"{name} is not ready {self._patience:g} s after everything is made good" for name in self._late]
        settings = self._installation.settings
        unfinished = await self._besides.before_reading(settings)
        world, besides, checked = self._besides.judge(await read_world(self._installation, redis=True), settings)
        expected = expect(world.commands)
        stored = [*late, *unsettled, *unfinished, *besides, *judge_records(world, expected)]
        if not stored:  # else the streams may wait for what never comes
            await self._until_all_is_seen(world)
        self._say("judging")
        self._history.close()
        findings = judge_calls(self._history.calls, Truth.of(world, expected), complete=not stored)
        notes = {name: findings.checked.pop(name, 0) for name in ("plain reads", "plain reads, older")}
        verdict = Verdict(
            plan=self._plan,
            sabotage=self._sabotage,
            seconds=_last(self._history.calls, self._faults.happened),
            violations=[*(Violation(words) for words in stored), *findings.violations],
            checked={**findings.checked, **checked, **_looked_at(world)},
            told=count_told(self._history.calls),
            happened=sorted(self._faults.happened, key=lambda item: item.began),
            notes=notes,
        )
        _leave(self._folder, "verdict.json", verdict.to_wire())
        return verdict

    async def _until_all_is_seen(self, world: World) -> None:
        """Give the streams time to show the last events."""
        versions = {key: state.version for key, state in world.states.items()}
        end = self._history.now + min(_STREAM_SECONDS, self._patience)
        while self._history.now < end:
            one = [
                seen.versions.get(key, 0) >= version
                for seen, _ in self._clients.following
                for key, version in versions.items()
                if seen.client == f"stream of {key}"
            ]
            if all(one) and all(seen.has(versions) for seen in self._seen):
                return
            await asyncio.sleep(_POLL_SECONDS)


def _last(calls: Sequence[Call], happened: Sequence[Happened]) -> float:
    """When the last client was answered, and the last fault was over."""
    answers = (call.completed for call in calls if call.kind is not Kind.STREAM)
    return max([*answers, *(item.ready or item.ended for item in happened)], default=0.0)


def _leave(folder: Path, name: str, what: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(orjson.dumps(what, option=orjson.OPT_INDENT_2))


def _looked_at(world: World) -> dict[str, int]:
    """How much there is of everything that is compared."""
    return {
        "commands on the topic": sum(map(len, world.commands.values())),
        "events on the topic": sum(map(len, world.events.values())),
        "rejections on the topic": sum(map(len, world.rejections.values())),
        "dead letters on the topic": len(world.dead_letters),
        "assessments in Postgres": len(world.states),
        "rows of the audit trail": len(world.tables["assessment_audit_trail"]),
        "assessments in Redis": len(world.redis or {}),
    }
