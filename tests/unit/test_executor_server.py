"""The calls to a compliance server: each way in which one goes wrong has a kind of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from tests.harness.compliance import KEY, RESULT, ScriptedServer, scripted_server

from assessmentstore.executor.answers import Answer
from assessmentstore.executor.faults import PASSING, ComplianceError, FaultKind
from assessmentstore.executor.server import ComplianceServer, open_session
from assessmentstore.models.compliance import ComplianceOrder, ComplianceStatus
from assessmentstore.settings import Settings

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALL_SECONDS = 2.0


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
async def server(scripted: ScriptedServer) -> AsyncIterator[ComplianceServer]:
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        compliance_url=scripted.url,
        compliance_api_key=SecretStr(KEY),
        compliance_call_timeout=CALL_SECONDS,
    )
    async with open_session(settings) as session:
        yield ComplianceServer(scripted.url, session, concurrency=3, timeout=CALL_SECONDS)


async def ask(server: ComplianceServer, script: str, attempt: int = 0) -> Answer:
    order = ComplianceOrder(assessment_id="a/1 ü", attempt=attempt, request={"serverName": script})
    return await server.order(order, {"traceparent": TRACE})


async def test_an_order_has_all_that_was_agreed(server: ComplianceServer, scripted: ScriptedServer) -> None:
    answer = await ask(server, "at once", attempt=2)

    assert answer.report.status is ComplianceStatus.COMPLETED
    assert answer.report.result is not None
    assert answer.report.result.to_wire() == RESULT
    (order,) = scripted.orders
    assert (order.assessment_id, order.attempt, order.request) == ("a/1 ü", 2, {"serverName": "at once"})
    assert order.headers["Authorization"] == f"Bearer {KEY}"
    assert order.headers["traceparent"] == TRACE


async def test_what_is_done_later_is_asked_after(server: ComplianceServer) -> None:
    first = await ask(server, "later")

    found = [await server.status("a/1 ü", 0, {}) for _ in range(2)]

    assert (first.report.status, first.report.progress) == (ComplianceStatus.PROCESSING, 0)
    assert [answer.report.status if answer else None for answer in found] == ["processing", "completed"]


async def test_what_it_does_not_know_is_no_fault(server: ComplianceServer, scripted: ScriptedServer) -> None:
    assert await server.status("a/1 ü", 0, {}) is None

    await server.forget("a/1 ü", 0, {})
    await ask(server, "never")
    await server.forget("a/1 ü", 0, {})

    assert scripted.forgotten == [("a/1 ü", "0")] * 2
    assert server.breaker.is_closed


@pytest.mark.parametrize(
    ("script", "kind", "told"),
    [
        ("500", FaultKind.SERVER_ERROR, "500 BROKEN: a bug"),
        ("502", FaultKind.SERVER_ERROR, "502"),
        ("429", FaultKind.BUSY, "429 BUSY: not now"),
        ("400", FaultKind.REFUSED, "400 NO_SUCH_CHECK: deepScan is not sold here"),
        ("401", FaultKind.MISCONFIGURED, "ASSESSMENTSTORE_COMPLIANCE_API_KEY"),
        ("redirect", FaultKind.MISCONFIGURED, "302"),
        ("not JSON", FaultKind.BAD_ANSWER, "not JSON"),
        ("another shape", FaultKind.BAD_ANSWER, "/assessmentId"),
        ("another id", FaultKind.BAD_ANSWER, "somebody-else"),
        ("no result", FaultKind.BAD_ANSWER, "has to have a result"),
        ("null byte", FaultKind.BAD_ANSWER, "null byte"),
        ("wrong result", FaultKind.BAD_ANSWER, "/result/overallScore"),
        ("endless", FaultKind.TOO_LARGE, "within 10 MiB"),
        ("half closed", FaultKind.CONNECTION_LOST, "ended before the answer"),
        ("cut off", FaultKind.CONNECTION_LOST, "ended before the answer"),
        ("hangs", FaultKind.TIMED_OUT, "no answer within 2 s"),
    ],
)
async def test_each_fault_has_its_kind_and_says_what_happened(
    server: ComplianceServer, scripted: ScriptedServer, script: str, kind: FaultKind, told: str
) -> None:
    with pytest.raises(ComplianceError) as found:
        await ask(server, script)

    assert found.value.kind is kind
    assert str(found.value).startswith(f"{kind}: ")
    assert told in str(found.value)
    assert scripted.url in str(found.value)


async def test_a_server_that_is_away_is_unreachable(server: ComplianceServer, scripted: ScriptedServer) -> None:
    await scripted.stop()

    with pytest.raises(ComplianceError) as found:
        await ask(server, "at once")

    assert found.value.kind is FaultKind.UNREACHABLE


async def test_retry_after_is_told_and_nothing_more_is_given_to_a_busy_server(server: ComplianceServer) -> None:
    with pytest.raises(ComplianceError) as found:
        await ask(server, "429")

    assert found.value.retry_after == 1
    assert server.room == 0
    assert server.breaker.is_closed


async def test_after_failures_it_is_left_alone_and_says_why(server: ComplianceServer, scripted: ScriptedServer) -> None:
    assert server.room == 3
    for _ in range(5):
        with pytest.raises(ComplianceError):
            await ask(server, "500")
    calls = scripted.calls.total()

    with pytest.raises(ComplianceError) as found:
        await ask(server, "at once")

    assert found.value.kind is FaultKind.LEFT_ALONE
    assert "a bug" in str(found.value)
    assert scripted.calls.total() == calls
    assert server.room == 0
    assert server.health()["status"] == "unhealthy"


async def test_a_wrong_key_is_found_out_by_one_call(server: ComplianceServer) -> None:
    with pytest.raises(ComplianceError):
        await ask(server, "401")

    assert not server.breaker.is_closed


async def test_calls_that_are_broken_off_are_no_failures(server: ComplianceServer) -> None:
    for _ in range(6):
        call = asyncio.create_task(ask(server, "hangs"))
        await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait({call})

    assert server.breaker.is_closed
    assert server.breaker.admits


def test_what_does_not_pass_is_what_the_server_says_of_the_request() -> None:
    kinds = {FaultKind.BAD_ANSWER, FaultKind.TOO_LARGE, FaultKind.REFUSED, FaultKind.FAILED, FaultKind.UNREADABLE}
    assert set(FaultKind) - PASSING == kinds
