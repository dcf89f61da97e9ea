"""A rolling upgrade under load: every process is replaced, one after the other, and nobody notices."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from tests.harness.installation import Installation
from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import under_load
from tests.harness.waiting import eventually
from tests.harness.web import Web
from tests.harness.worker import Cluster, Worker

from assessmentstore import bootstrap
from assessmentstore.chaos.topics import read_topic
from assessmentstore.web.auth import Role

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {}, "source": "compliance"}

# As the kubelet asks, only more often; a web serves on for `drain_seconds` until everybody has heard.
_PROBE_SECONDS = 0.25
_CALLERS = 6

pytestmark = pytest.mark.settings(drain_seconds=6.0, command_timeout=60.0, rate_limit=0.0)


class Service:
    """Webs behind one name, as a Service of Kubernetes has them: who is not ready gets no new request.

    Each caller keeps its connections, as proxies do. What fails is never tried again.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._turns = itertools.count()
        self._webs: list[Web] = []
        self.ready: list[Web] = []
        self.failed: list[str] = []
        self.statuses: Counter[int] = Counter()

    def add(self, web: Web) -> None:
        """A new pod: it gets requests once it is ready."""
        self._webs.append(web)

    def remove(self, web: Web) -> None:
        """A pod that is gone."""
        self._webs.remove(web)

    async def watch(self) -> None:
        """Ask everybody whether he is ready, until cancelled."""
        while True:
            asked = list(self._webs)
            answers = await asyncio.gather(*map(self._is_ready, asked))
            self.ready = [web for web, ready in zip(asked, answers, strict=True) if ready]
            await asyncio.sleep(_PROBE_SECONDS)

    async def _is_ready(self, web: Web) -> bool:
        """What it says; one that says nothing in time is what it was, as with the kubelet, which asks three times."""
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with self._session.get(f"http://127.0.0.1:{web.port}/ready", timeout=timeout) as answer:
                return answer.status == 200
        except TimeoutError:
            return web in self.ready
        except (aiohttp.ClientError, OSError):
            return False

    @asynccontextmanager
    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> AsyncIterator[Any]:
        """One request, to whoever's turn it is."""
        web = self.ready[next(self._turns) % len(self.ready)]
        headers["Authorization"] = f"Bearer {web.token('operator', Role.ADMIN)}"
        url = f"http://127.0.0.1:{web.port}{path}"
        try:
            async with self._session.request(method, url, json=body, headers=headers) as answer:
                self.statuses[answer.status] += 1
                yield answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.failed.append(f"{method} {path} on {web.port}: {error!r}")
            raise

    async def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One request that has to be served."""
        async with self.send(method, path, body) as answer:
            text = await answer.text()
            if answer.status not in (200, 201):
                self.failed.append(f"{method} {path}: {answer.status} {text}")
        found: dict[str, Any] = orjson.loads(text)
        return found

    async def wait(self, assessment_id: str) -> str:
        """The state in which an assessment ends; a wait that is told to come again does so."""
        while True:
            async with self.send("GET", f"/assessments/{assessment_id}/wait?timeout=120000") as answer:
                if answer.status == 200:
                    return str((await answer.json())["status"])
                if answer.status != 503 or "Retry-After" not in answer.headers:
                    self.failed.append(f"wait for {assessment_id}: {answer.status} {await answer.text()}")
                    return "unknown"


class Callers:
    """Assessments that are led from their creation to their end, over and over."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._numbers = itertools.count(1)
        self.stopping = False
        self.done: dict[str, str] = {}
        """Each assessment that was begun, and what its wait told."""
        self.seen: list[str] = []
        """The id of each event that the feed told of them."""

    async def lead(self) -> None:
        """Begin assessments and end them, until told to stop."""
        while not self.stopping:
            assessment_id = f"http-{next(self._numbers)}"
            path = f"/assessments/{assessment_id}"
            await self._service.ask("POST", "/assessments", REQUEST | {"assessmentId": assessment_id})
            waiting = asyncio.create_task(self._service.wait(assessment_id))
            await self._service.ask("POST", f"{path}/start")
            await self._service.ask("GET", path)
            done = await self._service.ask("POST", f"{path}/complete", {"result": {}})
            assert done.get("version") == 3, done
            self.done[assessment_id] = await waiting

    async def follow(self) -> None:
        """Read the feed of all events, and come back to it where it was when it ends, until cancelled."""
        last: dict[str, str] = {}
        while True:
            async with self._service.send("GET", "/events", **last) as answer:
                if answer.status != 200:
                    self._service.failed.append(f"the feed: {answer.status} {await answer.text()}")
                    return
                async for line in answer.content:
                    name, _, value = line.decode().strip().partition(": ")
                    if name == "id":
                        last = {"Last-Event-ID": value}
                    elif name == "event" and value == "reset":
                        self._service.failed.append("the feed lost its place")
                    elif name == "data":
                        event = orjson.loads(value)
                        if str(event.get("assessmentId", "")).startswith("http-"):
                            self.seen.append(f"{event['assessmentId']}:{event['version']}")


async def test_nobody_notices_that_every_process_is_replaced(
    installation: Installation, cluster: Cluster, tmp_path: Path
) -> None:
    """The new version is this one again: what is tried is the way of replacing it."""
    webs = [Web(installation), Web(installation)]
    workers = [cluster.start(), cluster.start()]
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=180))
    session._retry_connection = False  # a request on a connection that was closed has failed
    service = Service(session)
    callers = Callers(service)
    background = [asyncio.create_task(service.watch())]
    try:
        for web in webs:
            service.add(web)
        await eventually(lambda: _ready(service, *webs), "both webs")
        await cluster.until_owned_by(*workers)
        following = asyncio.create_task(callers.follow())
        background.append(following)
        leading = [asyncio.create_task(callers.lead()) for _ in range(_CALLERS)]
        async with under_load(installation, seed=7, rate=60) as sender:
            await eventually(lambda: _has_done(callers, 5), "a first few assessments")
            assert await bootstrap.migrate(installation.settings) == []

            for old_web, old_worker in zip(list(webs), workers, strict=True):
                await asyncio.gather(_replace_web(service, webs, old_web), _replace_worker(cluster, old_worker))
                await eventually(partial(_has_done, callers, len(callers.done) + 5), "assessments after it")

        callers.stopping = True
        await asyncio.gather(*leading)
        await settled(installation)
        events = await _events_of_http(installation)
        await eventually(lambda: _as_many(callers, events), "the feed to tell all")
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await session.close()
        for web in webs:
            web.destroy()

    assert service.failed == []
    assert set(callers.done.values()) == {"completed"}
    assert sorted(events) == sorted(f"{each}:{version}" for each in callers.done for version in (1, 2, 3))
    assert sorted(callers.seen) == sorted(events)
    await assert_exactly_once(installation, sent=sender.sent)


async def _replace_web(service: Service, webs: list[Web], old: Web) -> None:
    """As a Deployment does with maxSurge 1 and maxUnavailable 0."""
    new = Web(old._installation)
    webs.append(new)
    service.add(new)
    await eventually(lambda: _ready(service, new), "the new web")
    old.process.send_signal(signal.SIGTERM)
    await eventually(lambda: _is_out(service, old), "the old web to take itself out")
    assert old.process.poll() is None
    assert await asyncio.to_thread(old.process.wait, 120) == 0
    service.remove(old)


async def _replace_worker(cluster: Cluster, old: Worker) -> None:
    """As a StatefulSet does: one goes, and then its successor comes."""
    await old.stop()
    assert old.returncode == 0
    await cluster.start().until_ready()


async def _ready(service: Service, *webs: Web) -> bool:
    return set(webs) <= set(service.ready)


async def _is_out(service: Service, web: Web) -> bool:
    return web not in service.ready


async def _has_done(callers: Callers, count: int) -> bool:
    return len(callers.done) >= count


async def _as_many(callers: Callers, events: list[str]) -> bool:
    return len(callers.seen) >= len(events)


async def _events_of_http(installation: Installation) -> list[str]:
    settings = installation.settings
    found = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    events = [record.event for records in found.values() for record in records]
    return [f"{it['assessmentId']}:{it['version']}" for it in events if it["assessmentId"].startswith("http-")]
