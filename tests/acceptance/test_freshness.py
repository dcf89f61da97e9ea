"""The `Consistency-Token`: whoever brings it back sees his command, whichever copy he reads; or is told why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from tests.harness.installation import Installation
from tests.harness.replica import Replica
from tests.harness.waiting import eventually
from tests.harness.web import Answer, Web, running_web
from tests.harness.worker import Cluster

from assessmentstore.models.positions import Positions

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {"timeout": 5000}}
_NOBODY = "redis://127.0.0.1:1/0"


def positions(answer: Answer) -> Positions:
    return Positions.parse(answer.headers["Consistency-Token"])


def replicated(installation: Installation, *replicas: Replica) -> Installation:
    """The same installation for a web that has replicas."""
    urls = ",".join(replica.url(installation.settings.database_url) for replica in replicas)
    return Installation(installation.settings.model_copy(update={"database_replica_urls": urls}))


@pytest.fixture
async def web(cluster: Cluster) -> AsyncIterator[Web]:
    """The API, and a worker that has its partitions."""
    worker = cluster.start()
    async with running_web(cluster.installation) as running:
        await cluster.until_owned_by(worker)
        yield running


async def test_every_answer_to_a_command_says_where_it_stands(web: Web, cluster: Cluster) -> None:
    path = "/assessments/a-1"
    created = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"}, Idempotency_Key="k-1")
    again = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"}, Idempotency_Key="k-1")
    taken = await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"})
    refused = await web.ask("POST", f"{path}/complete", {"result": {}})
    stale = await web.ask("POST", f"{path}/start", If_Match='"9"')
    started = await web.ask("POST", f"{path}/start")
    later = await web.ask("POST", f"{path}/progress", {"progress": 1}, Prefer="respond-async")
    deleted = await web.ask("DELETE", path)
    answers = [created, again, taken, refused, stale, started, later, deleted]

    assert [answer.status for answer in answers] == [201, 201, 409, 409, 412, 200, 202, 200]
    ((partition, first),) = positions(created).needed.items()
    assert [positions(answer).needed for answer in answers] == [{partition: first + step} for step in range(8)]
    both = f"{created.headers['Consistency-Token']}, {later.headers['Consistency-Token']}"
    for way in ("", "/status", "/wait"):
        assert (await web.ask("GET", path + way, Consistency_Token=both)).status == 200
    never_sent = [await web.ask("GET", path), await web.ask("POST", f"{path}/progress", {"progress": 101})]
    assert not any("Consistency-Token" in answer.headers for answer in never_sent)

    junk = await web.ask("GET", path, Consistency_Token="p1.0-1, x")
    nothing = await web.ask("GET", path, Consistency_Token="")
    assert [(answer.status, answer.body["error"]["code"]) for answer in (junk, nothing)] == [
        (400, "VALIDATION_ERROR")
    ] * 2
    for surface in ("?limit=1", "/search?q=a", "/stats", "/a-1/history"):
        assert (await web.ask("GET", f"/assessments{surface}", Consistency_Token=both)).status == 200
        assert (await web.ask("GET", f"/assessments{surface}", Consistency_Token="x")).status == 400
    web.port = cluster.workers[0].port
    assert (await web.ask("GET", path, Consistency_Token=both)).body["state"] == "cancelled"
    nowhere = await web.ask("GET", path, Consistency_Token="p1.7fffffff-7fffffffffffffff")
    assert (nowhere.status, nowhere.body["error"]["details"]) == (503, {"lag": {str(2**31 - 1): 2**63 - 1}})


@pytest.mark.settings(redis_url=_NOBODY)
async def test_a_token_is_kept_on_every_web_while_the_replica_stands_still(
    installation: Installation, cluster: Cluster, replica: Replica
) -> None:
    """Without Redis each read goes to Postgres; the replica is paused for less than takes it out, and then for more.

    On a machine that stands still it may be taken out before anybody reads: then it is paused once more.
    """
    worker = cluster.start()
    both = replicated(installation, replica)
    async with running_web(both) as web, running_web(both) as other:
        await cluster.until_owned_by(worker)
        for one in (web, other):
            await eventually(partial(_replicas_are, one, healthy=True), "the replica to be in use")
        ids = [f"a-{number}" for number in range(8)]
        requests = [REQUEST | {"assessmentId": key, "serverName": key} for key in ids]
        await asyncio.gather(*(web.ask("POST", "/assessments", request) for request in requests))
        await asyncio.gather(*(web.ask("POST", f"/assessments/{key}/start") for key in ids))
        await eventually(lambda: _reads(web, "replica"), "a read from the replica")

        async def follow(key: str, reader: Web) -> tuple[int, int]:
            """How many reads right after a command were stale: with its token, and without."""
            stale = [0, 0]
            for step in range(5):
                answer = await web.ask("POST", f"/assessments/{key}/progress", {"progress": step})
                version, token = answer.body["version"], answer.headers["Consistency-Token"]
                without = await reader.ask("GET", f"/assessments/{key}")
                fresh = await reader.ask("GET", f"/assessments/{key}", Consistency_Token=token)
                listed = await reader.ask("GET", f"/assessments?serverName={key}", Consistency_Token=token)
                history = await reader.ask("GET", f"/assessments/{key}/history", Consistency_Token=token)
                shown = [fresh.body["version"], listed.body["assessments"][0]["version"], len(history.body["history"])]
                stale[0] += sum(seen < version for seen in shown)
                stale[1] += without.body["version"] < version
            return stale[0], stale[1]

        async def missed() -> int:
            """How many reads without a token were stale while the replica stood still."""
            await replica.resume()
            for one in (web, other):
                await eventually(partial(_replicas_are, one, healthy=True), "the replica to be in use")
            await replica.pause()
            found = await asyncio.gather(*(follow(key, (web, other)[number % 2]) for number, key in enumerate(ids)))
            assert sum(fresh for fresh, _ in found) == 0
            return sum(without for _, without in found)

        await eventually(missed, "reads that miss something while the replica stands still")
        await eventually(partial(_replicas_are, web, healthy=False), "the replica to be out of use")
        assert (await web.ask("GET", "/health")).body["services"]["database"]["status"] == "degraded"
        assert (await web.ask("GET", "/ready")).status == 200
        written = await web.ask("POST", "/assessments/a-0/progress", {"progress": 5})
        assert (await web.ask("GET", "/assessments/a-0")).body["version"] == written.body["version"]
        await replica.resume()
        await eventually(partial(_replicas_are, web, healthy=True), "the replica to be back")


async def test_what_is_not_applied_is_told_with_the_lag_until_it_is(web: Web, cluster: Cluster) -> None:
    await web.ask("POST", "/assessments", REQUEST | {"assessmentId": "a-1"})
    async with cluster.workers[0].frozen():
        sent = [await web.ask("POST", "/assessments/a-1/start", Prefer="respond-async") for _ in range(3)]
        token = sent[-1].headers["Consistency-Token"]

        late = await web.ask("GET", "/assessments/a-1", Consistency_Token=token)

        ((partition, _),) = positions(sent[-1]).needed.items()
        assert (late.status, late.body["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert late.body["error"]["details"] == {"lag": {str(partition): 3}}
        assert late.headers["Retry-After"] == "1"
        assert (await web.ask("GET", "/assessments/a-1")).body["version"] == 1

    async def fresh() -> bool:
        answer = await web.ask("GET", "/assessments/a-1", Consistency_Token=token)
        return answer.status == 200 and bool(answer.body["version"] == 2)

    await eventually(fresh, "the state that the token promises")


async def _replicas_are(web: Web, *, healthy: bool) -> bool:
    replicas = (await web.ask("GET", "/health")).body["services"]["database"].get("replicas", [])
    return bool(replicas) and all(replica["healthy"] is healthy for replica in replicas)


async def _reads(web: Web, source: str) -> bool:
    await web.ask("GET", "/assessments/a-0")
    metrics = (await web.ask("GET", "/metrics")).body.splitlines()
    return any(line.startswith(f'assessmentstore_reads_total{{source="{source}"}}') for line in metrics)
