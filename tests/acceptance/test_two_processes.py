"""Two API processes behind one address: whichever answers, it is one API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from tests.harness import metrics
from tests.harness.balancer import balancing
from tests.harness.installation import Installation
from tests.harness.waiting import DEADLINE, eventually
from tests.harness.web import Answer, Web, running_web
from tests.harness.worker import Cluster

from assessmentstore.web.auth import Role

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {}, "serverName": "web-1"}


class Pair:
    """Two processes, and the address that shares requests out among them."""

    def __init__(self, webs: list[Web], port: int) -> None:
        self.webs = webs
        self.port = port
        self._front = Front(webs[0], port)

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """One request on a connection of its own: the next goes to the other process."""
        return await self._front.ask(method, path, body, **options)

    async def twice(self, path: str, **headers: str) -> list[Answer]:
        """The answers of both processes."""
        return [await self.ask("GET", path, **headers) for _ in self.webs]


class Front(Web):
    """The tokens of an installation, at another port."""

    def __init__(self, web: Web, port: int) -> None:
        self._installation = web._installation
        self.port = port


@pytest.fixture
async def pair(installation: Installation, cluster: Cluster) -> AsyncIterator[Pair]:
    worker = cluster.start()
    async with AsyncExitStack() as stack:
        webs = [await stack.enter_async_context(running_web(installation)) for _ in range(2)]
        await cluster.until_owned_by(worker)
        yield Pair(webs, await stack.enter_async_context(balancing([web.port for web in webs])))


async def test_two_processes_are_one_api(pair: Pair, cluster: Cluster, tmp_path: Path) -> None:
    """One walk for all of it, since two processes and a worker take seconds to start."""
    stream = asyncio.create_task(events(pair, "/assessments/a-1/events"))
    feed = asyncio.create_task(events(pair, "/events", until="assessment.completed"))
    await eventually(lambda: streams(pair), "the feed to be open")

    first = await pair.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"}, Idempotency_Key="k-1")
    again = await pair.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"}, Idempotency_Key="k-1")
    other = await pair.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-2"}, Idempotency_Key="k-1")
    assert (first.status, again.status, other.status) == (201, 201, 422)
    assert first.body == again.body
    assert (await pair.ask("POST", "/assessments/a-1/start", If_Match='"1"')).status == 200
    assert (await pair.ask("POST", "/assessments/a-1/progress", {"progress": 5}, If_Match='"1"')).status == 412

    waits = [asyncio.create_task(pair.ask("GET", "/assessments/a-1/wait")) for _ in range(4)]
    await eventually(lambda: waiting(pair, 4), "the waits on both processes")
    done = await pair.ask("POST", "/assessments/a-1/complete", {"result": {"overallScore": 97}})
    assert [answer.body["result"] for answer in await asyncio.gather(*waits)] == [{"overallScore": 97}] * 4

    token = done.headers["Consistency-Token"]
    for path in ("/assessments/a-1", "/assessments/a-1/status"):
        one, two = await pair.twice(path, Consistency_Token=token)
        assert one.body == two.body
    for path, version in (("/assessments", 3), ("/assessments/search?q=a-1", 3)):
        for answer in await pair.twice(path, Consistency_Token=token):
            assert [item["version"] for item in answer.body["assessments"]] == [version]
    for answer in await pair.twice("/assessments/stats", Consistency_Token=token):
        assert answer.body["byState"]["completed"] == answer.body["total"] == 1

    types = ["assessment.created", "assessment.started", "assessment.completed"]
    assert await asyncio.wait_for(stream, DEADLINE) == types
    assert await asyncio.wait_for(feed, DEADLINE) == types

    cleaned = await pair.ask("POST", "/maintenance/cleanup", {"retentionDays": 0}, role=Role.ADMIN)
    assert cleaned.body == {"deleted": 1}
    await eventually(lambda: gone(pair, "/assessments/a-1"), "both processes to forget what is deleted")

    seen = metrics.read_scrapes(await scrapes(pair, cluster))
    assert metrics.faults([*metrics.dashboard_queries(), *metrics.alert_queries()], seen) == []
    assert metrics.unanswered(metrics.dashboard_queries(), seen, tmp_path) == []


async def scrapes(pair: Pair, cluster: Cluster) -> dict[tuple[str, str], str]:
    """What Prometheus would read of the webs and of the worker."""
    ports = [("web", web.port) for web in pair.webs] + [("worker", worker.port) for worker in cluster.workers]
    found = {}
    async with aiohttp.ClientSession() as session:
        for job, port in ports:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                found[f"assessmentstore-{job}", f"localhost:{port}"] = await answer.text()
    return found


async def events(pair: Pair, path: str, *, until: str = "") -> list[str]:
    """The types of the events of a stream, to its end or to a type; it is asked for until it is there."""
    headers = {"Authorization": f"Bearer {pair.webs[0].token()}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            async with session.get(f"http://127.0.0.1:{pair.port}{path}") as answer:
                if answer.status == 200:
                    return await _types(answer, until)
            await asyncio.sleep(0.05)


async def _types(answer: aiohttp.ClientResponse, until: str) -> list[str]:
    found = []
    async for line in answer.content:
        if line.startswith(b"data: "):
            found.append(orjson.loads(line[6:])["type"])
            if found[-1] == until:
                break
    return found


async def streams(pair: Pair) -> bool:
    """Whether one stream is open: that of one assessment waits for it to exist."""
    texts = [(await web.ask("GET", "/metrics")).body for web in pair.webs]
    return any("assessmentstore_event_streams 1.0" in text for text in texts)


async def waiting(pair: Pair, count: int) -> bool:
    """Whether so many wait, some on each process."""
    texts = [(await web.ask("GET", "/metrics")).body for web in pair.webs]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("assessmentstore_waiters ")]
    numbers = [float(line.split()[1]) for line in lines]
    return sum(numbers) == count and all(numbers)


async def gone(pair: Pair, path: str) -> bool:
    return {answer.status for answer in await pair.twice(path)} == {404}
