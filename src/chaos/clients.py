"""The clients: each lives one planned life, asks what the plan says, and writes down what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from ..models.positions import TOKEN_HEADER, Positions
from ..store.encryption import KeyRing
from .history import Call, History, Kind, Told
from .http_client import Answer, HttpClient
from .kafka_client import KafkaClient, NotAcknowledgedError
from .lives import LifePlan, Op
from .messages import Message, command, invalid, junk
from .plan import WEBS
from .readers import Reader
from .streams import Seen, follow_one

# A client that knows nothing of its command sends it again, as a good client does: the same id, at another door.
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.4

# An insistence on a version that an assessment of the plan never comes to.
_WRONG = 1000

# The commands whose data producers with a key seal; half of them have one.
_SEALED = ("create", "complete")

# Clients who ask once more, at once.
_AT_ONCE = 20

# One client in so many does not tell with its commands what it was promised before.
_CARELESS = 4


class Clients:
    """Everybody who asks, and what they share: the doors and the history."""

    def __init__(self, http: HttpClient, producers: Sequence[KafkaClient], history: History, keys: KeyRing) -> None:
        self.http = http
        self.keys = keys
        self.producers = producers
        self.history = history
        self.following: list[tuple[Seen, asyncio.Task[None]]] = []
        """The streams of single assessments."""
        self._born: list[LifePlan] = []

    async def live(self, plan: LifePlan) -> None:
        """Live one life, from its first step to its last answer."""
        self._born.append(plan)
        client = _Client(self, plan)
        await client.live()

    async def ask_again(self) -> None:
        """Let everybody who was born read once more, and send once more the command that he began with."""
        born = tuple(self._born)
        for first in range(0, len(born), _AT_ONCE):
            await asyncio.gather(*(_Client(self, plan).ask_again() for plan in born[first : first + _AT_ONCE]))

    async def stop(self) -> None:
        """Let go of the producers and the streams."""
        for _, task in self.following:
            task.cancel()
        await asyncio.gather(*(task for _, task in self.following), return_exceptions=True)
        await asyncio.gather(*(producer.stop() for producer in self.producers))


class _Client(Reader):
    """One client that sends commands, too."""

    def __init__(self, shared: Clients, plan: LifePlan) -> None:
        super().__init__(shared.http, shared.history, plan, sealed=bool(shared.keys))
        self._shared = shared
        self._insisted: dict[str, int | None] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        for step in self.plan.steps:
            await asyncio.sleep(step.pause)
            now = [self._do(op) for op in step.ops if not op.background]
            for op in step.ops:
                if op.background:
                    self._background.add(asyncio.create_task(self._later(op)))
            await asyncio.gather(*now)
        await asyncio.gather(*self._background)

    async def ask_again(self) -> None:
        first, *_ = self.plan.steps[0].ops
        await self.read(Op("read", name="plain"))
        await self._insistently(replace(first, door="http"))

    async def _later(self, op: Op) -> None:
        await asyncio.sleep(op.delay)
        await self._do(op)

    async def _do(self, op: Op) -> None:
        match op.do:
            case "command":
                await self._insistently(op)
            case "read":
                await self.read(op)
            case "list":
                await self.ask_list(op)
            case "wait":
                await self.wait(op)
            case "junk":
                await self._junk(op)
            case _:
                self._follow()

    # Commands.

    async def _insistently(self, op: Op) -> None:
        """Send a command until something definite is known of it."""
        for attempt in range(_ATTEMPTS):
            call = await self._command(op)
            self.history.add(call)
            if call.told is not Told.UNKNOWN:
                return
            await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)

    async def _command(self, op: Op) -> Call:
        expected = self._expected(op)
        call = self.call(Kind.COMMAND, op.name, command=op.id, borrowed=op.borrowed, expected=expected)
        if op.door.startswith("kafka"):
            return await self._over_kafka(call, op)
        return await self._over_http(call, op)

    def _expected(self, op: Op) -> int | None:
        """The version that a command insists on: every time the one of the first time."""
        if op.borrowed or op.name == "create" or not op.insists:
            return None
        known = self.version or None
        wanted = known if op.insists == "right" else _WRONG
        return self._insisted.setdefault(op.id, wanted)

    async def _over_kafka(self, call: Call, op: Op) -> Call:
        extensions: dict[str, Any] = {"userid": self.plan.user}
        if call.expected is not None:
            extensions["expectedversion"] = call.expected
        data = op.data
        if op.name in _SEALED and self.number % 2:
            data = self._shared.keys.seal(self.plan.assessment, data)
        message = command(op.id, op.name, self.plan.assessment, data, binary=op.door == "kafka-binary", **extensions)
        return await self._produce(call, message)

    async def _produce(self, call: Call, message: Message) -> Call:
        producers = self._shared.producers
        try:
            place = await producers[self.number % len(producers)].send(message)
        except NotAcknowledgedError as error:
            return self.done(call, Told.UNKNOWN, door="kafka", why=str(error))
        self.promised(Positions.after(*place))
        return self.done(call, Told.TAKEN, door="kafka", place=place)

    async def _over_http(self, call: Call, op: Op) -> Call:
        door = self.next_web()
        headers = {"Idempotency-Key": op.id}
        if self.number % _CARELESS and op.name != "create":
            # Else a command that follows on one over Kafka may come too soon, and find no assessment.
            call = replace(call, floor=self.positions.needed)
            headers[TOKEN_HEADER] = self.positions.encode()
        if op.door == "async":
            headers["Prefer"] = "respond-async"
        if call.expected is not None:
            headers["If-Match"] = f'"{call.expected}"'
        path = "/assessments" if op.name == "create" else f"/assessments/{self.plan.assessment}/{op.name}"
        answer = await self.http.ask(door, "POST", path, user=self.plan.user, body=op.data, headers=headers)
        self.promised(answer.positions)
        return self._told(call, door, answer)

    def _told(self, call: Call, door: str, answer: Answer) -> Call:
        found: dict[str, Any] = {"door": door, "status": answer.status, "code": answer.code, "why": answer.why}
        if answer.status == 202:
            return self.done(call, Told.TAKEN, place=_place(answer.positions), **found)
        if answer.status in (200, 201):
            version = answer.body["version"]
            self.version = max(self.version, version)
            state = answer.body if answer.status == 200 else None
            return self.done(call, Told.OK, version=version, body=state, **found)
        told = Told.REFUSED if 400 <= answer.status < 500 and answer.code else Told.UNKNOWN
        return self.done(call, told, **found)

    async def _junk(self, op: Op) -> None:
        """Send a record that is no command, or one that is refused whatever the state is."""
        number, assessment = op.data, self.plan.assessment
        build = invalid if number % 3 == 0 else junk
        records = build(f"{assessment}-{number}", assessment, large=False)
        producers = self._shared.producers
        try:
            await producers[number % len(producers)].send(records[number % len(records)])
        except NotAcknowledgedError:
            return  # whether it is there or not, nobody was promised anything

    def _follow(self) -> None:
        assessment = self.plan.assessment
        seen = Seen(f"stream of {assessment}", "web", self.history)
        doors = WEBS[self.number % 2 :] + WEBS[: self.number % 2]
        following = follow_one(self.http, seen, assessment, user=self.plan.user, doors=doors)
        self._shared.following.append((seen, asyncio.create_task(following)))


def _place(positions: Positions | None) -> tuple[int, int] | None:
    """Where the one command of a request stands, by its token."""
    if positions is None or len(positions.needed) != 1:
        return None
    ((partition, end),) = positions.needed.items()
    return partition, end - 1


Live = Callable[[LifePlan], Coroutine[Any, Any, None]]


async def live_all(lives: Sequence[LifePlan], live: Live) -> None:
    """Begin each life when its time has come, and return when the last one is over."""
    begin = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for life in lives:
            await asyncio.sleep(max(0.0, begin + life.at - asyncio.get_running_loop().time()))
            group.create_task(live(life))
