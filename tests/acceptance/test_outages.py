"""Postgres, Kafka and Redis go away under load; nothing is lost or doubled, and no hand is needed.

The services of this file are its own, since it stops them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from tests.harness.installation import Installation, create_installation, create_template
from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import Sender, open_sender, under_load
from tests.harness.waiting import eventually
from tests.harness.web import Web, running_web
from tests.harness.worker import Cluster, Worker, pass_time

from assessmentstore.chaos.messages import command, create
from assessmentstore.services import Name, down, found, up
from assessmentstore.settings import Settings
from assessmentstore.web.auth import Role, mint_token

_OUTAGE_SECONDS = 20.0
_LIFETIME = timedelta(minutes=10)


@pytest.fixture(scope="module")
def own_services(services: Settings) -> Iterator[Settings]:
    """Services that may be stopped."""
    folder = Path(tempfile.mkdtemp(prefix="assessmentstore-outages-"))
    settings = Settings.model_construct(data_dir=folder)
    try:
        yield asyncio.run(up(settings)).apply(settings)
    finally:
        asyncio.run(down(settings))
        shutil.rmtree(folder, ignore_errors=True)
        # In Docker they are the very containers that the other tests use.
        asyncio.run(up(services))


@pytest.fixture(scope="module")
def own_template(own_services: Settings) -> str:
    return asyncio.run(create_template(own_services))


@pytest.fixture
async def installation(own_services: Settings, own_template: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation on services that may be stopped; what a test stopped is up again after it."""
    yield await create_installation(own_services, own_template, tmp_path)
    await up(_bare(own_services))


def _bare(services: Settings) -> Settings:
    """The settings that `up` and `down` know these services by."""
    return Settings.model_construct(data_dir=services.data_dir)


def _pid(services: Settings, name: Name) -> int | None:
    """The process of a service; nothing where it runs in Docker."""
    there = found(_bare(services))
    assert there is not None
    (pid,) = (service.pid for service in there.services if service.name == name)
    return pid


async def _kill(services: Settings, name: Name) -> None:
    """End a service as a power cut would; where it runs in Docker, in good order."""
    pid = _pid(services, name)
    if pid is None:
        await down(_bare(services), only=[name])
    else:
        os.killpg(pid, signal.SIGKILL)


async def _read(worker: Worker, assessment_id: str) -> tuple[int, Any]:
    """Ask a worker for a state, as an administrator."""
    secret = "a secret for tests, long enough for HS256"
    headers = {"Authorization": f"Bearer {mint_token(secret, 'test', [Role.ADMIN], _LIFETIME)}"}
    timeout = aiohttp.ClientTimeout(total=10)
    url = f"http://127.0.0.1:{worker.port}/assessments/{assessment_id}"
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.json()


async def _assert_not_ready_meanwhile(*workers: Worker) -> None:
    for worker in workers:
        await worker.until_ready(503)


async def _events_flow_again(cluster: Cluster, sender: Sender) -> None:
    """A command sent now is applied by somebody."""
    marker = f"after-{len(sender.sent)}"
    await sender.send(create(marker, marker))

    async def probe() -> bool:
        async with cluster.installation.database() as database:
            return bool(await database.fetchval("SELECT 1 FROM assessment_audit_trail WHERE command_id = $1", marker))

    await eventually(probe, "a command sent after the outage applied")


async def _known_to_both(cluster: Cluster) -> list[str]:
    """Assessments on every partition, which the workers have in their tables."""
    names = [f"kept-{number}" for number in range(20)]
    async with open_sender(cluster.installation) as sender:
        await sender.send(*(create(f"c-{name}", name) for name in names))
    await settled(cluster.installation)
    return names


_HOW = pytest.mark.parametrize("how", ["killed", pytest.param("stopped", marks=pytest.mark.soak)])


@_HOW
async def test_postgres_away_for_twenty_seconds(cluster: Cluster, own_services: Settings, how: str) -> None:
    workers = cluster.start(), cluster.start()
    await cluster.until_owned_by(*workers)
    kept = await _known_to_both(cluster)

    async with under_load(cluster.installation, seed=11, rate=100) as sender:
        await (_kill(own_services, "postgres") if how == "killed" else down(_bare(own_services), only=["postgres"]))
        await _assert_not_ready_meanwhile(*workers)
        assert [(await _read(worker, name))[0] for worker in workers for name in kept] == [200] * 2 * len(kept)
        await pass_time(_OUTAGE_SECONDS)
        await up(_bare(own_services), only=["postgres"])
        await asyncio.gather(*(worker.until_ready() for worker in workers))
        await _events_flow_again(cluster, sender)

    await assert_exactly_once(cluster.installation, sent=sender.sent)
    assert [worker.returncode for worker in workers] == [None, None]


@_HOW
async def test_kafka_away_for_twenty_seconds(cluster: Cluster, own_services: Settings, how: str) -> None:
    workers = cluster.start(), cluster.start()
    await cluster.until_owned_by(*workers)
    kept = await _known_to_both(cluster)

    async with under_load(cluster.installation, seed=12, rate=100) as sender:
        await (_kill(own_services, "kafka") if how == "killed" else down(_bare(own_services), only=["kafka"]))
        await _assert_not_ready_meanwhile(*workers)
        assert [(await _read(worker, name))[0] for worker in workers for name in kept] == [200] * 2 * len(kept)
        await pass_time(_OUTAGE_SECONDS)
        await up(_bare(own_services), only=["kafka"])
        await asyncio.gather(*(worker.until_ready() for worker in workers))
        await _events_flow_again(cluster, sender)

    await assert_exactly_once(cluster.installation, sent=sender.sent)
    assert [worker.returncode for worker in workers] == [None, None]


async def test_redis_gone_for_good(cluster: Cluster, own_services: Settings) -> None:
    """Redis is dispensable: the workers stay ready, and reads are answered from elsewhere."""
    workers = cluster.start(), cluster.start()
    await cluster.until_owned_by(*workers)
    kept = await _known_to_both(cluster)

    async with under_load(cluster.installation, seed=13, rate=200) as sender:
        await down(_bare(own_services), only=["redis"])
        await _events_flow_again(cluster, sender)
        # One that is too busy to answer in time says nothing.
        assert [await eventually(worker.ready, "an answer of /ready") for worker in workers] == [200, 200]
        assert [(await _read(worker, name))[0] for worker in workers for name in kept] == [200] * 2 * len(kept)
        workers[0].kill9()
        await cluster.until_owned_by(workers[1])
        await _events_flow_again(cluster, sender)

    await assert_exactly_once(cluster.installation, sent=sender.sent, redis=False)
    assert workers[1].returncode is None


async def test_redis_that_comes_back_is_caught_up(cluster: Cluster, own_services: Settings) -> None:
    """Cut off, it keeps the states of before: none of them may be served when it is back."""
    pid = _pid(own_services, "redis")
    if pid is None:
        pytest.skip("Redis runs in Docker, where it cannot be frozen")
    worker = cluster.start()
    await cluster.until_owned_by(worker)
    kept = await _known_to_both(cluster)

    async with open_sender(cluster.installation) as sender:
        os.kill(pid, signal.SIGSTOP)
        await sender.send(*(command(f"s-{name}", "start", name) for name in kept))
        await settled(cluster.installation, redis=False)
        os.kill(pid, signal.SIGCONT)

    await assert_exactly_once(cluster.installation)


@pytest.mark.parametrize("how", ["full", "a replica"])
async def test_a_redis_that_takes_no_writes_is_not_read_either(
    cluster: Cluster, own_services: Settings, how: str
) -> None:
    """It answers reads, and no command reaches it: what it has would be told for minutes."""
    installation, worker = cluster.installation, cluster.start()
    await cluster.until_owned_by(worker)
    async with running_web(installation) as web, installation.redis() as redis:
        assert (await web.ask("POST", "/assessments", _REQUEST | {"assessmentId": "a1"})).status == 201
        assert (await web.ask("GET", "/assessments/a1")).body["version"] == 1
        await _refuse_writes(redis, how)
        try:
            await eventually(lambda: _cache_is(web, "unhealthy"), "the web to tell of Redis")
            health = (await web.ask("GET", "/health")).body
            assert (await web.ask("POST", "/assessments/a1/start", {})).status == 200
            assert (await web.ask("GET", "/assessments/a1")).body["version"] == 2
            assert (await web.ask("POST", "/assessments/a1/progress", {"progress": 3})).status == 200
            assert (await web.ask("GET", "/assessments/a1")).body["version"] == 3
            assert (health["overall"], await worker.ready()) == ("degraded", 200)
            assert "takes no writes" in health["services"]["cache"]["error"]
        finally:
            await redis.config_set("maxmemory", 0)
            await redis.replicaof("NO", "ONE")
        await eventually(lambda: _cache_is(web, "healthy"), "the web to use Redis again")

    assert "What Redis does not take is read from Postgres" in worker.log.read_text()
    await assert_exactly_once(installation)


_REQUEST = {"assessmentType": "health", "options": {}}


async def _refuse_writes(redis: Redis, how: str) -> None:
    if how == "full":
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.config_set("maxmemory", 1)
    else:
        await redis.replicaof("127.0.0.1", "1")


async def _cache_is(web: Web, status: str) -> bool:
    return bool((await web.ask("GET", "/health")).body["services"]["cache"]["status"] == status)
