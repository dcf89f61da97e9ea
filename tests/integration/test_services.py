"""Services as real local processes, each test with a data directory of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from assessmentstore import services
from assessmentstore.services import Services, ServicesError, docker
from assessmentstore.services.processes import are_free
from assessmentstore.settings import ENV_PREFIX, Settings

UP_THEN_SLEEP = """
import asyncio, sys
from pathlib import Path
from assessmentstore import services
from assessmentstore.services import docker
from assessmentstore.settings import Settings

async def none():
    return "not in this test"

def report(message):
    print(message, flush=True)

async def main():
    docker.obstacle = none
    await services.up(Settings(data_dir=Path(sys.argv[1])), only=["postgres", "redis"], report=report)
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
async def make_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[str], Settings]]:
    """Settings with a data directory of this name, whose services have to be local ones, and are stopped afterwards."""

    async def obstacle() -> str:
        return "not in this test"

    for name in [*os.environ]:
        if name.startswith(ENV_PREFIX) or name in {"DATABASE_URL", "REDIS_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(docker, "obstacle", obstacle)
    made = []

    def make(name: str) -> Settings:
        made.append(Settings(data_dir=tmp_path / name))
        return made[-1]

    yield make
    for settings in made:
        await services.down(settings)


@pytest.fixture
def settings(make_settings: Callable[[str], Settings]) -> Settings:
    return make_settings("data")


def pids(there: Services | None) -> dict[str, int | None]:
    return {service.name: service.pid for service in there.services} if there else {}


def kill(there: Services, name: str) -> None:
    pid = pids(there)[name]
    assert pid
    connections = psutil.Process(pid).net_connections()
    ports = [each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN]
    os.kill(pid, signal.SIGKILL)
    # A killed process listens on until the kernel has got round to the last of its threads.
    deadline = time.monotonic() + 60
    while runs(pid) or not are_free(ports):
        assert time.monotonic() < deadline, f"{name} to be gone"


def runs(pid: int | None) -> bool:
    return pid is not None and psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def fetch(there: Services, statement: str) -> object:
    connection = await asyncpg.connect(there.environment()["ASSESSMENTSTORE_DATABASE_URL"])
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def topics(there: Services, *, create: str | None = None) -> list[str]:
    client = AIOKafkaAdminClient(bootstrap_servers=there.environment()["ASSESSMENTSTORE_KAFKA_BOOTSTRAP"])
    await client.start()
    try:
        if create:
            await client.create_topics([NewTopic(create, 1, 1)])
        return list(await client.list_topics())
    finally:
        await client.close()


async def ping(there: Services) -> bool:
    async with redis.asyncio.Redis.from_url(there.environment()["ASSESSMENTSTORE_REDIS_URL"]) as client:
        return bool(await client.ping())


async def test_all_three_start_are_reused_come_back_with_their_data_after_a_kill_and_stop(settings: Settings) -> None:
    """One test, since a Kafka takes seconds to start."""
    first = await services.up(settings)
    assert first.started == {"kafka", "postgres", "redis"}
    assert await topics(first, create="kept") == ["kept"]
    assert await fetch(first, "CREATE TABLE kept AS SELECT 42 AS value") is None
    assert await fetch(first, "SHOW fsync") == "on"
    assert await ping(first)

    again = await services.up(settings)
    assert again.started == frozenset()
    assert pids(again) == pids(first) == pids(services.found(settings))

    kill(first, "kafka")
    kill(first, "postgres")
    back = await services.up(settings)
    assert back.started == {"kafka", "postgres"}
    assert back.environment() == first.environment()
    assert pids(back)["redis"] == pids(first)["redis"]
    assert await topics(back) == ["kept"]
    assert await fetch(back, "SELECT value FROM kept") == 42

    assert await services.down(settings) == ["kafka", "postgres", "redis"]
    assert not any(runs(pid) for pid in pids(back).values())
    assert services.found(settings) is None


async def test_one_service_is_stopped_and_started_alone(settings: Settings) -> None:
    first = await services.up(settings, only=["postgres", "redis"])

    assert await services.down(settings, only=["postgres"]) == ["postgres"]
    back = await services.up(settings, only=["postgres"])

    assert back.started == {"postgres"}
    assert back.environment().items() < first.environment().items()
    assert runs(pids(first)["redis"])


async def test_down_stops_exactly_what_was_started_with_its_data_directory(
    make_settings: Callable[[str], Settings],
) -> None:
    one, other = make_settings("one"), make_settings("other")
    ours, theirs = await services.up(one, only=["redis"]), await services.up(other, only=["redis"])

    assert await services.down(one) == ["redis"]

    assert not runs(pids(ours)["redis"])
    assert await ping(theirs)


async def test_services_survive_a_kill_of_what_started_them_and_are_found_again(settings: Settings) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", UP_THEN_SLEEP, settings.data_dir, stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout
    while (line := await starter.stdout.readline()) != b"up\n":
        assert line
    starter.kill()
    await starter.wait()

    found = services.found(settings)
    assert found
    up = await services.up(settings, only=["postgres", "redis"])

    assert up.started == frozenset()
    assert pids(up) == pids(found)
    assert await ping(up)


async def test_a_starter_that_is_killed_half_way_leaves_nothing_in_the_way(settings: Settings) -> None:
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", UP_THEN_SLEEP, settings.data_dir, stdout=asyncio.subprocess.PIPE
    )
    assert starter.stdout
    while b"creating a database cluster" not in (line := await starter.stdout.readline()):
        assert line
    starter.kill()
    await starter.wait()

    up = await services.up(settings, only=["postgres", "redis"])

    assert await fetch(up, "SELECT 1") == 1
    assert await ping(up)


async def test_concurrent_starts_make_no_doubles(settings: Settings) -> None:
    calls = [services.up(settings, only=["postgres", "redis"]) for _ in range(2)]

    one, other = await asyncio.gather(*calls)

    assert pids(one) == pids(other)
    assert sorted([len(one.started), len(other.started)]) == [0, 2]


async def test_the_exported_address_of_a_service_of_ours_is_still_ours_to_bring_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await services.up(settings, only=["redis"])
    for name, value in first.environment().items():
        monkeypatch.setenv(name, value)
    exported = Settings(data_dir=settings.data_dir)

    kill(first, "redis")
    back = await services.up(exported, only=["redis"])

    assert back.started == {"redis"}
    assert back.environment() == first.environment()
    assert await ping(back)


async def test_a_port_that_somebody_took_meanwhile_is_left_to_them(settings: Settings) -> None:
    first = await services.up(settings, only=["redis"])
    await services.down(settings)
    port = int(first.services[0].url.rpartition(":")[2].partition("/")[0])

    with socket.create_server(("127.0.0.1", port)):
        second = await services.up(settings, only=["redis"])

    assert second.environment() != first.environment()
    assert await ping(second)


async def test_a_start_that_fails_shows_the_log_and_leaves_nothing_running(settings: Settings) -> None:
    await services.up(settings, only=["postgres"])
    await services.down(settings)
    (settings.data_dir / "services/postgres/data/postgresql.conf").write_text("nonsense = 1\n")

    with pytest.raises(ServicesError, match=r"postgres did not start: its process ended") as failure:
        await services.up(settings, only=["postgres", "redis"])

    assert 'unrecognized configuration parameter "nonsense"' in str(failure.value)
    assert services.found(settings) is None


async def test_a_start_that_is_cancelled_leaves_nothing_running(settings: Settings) -> None:
    started = asyncio.Event()

    def report(message: str) -> None:
        if message.startswith("redis: ready"):
            started.set()

    call = asyncio.create_task(services.up(settings, only=["postgres", "redis"], report=report))
    await started.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert services.found(settings) is None
