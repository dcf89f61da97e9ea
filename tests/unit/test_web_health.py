"""Health and readiness over checks that answer, fail and hang."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from assessmentstore.models.errors import UnavailableError
from assessmentstore.store.postgres import postgres_errors
from assessmentstore.web import health as health_module
from assessmentstore.web.health import Check, Health

REQUEST = make_mocked_request("GET", "/health")


async def well() -> Mapping[str, Any]:
    return {"version": "1"}


async def degraded() -> Mapping[str, Any]:
    return {"status": "degraded", "error": "the schema is missing"}


async def without_replicas() -> Mapping[str, Any]:
    return {"status": "degraded", "error": "1 of 1 replicas are out of use", "serves": True}


async def away() -> Mapping[str, Any]:
    raise UnavailableError("10.0.0.7 does not answer")


def body(response: web.Response) -> dict[str, Any]:
    assert isinstance(response.body, bytes)
    answer: dict[str, Any] = orjson.loads(response.body)
    return answer


@pytest.mark.parametrize(
    ("database", "cache", "overall", "ready"),
    [
        (well, well, "healthy", True),
        (well, away, "degraded", True),
        (away, well, "unhealthy", False),
        (away, away, "unhealthy", False),
        (degraded, well, "degraded", False),
        (without_replicas, well, "degraded", True),
    ],
)
async def test_only_redis_and_replicas_are_dispensable(
    database: Check, cache: Check, overall: str, ready: bool
) -> None:
    health = Health({"database": database, "cache": cache, "queue": well})

    answer, readiness = await health.health(REQUEST), await health.ready(REQUEST)

    assert (answer.status, body(answer)["overall"]) == (200, overall)
    assert (readiness.status, body(readiness)["ready"]) == (200 if ready else 503, ready)


async def test_each_service_tells_its_latency_and_details() -> None:
    service = (await Health({"database": well}).services())["database"]

    assert (service["status"], service["version"]) == ("healthy", "1")
    assert service["latencyMs"] >= 0


async def test_a_failing_check_keeps_addresses_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    answer = await Health({"database": away}).health(REQUEST)

    assert body(answer)["services"]["database"] == {"status": "unhealthy", "error": "does not answer"}
    assert "10.0.0.7" in caplog.text


async def test_a_service_that_lets_us_not_in_says_why_without_names(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse() -> Mapping[str, Any]:
        with postgres_errors():
            raise asyncpg.InvalidPasswordError('password authentication failed for user "assessmentstore"')

    answer = await Health({"database": refuse}).health(REQUEST)

    error = body(answer)["services"]["database"]["error"]
    assert error == "refuses our user, password or certificate: check them, and what it asks for"
    assert 'user "assessmentstore"' in caplog.text


async def test_a_process_that_leaves_is_not_ready_and_still_well() -> None:
    health = Health({"database": well})

    health.leaving = True

    assert (await health.ready(REQUEST)).status == 503
    assert body(await health.health(REQUEST))["overall"] == "healthy"


async def test_a_check_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "_CHECK_SECONDS", 0.01)

    async def hang() -> Mapping[str, Any]:
        await asyncio.Event().wait()
        return {}

    services = await Health({"database": hang}).services()

    assert services["database"]["status"] == "unhealthy"


async def test_many_probes_at_once_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "_SHARED_SECONDS", 3600.0)
    asked = 0

    async def count() -> Mapping[str, Any]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return {}

    health = Health({"database": count})
    await asyncio.gather(*(health.health(REQUEST) for _ in range(20)))

    assert asked == 1


async def test_checks_run_side_by_side() -> None:
    both = asyncio.Barrier(2)

    async def meet() -> Mapping[str, Any]:
        await both.wait()
        return {}

    services = await Health({"database": meet, "queue": meet}).services()

    assert {service["status"] for service in services.values()} == {"healthy"}
