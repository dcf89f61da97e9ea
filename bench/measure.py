"""The two measurements: how fast a backlog is worked off, and how late events are at a steady pace."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from assessmentstore.services import Services
from assessmentstore.settings import Settings

from .contenders import WORKER, Contender, Running, limited, running
from .events import Events, command_id, reading
from .installation import fresh_installation
from .steps import Steps, read_steps
from .usage import CONTENDER, BusyShare, CpuClock, PeakMemory, difference, others_cores
from .workload import LIFE, Message, commands, partition_of, produce

# Enough that connections are open, statements prepared and code paths warm.
_WARM_UP = 800
_WARM_UP_SECONDS = 2.0

# A lane that has nothing to do looks after its watermark once a second: let it, before the process is held.
_QUIET_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Throughput:
    """One contender's way through the backlog."""

    contender: str
    commands: int
    seconds: float
    cpu: dict[str, float]
    """CPU seconds of the contender, of each local service, and of the measurement."""
    peak_memory: int
    """Bytes."""
    resting_memory: int
    """Bytes, before."""
    busy: float
    """The share of the machine's cores that was busy, by whomever."""
    steps: Steps = field(default_factory=Steps)

    @property
    def rate(self) -> float:
        """Transitions a second."""
        return self.commands / self.seconds

    @property
    def others(self) -> float:
        """Cores that were busy with what does not take part."""
        return others_cores(self.busy, self.cpu, self.seconds)


@dataclass(frozen=True, slots=True)
class Latency:
    """From a command's send to the arrival of its event, at a steady pace."""

    contender: str
    pace: int
    """Commands a second."""
    milliseconds: list[float]
    peak_memory: int
    cores: float
    """CPU seconds a second of the contender's own process."""
    others: float
    """Cores that were busy with what does not take part."""
    steps: Steps = field(default_factory=Steps)

    def percentile(self, percent: int) -> float:
        """Milliseconds that so many percent of the commands stay below."""
        return statistics.quantiles(self.milliseconds, n=100, method="inclusive")[percent - 1]


async def measure_throughput(contender: Contender, count: int, settings: Settings, present: Services) -> Throughput:
    """Let a contender work off a backlog in an installation of its own."""
    async with (
        fresh_installation(settings, contender.name) as own,
        running(contender, own) as process,
        reading(own) as events,
    ):
        await warm_up(own, events, process, share=contender.share)
        measured = await work_off(contender, [process], own, events, round(count * contender.share), present)
        await (_check_stored if contender.stores else _check_committed)(own, events.count)
    return measured


async def warm_up(settings: Settings, events: Events, *processes: Running, share: float = 1.0) -> None:
    """Let processes get ready: by some commands, and a moment of quiet after them."""
    warm = await produce(settings, commands(whole_lives(_WARM_UP * share), name="warm"))
    await events.wait_for(events.count + warm, *processes)
    await asyncio.sleep(_QUIET_SECONDS)


async def work_off(
    contender: Contender,
    processes: Sequence[Running],
    settings: Settings,
    events: Events,
    count: int,
    present: Services,
    *,
    name: str = "life",
    cores: float | None = None,
) -> Throughput:
    """Let processes work off a backlog; the clock runs from their start on it to its last event.

    Another `name` makes other commands, of other assessments; with `cores` each process may use no more than that.
    """
    pids, seen = [process.pid for process in processes], events.count
    before, clock, memory = await _steps(contender, processes), CpuClock(present, *pids), PeakMemory(*pids)
    resting = memory.bytes
    with ExitStack() as stack:
        for process in processes:
            stack.enter_context(process.held())
        total = await produce(settings, commands(whole_lives(count), name=name))
        used, busy = clock.read(), BusyShare()
        started = time.perf_counter()
    async with memory.watching(), nullcontext() if cores is None else limited(processes, cores):
        ended = await events.wait_for(seen + total, *processes)
    share, cpu = busy.read(), difference(used, clock.read())
    steps = await _steps(contender, processes) - before
    return Throughput(contender.name, total, ended - started, cpu, memory.bytes, resting, share, steps)


async def _steps(contender: Contender, processes: Sequence[Running]) -> Steps:
    if contender is not WORKER:
        return Steps()
    return reduce(add, [await read_steps(process.port) for process in processes])


def whole_lives(count: float) -> int:
    """A number of commands that makes up whole lives."""
    return max(1, round(count / len(LIFE))) * len(LIFE)


async def _check_stored(settings: Settings, count: int) -> None:
    """Whoever was fast has done everything too."""
    connection = await asyncpg.connect(settings.database_url)
    try:
        completed = await connection.fetchval("SELECT count(*) FROM assessment_states WHERE state = 'completed'")
        audited = await connection.fetchval("SELECT count(*) FROM assessment_audit_trail")
    finally:
        await connection.close()
    if (completed, audited) != (count // len(LIFE), count):
        raise AssertionError(f"{completed} assessments are completed and {audited} commands audited of {count}")


async def _check_committed(settings: Settings, count: int) -> None:
    """Whose events were all seen by a `read_committed` consumer has committed where they come from, too."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap)
    await admin.start()
    try:
        positions = await admin.list_consumer_group_offsets(settings.app_id)
    finally:
        await admin.close()
    committed = sum(position.offset for position in positions.values())
    if committed != count:
        raise AssertionError(f"{committed} commands are committed of {count}")


async def measure_latency(
    contender: Contender, pace: int, seconds: float, settings: Settings, present: Services
) -> Latency:
    """Send commands at a steady pace, and time each until its event arrives."""
    sent: dict[str, float] = {}
    taken: list[float] = []

    def arrived(values: Sequence[bytes], now: float) -> None:
        taken.extend(now - at for value in values if (at := sent.pop(command_id(value), None)) is not None)

    async with (
        fresh_installation(settings, f"{contender.name}-latency") as own,
        running(contender, own) as process,
        reading(own, arrived) as events,
    ):
        memory = PeakMemory(process.pid)
        first = await produce(own, commands(len(LIFE) * own.topic_partitions, name="first"))
        await events.wait_for(first, process)
        await asyncio.sleep(1)
        async with memory.watching():
            warm = await send_at_pace(own, list(commands(whole_lives(pace * _WARM_UP_SECONDS), name="warm")), pace, {})
            before, clock = await _steps(contender, [process]), CpuClock(present, process.pid)
            used, busy, started = clock.read(), BusyShare(), time.perf_counter()
            total = await send_at_pace(own, list(commands(whole_lives(pace * seconds), name="life")), pace, sent)
            await events.wait_for(first + warm + total, process)
            lasted, used = time.perf_counter() - started, difference(used, clock.read())
            cores, others = used[CONTENDER] / lasted, others_cores(busy.read(), used, lasted)
        steps = await _steps(contender, [process]) - before
    return Latency(contender.name, pace, [1000 * each for each in taken], memory.bytes, cores, others, steps)


async def send_at_pace(
    settings: Settings, messages: list[Message], pace: int, sent: dict[str, float], *, linger_ms: int = 0
) -> int:
    """Send one command after the other on time, each as soon as it is due or with those of so many milliseconds."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks=1, linger_ms=linger_ms)
    await producer.start()
    try:
        started = time.perf_counter()
        for number, message in enumerate(messages):
            due = started + number / pace
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            partition = partition_of(message.key, settings.topic_partitions)
            sent[message.command_id] = time.perf_counter()
            await producer.send(settings.commands_topic, message.value, key=message.key, partition=partition)
    finally:
        await producer.stop()
    return len(messages)
