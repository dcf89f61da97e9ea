"""Cleanup: what ended long ago is gone from everywhere, nothing else is, and its id may be used again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from tests.harness.shared import Running, running
from tests.harness.waiting import eventually
from tests.harness.web import Answer, Web, running_web

from assessmentstore.settings import Settings
from assessmentstore.web.auth import Role

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {"timeout": 5000}, "serverName": "web-1"}


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(services, template_database, tmp_path_factory.mktemp("cleanup")) as made:
        yield made


@pytest.fixture
def web(shared: Running) -> Web:
    return shared.web


async def cleanup(web: Web, days: int = 0, **headers: str) -> Answer:
    return await web.ask("POST", "/maintenance/cleanup", {"retentionDays": days}, role=Role.ADMIN, **headers)


async def deleted(web: Web, days: int = 0, **headers: str) -> int:
    answer = await cleanup(web, days, **headers)
    assert answer.status == 200, answer.body
    assert answer.body.keys() == {"deleted"}
    return int(answer.body["deleted"])


async def create(web: Web, *ids: str) -> None:
    answer = await web.ask("POST", "/assessments/batch", [REQUEST | {"assessmentId": key} for key in ids])
    assert answer.body == {"assessmentIds": list(ids), "errors": []}


async def ended(web: Web, key: str, name: str) -> None:
    """Create an assessment, and bring it to an end."""
    data: dict[str, Any] = {"complete": {"result": {}}, "fail": {"error": "x"}, "cancel": {}}
    await create(web, key)
    await web.ask("POST", f"/assessments/{key}/start")
    assert (await web.ask("POST", f"/assessments/{key}/{name}", data[name])).status == 200


async def status(web: Web, key: str) -> int:
    return (await web.ask("GET", f"/assessments/{key}")).status


async def rows(shared: Running, query: str, *arguments: Any) -> Any:
    async with shared.installation.database() as database:
        return await database.fetchval(query, *arguments)


async def backdate(shared: Running, days: int, *ids: str) -> None:
    await rows(
        shared,
        "UPDATE assessment_states SET completed_at = NOW() - make_interval(days => $1) WHERE assessment_id = ANY($2)",
        days,
        list(ids),
    )


async def test_only_what_ended_long_ago_goes_and_takes_its_children_along(web: Web, shared: Running) -> None:
    for name in ("complete", "fail", "cancel"):
        await ended(web, f"old-{name}", name)
        await ended(web, f"new-{name}", name)
    await create(web, "old-pending", "old-processing")
    await web.ask("POST", "/assessments/old-processing/start")
    await backdate(shared, 31, "old-complete", "old-fail", "old-cancel", "old-pending", "old-processing")
    await backdate(shared, 29, "new-complete", "new-fail", "new-cancel")

    assert await deleted(web, 30) == 3

    query = "SELECT string_agg(assessment_id, ' ' ORDER BY assessment_id) FROM assessment_states"
    assert await rows(shared, query) == "new-cancel new-complete new-fail old-pending old-processing"
    for table in ("assessment_audit_trail", "assessment_metrics", "assessment_search", "assessment_names"):
        assert await rows(shared, f"SELECT count(*) FROM {table} WHERE assessment_id LIKE 'old-%e'") == 0
    stats = await web.ask("GET", "/assessments/stats")
    assert stats.body["total"] == 5
    begins = "SELECT count(*) FROM history_offsets AS h JOIN command_offsets AS c USING (partition)"
    assert await rows(shared, f"{begins} WHERE 0 < first_offset AND first_offset <= next_offset") > 0


async def test_every_cache_forgets_what_is_deleted(web: Web, shared: Running) -> None:
    await ended(web, "cached", "complete")
    worker = shared.cluster.workers[0]
    async with running_web(shared.installation) as other:
        assert (await status(web, "cached"), await status(other, "cached")) == (200, 200)
        assert await _on_worker(web, worker.port, "cached") == 200

        assert await deleted(web) >= 1

        assert await status(web, "cached") == 404
        await eventually(lambda: _gone(status(other, "cached")), "the other web to forget")
        await eventually(lambda: _gone(_on_worker(web, worker.port, "cached")), "the worker to forget")


async def test_an_id_is_free_again_at_once_whatever_the_caches_still_have(web: Web, shared: Running) -> None:
    await ended(web, "again", "cancel")
    redis_key = f"{shared.installation.settings.topic_prefix}assessment:again"
    async with shared.installation.redis() as redis:

        async def refreshed() -> Any:
            """An answer may come before Redis is refreshed."""
            version, value = await redis.hmget(redis_key, ["v", "d"])
            return value if version == b"3" else None

        stale = await eventually(refreshed, "the third version in Redis")
        await deleted(web)
        # As a slow reader may leave it, who read the state just before it was deleted.
        await redis.hset(redis_key, "v", "3")
        await redis.hset(redis_key, "d", stale or b"")

    await create(web, "again")

    read = await web.ask("GET", "/assessments/again")
    assert (read.body["state"], read.body["version"]) == ("pending", 1)
    assert (await web.ask("POST", "/assessments/again/start")).body["version"] == 2


async def test_a_worker_that_did_not_hear_of_a_deletion_judges_by_postgres(web: Web, shared: Running) -> None:
    await ended(web, "unheard", "fail")
    await ended(web, "unheard-2", "cancel")
    async with shared.installation.database() as database:
        for table in ("metrics", "audit_trail", "search", "states"):
            await database.execute(f"DELETE FROM assessment_{table} WHERE assessment_id LIKE 'unheard%'")

    results = await web.ask("POST", "/assessments/batch", [REQUEST | {"assessmentId": "unheard-2"}])
    retried = await web.ask("POST", "/assessments/unheard/retry")

    assert results.body == {"assessmentIds": ["unheard-2"], "errors": []}
    assert (retried.status, retried.body["error"]["code"]) == (404, "ASSESSMENT_NOT_FOUND")


async def test_a_retry_at_the_same_time_is_never_lost(web: Web) -> None:
    keys = [f"race-{number}" for number in range(12)]
    await asyncio.gather(*(ended(web, key, "fail") for key in keys))
    retries = [asyncio.create_task(web.ask("POST", f"/assessments/{key}/retry")) for key in keys]
    count = await deleted(web)
    answers = await asyncio.gather(*retries)

    kept = [key for key, answer in zip(keys, answers, strict=True) if answer.status == 200]
    assert {answer.status for answer in answers} <= {200, 404}
    assert [await status(web, key) for key in kept] == [200] * len(kept)
    assert count >= len(keys) - len(kept)


async def test_the_same_key_counts_the_same_and_deletes_no_more(web: Web) -> None:
    await deleted(web)
    await ended(web, "key-1", "complete")
    together = await asyncio.gather(*(cleanup(web, Idempotency_Key="c") for _ in range(3)))
    await ended(web, "key-2", "complete")

    again = await cleanup(web, Idempotency_Key="c")
    other = await cleanup(web, 7, Idempotency_Key="c")

    assert [answer.body for answer in (*together, again)] == [{"deleted": 1}] * 4
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status, other.body["error"]["code"]) == (422, "IDEMPOTENCY_MISMATCH")
    assert await status(web, "key-2") == 200


async def test_cleanup_needs_a_permission_of_its_own_and_a_whole_number(web: Web) -> None:
    for role in (Role.USER, Role.HUMAN_OVERSIGHT):
        refused = await web.ask("POST", "/maintenance/cleanup", {"retentionDays": 0}, role=role)
        assert (refused.status, refused.body["error"]["code"]) == (403, "FORBIDDEN")
    for body in ({}, {"retentionDays": -1}, {"retentionDays": 1.5}, {"retentionDays": True}, {"retentionDays": "1"}):
        answer = await web.ask("POST", "/maintenance/cleanup", body, role=Role.ADMIN)
        assert (answer.status, answer.body["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert await deleted(web, 2**31 - 1) == 0


async def _on_worker(web: Web, port: int, key: str) -> int:
    here, web.port = web.port, port
    try:
        return await status(web, key)
    finally:
        web.port = here


async def _gone(asking: Awaitable[int]) -> bool:
    return await asking == 404
