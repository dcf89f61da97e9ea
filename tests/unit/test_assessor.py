"""The sample assessor: what it measures, how it judges that, and which commands it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from assessmentstore.dev import assessor as module
from assessmentstore.dev import inspection
from assessmentstore.dev.assessor import Assessor, Order, orders
from assessmentstore.dev.inspection import CHECKS, Check, Inspection, Target, inspect
from assessmentstore.dev.verdict import failure, issues, result
from assessmentstore.models.assessment import AssessmentRequest, AssessmentType
from assessmentstore.models.base import JsonObject
from assessmentstore.models.commands import CommandType
from assessmentstore.models.result import AssessmentResult, AssessmentSeverity, ServerStatus

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LOCAL = Target(name="redis", kind="redis", url="redis://user:secret@127.0.0.1:6379/0")
REMOTE = Target(name="postgres", kind="postgres", url="postgresql://me:secret@db.example.org:5432/a")
SOUND = Inspection(
    target=REMOTE,
    response_time=1.5,
    version="16.4",
    authentication=True,
    tls=True,
    memory_left=0.5,
    disk_left=0.5,
)


@dataclass
class FakeServer:
    """Answers as it is told to; an exception is raised."""

    answers: dict[str, Any]

    async def response_time(self) -> float:
        return await self._answer("response_time")  # type: ignore[no-any-return]

    async def version(self) -> str | None:
        return await self._answer("version")  # type: ignore[no-any-return]

    async def authentication(self) -> bool | None:
        return await self._answer("authentication")  # type: ignore[no-any-return]

    async def tls(self) -> bool | None:
        return await self._answer("tls")  # type: ignore[no-any-return]

    async def data_folder(self) -> str | None:
        return await self._answer("data_folder")  # type: ignore[no-any-return]

    async def _answer(self, question: str) -> Any:
        answer = self.answers.get(question)
        if isinstance(answer, Exception):
            raise answer
        return await answer() if callable(answer) else answer


@dataclass
class Sent:
    """Remembers the commands."""

    commands: list[tuple[CommandType, str, JsonObject]] = field(default_factory=list)

    async def __call__(self, command_type: CommandType, assessment_id: str, data: JsonObject) -> None:
        self.commands.append((command_type, assessment_id, data))

    @property
    def types(self) -> list[str]:
        return [command_type.removeprefix("assessment.") for command_type, *_ in self.commands]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let all servers answer like this."""

    def answer(**answers: Any) -> None:
        kinds = dict.fromkeys(("kafka", "postgres", "redis"), lambda _: FakeServer(answers))
        monkeypatch.setattr(inspection, "KINDS", kinds)

    return answer


def order(*targets: Target, kind: AssessmentType = AssessmentType.SECURITY, patience: float = 30) -> Order:
    return Order(type=kind, server_name="x", targets=targets, patience=patience)


def found(item: Inspection) -> dict[str | None, AssessmentSeverity | None]:
    return {issue.category: issue.severity for issue in issues(item)}


def test_a_sound_server_has_no_issue_and_all_points() -> None:
    verdict = result([SOUND], NOW)

    assert verdict.configuration_issues == []
    assert (verdict.overall_score, verdict.compliant_servers, verdict.non_compliant_servers) == (100, 1, 0)


@pytest.mark.parametrize(
    ("change", "category", "severity"),
    [
        ({"authentication": False}, "authentication", "critical"),
        ({"tls": False}, "encryption", "high"),
        ({"version": "13.9"}, "version", "high"),
        ({"response_time": 150.0}, "response_time", "medium"),
        ({"response_time": 1500.0}, "response_time", "high"),
        ({"memory_left": 0.05}, "memory", "high"),
        ({"disk_left": 0.01}, "disk", "critical"),
        ({"error": "Connection refused"}, "availability", "critical"),
    ],
)
def test_each_thing_that_is_wrong_is_one_issue(change: dict[str, Any], category: str, severity: str) -> None:
    (issue,) = issues(replace(SOUND, **change))

    assert (issue.category, issue.severity, issue.server_name) == (category, severity, "postgres")
    assert issue.description
    assert issue.recommendation


@pytest.mark.parametrize("name", ["version", "authentication", "tls", "memory_left", "disk_left", "response_time"])
def test_what_a_server_does_not_tell_is_no_issue(name: str) -> None:
    nothing: dict[str, Any] = {name: None}
    item = replace(SOUND, **nothing)

    assert found(item) == {}
    assert "None" not in result([item], NOW).model_dump_json(exclude_unset=True)


def test_what_only_this_machine_reaches_is_judged_more_mildly() -> None:
    exposed = replace(SOUND, authentication=False, tls=False)

    assert found(exposed) == {"authentication": "critical", "encryption": "high"}
    assert found(replace(exposed, target=LOCAL)) == {"authentication": "medium", "encryption": "low"}


def test_a_result_counts_servers_and_issues_and_averages_the_scores() -> None:
    away = Inspection(target=LOCAL, error="Connection refused")

    verdict = result([SOUND, away], NOW)

    assert (verdict.total_servers, verdict.compliant_servers, verdict.missing_servers) == (2, 1, ["redis"])
    assert verdict.overall_score == 50
    assert verdict.summary is not None
    assert (verdict.summary.critical_issues, verdict.summary.high_issues) == (1, 0)
    assert [status.status for status in verdict.server_statuses or []] == [ServerStatus.ONLINE, ServerStatus.OFFLINE]


def test_a_result_is_one_of_the_contract_and_tells_no_password() -> None:
    items = [replace(SOUND, authentication=False, tls=False), Inspection(target=LOCAL, error="refused")]

    wire = result(items, NOW).to_wire()

    assert AssessmentResult.model_validate_json(orjson.dumps(wire)).total_servers == 2
    assert "secret" not in str(wire)


def test_an_assessment_fails_only_when_no_server_responds() -> None:
    away = Inspection(target=LOCAL, error="Connection refused")

    assert failure([SOUND, away]) is None
    assert failure([away]) == "redis at 127.0.0.1:6379: Connection refused"


@pytest.mark.parametrize(
    ("url", "address", "is_local"),
    [
        ("127.0.0.1:9092", "127.0.0.1:9092", True),
        ("localhost:9092,other:9092", "localhost:9092", True),
        ("redis://:pw@[::1]:6379/0", "[::1]:6379", True),
        ("postgresql://me@10.0.0.7:5432/a", "10.0.0.7:5432", False),
    ],
)
def test_a_target_knows_its_address(url: str, address: str, is_local: bool) -> None:
    target = Target(name="x", kind="kafka", url=url)

    assert (target.address, target.is_local) == (address, is_local)


async def test_an_inspection_makes_the_checks_in_order(servers: Callable[..., None], tmp_path: Any) -> None:
    servers(response_time=2.0, version="7.2", authentication=False, tls=True, data_folder=str(tmp_path))

    steps = [step async for step in inspect(LOCAL, CHECKS[AssessmentType.COMPLIANCE])]

    assert [check for check, _ in steps] == list(Check)
    item = steps[-1][1]
    assert (item.response_time, item.version, item.authentication, item.tls) == (2.0, "7.2", False, True)
    assert 0 <= (item.memory_left or -1) <= 1
    assert 0 <= (item.disk_left or -1) <= 1


async def test_memory_and_disk_of_another_machine_are_not_those_of_this_one(servers: Callable[..., None]) -> None:
    servers(response_time=2.0, data_folder="/")

    *_, (_, item) = [step async for step in inspect(REMOTE, CHECKS[AssessmentType.HEALTH])]

    assert (item.memory_left, item.disk_left) == (None, None)


async def test_a_server_that_does_not_respond_is_not_asked_further(servers: Callable[..., None]) -> None:
    servers(response_time=ConnectionRefusedError("Connection refused"))

    steps = [step async for step in inspect(LOCAL, tuple(Check))]

    assert [(check, item.error) for check, item in steps] == [(Check.RESPONSE_TIME, "Connection refused")]


async def test_an_assessment_that_goes_well_is_created_started_followed_and_completed(
    servers: Callable[..., None],
) -> None:
    servers(response_time=2.0, authentication=True, tls=True)
    sent = Sent()

    await Assessor(sent).carry_out(order(LOCAL))

    assert sent.types == ["create", "start", "progress", "progress", "progress", "complete"]
    assert [data["progress"] for _, _, data in sent.commands[2:5]] == [33, 67, 100]
    assert len({assessment_id for _, assessment_id, _ in sent.commands}) == 1
    assert AssessmentResult.model_validate(sent.commands[-1][2]["result"]).overall_score == 100


async def test_an_assessment_without_any_answer_fails_and_is_retried_twice(
    servers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_PAUSE", 0)
    servers(response_time=ConnectionRefusedError("Connection refused"))
    sent = Sent()

    await Assessor(sent).carry_out(order(LOCAL))

    attempt = ["start", "progress", "fail"]
    assert sent.types == ["create", *attempt, "retry", *attempt, "retry", *attempt]
    assert sent.commands[-1][2] == {"error": "redis at 127.0.0.1:6379: Connection refused"}


async def test_whoever_asks_cancels_when_no_answer_comes(servers: Callable[..., None]) -> None:
    servers(response_time=asyncio.Event().wait)
    sent = Sent()

    await Assessor(sent).carry_out(order(LOCAL, patience=0.01))

    assert sent.types == ["create", "start", "cancel"]
    assert sent.commands[-1][2] == {"reason": "x gave no answer within 0.01 s"}


async def test_nothing_stays_in_processing_when_the_assessor_is_stopped(servers: Callable[..., None]) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    servers(response_time=hang)
    sent = Sent()
    work = asyncio.create_task(Assessor(sent).work([order(LOCAL)]))
    await asyncio.wait_for(begun.wait(), 10)

    work.cancel()
    await asyncio.wait([work], timeout=10)

    assert work.cancelled()
    assert sent.types == ["create", "start", "cancel"]


def test_a_round_of_orders_looks_at_every_server_alone_and_at_all_together() -> None:
    unused = replace(LOCAL, name="unused-port")

    asked = orders([LOCAL, REMOTE], [unused])

    seen = {(one.type.value, *(target.name for target in one.targets)) for one in asked}
    alone = {(kind, name) for kind in ("health", "security") for name in ("redis", "postgres")}
    assert seen == alone | {("compliance", "redis", "postgres"), ("health", "unused-port")}


def test_a_request_is_one_of_the_contract() -> None:
    for one in orders([LOCAL, REMOTE], [LOCAL]):
        request = AssessmentRequest.model_validate(one.request())

        assert request.options.timeout == one.patience * 1000
        assert request.options.server_filter == [target.name for target in one.targets]
