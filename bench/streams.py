"""Open thousands of event streams on one web process, publish events, and see what each of them gets, and when.

Run as `python -m bench.streams`. Latency is from `occurredAt`, the beginning of the transaction that stored an event,
to its arrival at a stream; the readers share the machine with all that they measure.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg
import orjson
import psutil
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from assessmentstore.settings import Settings
from assessmentstore.web.auth import Role, mint_token

from .contenders import SECRET, WEB, WORKER, running, until_ready
from .installation import fresh_installation, running_services
from .workload import LIFE, commands, partition_of, produce

# Connections that are being made at the same time.
_OPENING = 200

_PATIENCE_SECONDS = 300.0


class Reader(asyncio.Protocol):
    """One stream: the ids that it got, and when."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self.ids: list[bytes] = []
        self.times: list[float] = []
        self.values: list[bytes] = []
        """The events, where `keeps_values`."""
        self.keeps_values = False
        self.began = asyncio.Event()
        self._news = asyncio.Event()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the feed."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take what came; the texts of the chunked coding stand between the blocks, and are passed over."""
        now = time.time()
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            self.began.set()
            if b"\nevent: " in block:
                _, _, told = block.partition(b"id: ")
                self.ids.append(told.partition(b"\n")[0])
                self.times.append(now)
                self._news.set()
                if self.keeps_values:
                    self.values.append(told.partition(b"\ndata: ")[2])

    async def told(self, count: int) -> None:
        """Wait until it got so many events."""
        while len(self.ids) < count:
            assert not self.lost, "a stream was cut off"
            self._news.clear()
            await self._news.wait()

    def connection_lost(self, _error: Exception | None) -> None:
        """Take note of a stream that ended."""
        self.lost = True
        self.began.set()
        self._news.set()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=5_000, help="default: %(default)s")
    parser.add_argument("--events", type=int, default=60, help="one after the other (default: %(default)s)")
    parser.add_argument("--pace", type=float, default=2.0, help="events a second (default: %(default)s)")
    parser.add_argument("--burst", type=int, default=40, help="events at once, afterwards (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.events % len(LIFE) or arguments.burst % len(LIFE):
        parser.error(f"--events and --burst: take multiples of {len(LIFE)}, the commands of an assessment")
    return arguments


async def _measure(arguments: argparse.Namespace) -> None:
    async with (
        running_services() as (settings, _),
        fresh_installation(settings, "streams") as own,
        running(WORKER, own) as worker,
        running(WEB, own.model_copy(update={"jwt_secret": SecretStr(SECRET)})) as web,
    ):
        await until_ready(worker, web)
        process = psutil.Process(web.pid)
        await produce(own, commands(len(LIFE) * own.topic_partitions, name="first"))
        await _until_stored(own, len(LIFE) * own.topic_partitions)
        before = process.memory_info().rss
        started = time.perf_counter()
        async with _opened(arguments.streams, web.port) as readers:
            _tell(f"{len(readers):,} streams opened in {time.perf_counter() - started:.1f} s")
            opened = process.memory_info().rss
            used = process.cpu_times().user + process.cpu_times().system
            await _publish(own, arguments.events, arguments.pace, readers)
            each = (process.cpu_times().user + process.cpu_times().system - used) / arguments.events
            latencies = _latencies(readers)
            seconds = await _burst(own, arguments, readers)
            peak = process.memory_info().rss
            await _check(own, readers)
    _report(arguments, latencies, each, seconds)
    _tell(f"memory: {before / 2**20:.0f} MiB, with the streams {opened / 2**20:.0f}, after all {peak / 2**20:.0f} MiB")
    for what, now in (("opened", opened), ("in the end", peak)):
        _tell(f"        {(now - before) / len(readers) / 1024:.1f} KiB a stream {what}")


def _report(arguments: argparse.Namespace, latencies: Sequence[float], each: float, seconds: float) -> None:
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    events, deliveries = arguments.events + arguments.burst, arguments.burst * arguments.streams
    _tell(f"every one of {arguments.streams:,} streams got every one of {events} events once")
    _tell(f"{arguments.pace:g} events/s: p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms, most {max(latencies):.0f} ms")
    _tell(f"web: {1000 * each:.0f} ms of CPU for an event to all")
    _tell(f"burst: {deliveries:,} deliveries in {seconds:.1f} s, {deliveries / seconds:,.0f} a second")


@asynccontextmanager
async def _opened(count: int, port: int) -> AsyncIterator[list[Reader]]:
    """So many streams of the whole feed."""
    token = mint_token(SECRET, "bench", [Role.ADMIN], timedelta(hours=1))
    request = f"GET /events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    readers = [Reader(request) for _ in range(count)]
    readers[0].keeps_values = True
    turns = asyncio.Semaphore(_OPENING)
    transports: list[asyncio.BaseTransport] = []

    async def open_one(reader: Reader) -> None:
        async with turns:
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: reader, "127.0.0.1", port)
            transports.append(transport)
            await reader.began.wait()
            assert not reader.lost, "a stream was refused"

    async with asyncio.timeout(_PATIENCE_SECONDS):
        await asyncio.gather(*map(open_one, readers))
    try:
        yield readers
    finally:
        for transport in transports:
            transport.close()


async def _publish(settings: Settings, count: int, pace: float, readers: Sequence[Reader]) -> None:
    """Send one command after the other."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks=1)
    await producer.start()
    try:
        for message in commands(count, name="paced"):
            partition = partition_of(message.key, settings.topic_partitions)
            await producer.send(settings.commands_topic, message.value, key=message.key, partition=partition)
            await asyncio.sleep(1 / pace)
    finally:
        await producer.stop()
    await _until_told(readers, count)


def _latencies(readers: Sequence[Reader]) -> list[float]:
    """Milliseconds of each delivery."""
    at = [datetime.fromisoformat(orjson.loads(value)["occurredAt"]).timestamp() for value in readers[0].values]
    times = dict(zip(readers[0].ids, at, strict=True))
    return [
        1000 * (now - times[event_id])
        for reader in readers
        for event_id, now in zip(reader.ids, reader.times, strict=True)
    ]


async def _burst(settings: Settings, arguments: argparse.Namespace, readers: Sequence[Reader]) -> float:
    started = time.perf_counter()
    await produce(settings, commands(arguments.burst, name="burst"))
    await _until_told(readers, arguments.events + arguments.burst)
    return time.perf_counter() - started


async def _until_told(readers: Sequence[Reader], count: int) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        for reader in readers:
            await reader.told(count)


async def _until_stored(settings: Settings, count: int) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while len(await _stored(settings)) < count:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.1)


async def _stored(settings: Settings) -> set[tuple[str, int]]:
    connection = await asyncpg.connect(settings.database_url)
    try:
        rows = await connection.fetch("SELECT assessment_id, new_version FROM assessment_audit_trail")
    finally:
        await connection.close()
    return {(row["assessment_id"], row["new_version"]) for row in rows}


async def _check(settings: Settings, readers: Sequence[Reader]) -> None:
    """All have the same, without repetition, and it is what is stored since they began."""
    first = readers[0]
    told = {(value["assessmentId"], value["version"]) for value in map(orjson.loads, first.values)}
    assert len(told) == len(first.values), "an event came twice"
    assert all(reader.ids == first.ids for reader in readers), "a stream got something else than another"
    missing = await _stored(settings) - told
    assert len(missing) == len(LIFE) * settings.topic_partitions, "an event is missing"


def _tell(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Measure and print."""
    arguments = _arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_measure(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
