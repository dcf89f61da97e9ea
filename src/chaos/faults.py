"""The faults: each is brought about, lasts, and is made good again."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from redis.exceptions import RedisError

from .fleet import Fleet
from .own_services import OwnServices
from .plan import SERVICES, WEBS, WORKERS, Fault

# A child that does not get there within this time meets its fault as it is; a start takes three seconds, or so.
_ARMED_SECONDS = 12.0

_POLL_SECONDS = 0.05


Beside = Callable[[Fault], Awaitable[None]]
"""Brings about what happens to something that is neither a child nor a service, and makes it good again."""


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault as it really was; seconds since the load began."""

    fault: Fault
    began: float
    ended: float
    """When it was made good."""
    ready: float | None
    """When its target said that it is ready again, where it did."""


class Faults:
    """Whoever brings the faults about."""

    def __init__(
        self,
        fleet: Fleet,
        services: OwnServices,
        redis_url: str,
        now: Callable[[], float],
        say: Callable[[str], None],
        *,
        patience: float,
    ) -> None:
        """Take what the faults are for.

        Args:
            fleet: the workers and webs.
            services: that nobody else uses.
            redis_url: one of them.
            now: seconds since the load began.
            say: told of each fault.
            patience: seconds until a child is ready again; it waits for services, which may be away just then.
        """
        self.happened: list[Happened] = []
        self.besides: Mapping[str, Beside] = {}
        """What happens to other targets, by their names."""
        self._fleet = fleet
        self._services = services
        self._redis_url = redis_url
        self._now = now
        self._say = say
        self._patience = patience
        self._one_at_a_time: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self, faults: Sequence[Fault]) -> None:
        """Let each fault happen when its time has come, and return when all are made good."""
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, begin + fault.at - time.monotonic()))
                group.create_task(self._happen(fault))

    async def heal(self) -> None:
        """See that everything runs."""
        for name in SERVICES:
            self._services.thaw(name)
            await self._services.start(name)
        for name in (*WORKERS, *WEBS):
            self._fleet.thaw(name)
            if not self._fleet.running(name):
                await self._fleet.start(name)

    async def _happen(self, fault: Fault) -> None:
        """Let one happen; where the machine is slow, its target may not be through with the one before."""
        async with self._one_at_a_time[fault.target]:
            await self._happen_now(fault)

    async def _happen_now(self, fault: Fault) -> None:
        began = self._now()
        self._say(f"{fault}")
        kind = fault.target.partition("-")[0]
        if kind in ("worker", "web"):
            await self._to_children[fault.kind](fault)
        elif fault.target in self.besides:
            await self.besides[fault.target](fault)
        else:
            await self._to_services[fault.kind](fault)
        ended, ready = self._now(), None
        if kind in ("worker", "web") and fault.kind != "join":
            is_ready = await self._fleet.ready(fault.target, self._patience)
            ready = self._now() if is_ready else None
        self.happened.append(Happened(fault, began, ended, ready or (ended if kind not in ("worker", "web") else None)))

    @property
    def _to_children(self) -> Mapping[str, Callable[[Fault], Awaitable[None]]]:
        return {
            "kill": self._kill,
            "stop": self._stop,
            "restart": self._restart,
            "crash": self._crash,
            "freeze": self._freeze,
            "skew": self._skew,
            "join": self._join,
        }

    @property
    def _to_services(self) -> Mapping[str, Callable[[Fault], Awaitable[None]]]:
        return {
            "kill": self._kill_service,
            "stop": self._stop_service,
            "restart": self._restart_service,
            "slow": self._slow_service,
            "flush": self._flush,
        }

    async def restart(self, name: str) -> None:
        """Restart a child in good order, once it is over what it has."""
        async with self._one_at_a_time[name]:
            await self._fleet.leave(name)
            await self._fleet.start(name)
            await self._fleet.ready(name, self._patience)

    async def _kill(self, fault: Fault) -> None:
        await self._fleet.kill(fault.target)
        await asyncio.sleep(fault.seconds)
        await self._fleet.start(fault.target)

    async def _stop(self, fault: Fault) -> None:
        self._fleet.freeze(fault.target)
        await asyncio.sleep(fault.seconds)
        self._fleet.thaw(fault.target)

    async def _restart(self, fault: Fault) -> None:
        await self._fleet.leave(fault.target)
        await asyncio.sleep(fault.seconds)
        await self._fleet.start(fault.target)

    async def _crash(self, fault: Fault) -> None:
        """Put one in its place that dies at a crash point; where it is not reached, it dies all the same."""
        await self._fleet.kill(fault.target)
        await self._fleet.start(fault.target, crash_point=fault.detail)
        await self._until(lambda: not self._fleet.running(fault.target), fault.seconds + _ARMED_SECONDS)
        await self._fleet.kill(fault.target)
        await self._fleet.start(fault.target)

    async def _freeze(self, fault: Fault) -> None:
        """Put one in its place that freezes at a crash point, and let it go on later."""
        await self._fleet.kill(fault.target)
        await self._fleet.start(fault.target, crash_point=fault.detail, broken=("freeze",))
        if not await self._until(lambda: self._fleet.frozen(fault.target), _ARMED_SECONDS):
            # It would freeze later, when nobody is there any more to let it go on.
            await self._fleet.kill(fault.target)
            await self._fleet.start(fault.target)
        self._fleet.freeze(fault.target)
        await asyncio.sleep(fault.seconds)
        self._fleet.thaw(fault.target)

    async def _skew(self, fault: Fault) -> None:
        await self._fleet.leave(fault.target)
        await self._fleet.start(fault.target, broken=(f"skew={fault.detail}",))
        await self._fleet.ready(fault.target, _ARMED_SECONDS)
        await asyncio.sleep(fault.seconds)
        await self._fleet.leave(fault.target)
        await self._fleet.start(fault.target)

    async def _join(self, fault: Fault) -> None:
        await self._fleet.start(fault.target)
        await asyncio.sleep(fault.seconds)
        await (self._fleet.kill if fault.detail == "dies" else self._fleet.leave)(fault.target)

    async def _kill_service(self, fault: Fault) -> None:
        self._services.kill(fault.target)
        await asyncio.sleep(fault.seconds)
        await self._services.start(fault.target)

    async def _stop_service(self, fault: Fault) -> None:
        self._services.freeze(fault.target)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._services.thaw(fault.target)

    async def _restart_service(self, fault: Fault) -> None:
        await self._services.stop(fault.target)
        await asyncio.sleep(fault.seconds)
        await self._services.start(fault.target)

    async def _slow_service(self, fault: Fault) -> None:
        await self._services.slow(fault.target, fault.seconds)

    async def _flush(self, _: Fault) -> None:
        try:
            await self._services.flush(self._redis_url)
        except RedisError as error:
            self._say(f"Redis does not take the order to forget everything: {error!r}")

    @staticmethod
    async def _until(condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:  # noqa: ASYNC110 - another process sets no event of ours
            await asyncio.sleep(_POLL_SECONDS)
        return condition()
