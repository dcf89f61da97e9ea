"""The executor without services: whom it gives work to, and what it makes of what it is told."""

# ruff: noqa: ARG002 - the fakes have the parameters of what they stand in for

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from tests.harness.waiting import eventually

from assessmentstore.executor.answers import Answer
from assessmentstore.executor.attempt import Attempt
from assessmentstore.executor.executor import Executor
from assessmentstore.executor.faults import ComplianceError, FaultKind
from assessmentstore.executor.runs import Tools
from assessmentstore.executor.sending import Commands
from assessmentstore.executor.server import ComplianceServer
from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.commands import CommandType
from assessmentstore.models.compliance import ComplianceReport
from assessmentstore.models.errors import UnavailableError
from assessmentstore.models.positions import Positions
from assessmentstore.store.encryption import NO_KEYS, KeyRing, generate
from assessmentstore.store.executions import Execution, ExecutionStore, Stage, Standing

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Topic:
    """Takes commands, but not always at the first attempt."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []
        self.trouble: list[UnavailableError] = []

    async def send(self, assessment_id: str, value: bytes) -> Positions:
        self.commands.append(orjson.loads(value))
        if self.trouble:
            raise self.trouble.pop()
        return Positions({})


class Server(ComplianceServer):
    """Answers with the next of its reports, or raises it."""

    def __init__(self, url: str, *answers: dict[str, Any] | ComplianceError | None, concurrency: int = 3) -> None:
        super().__init__(url, None, concurrency=concurrency, timeout=1)  # type: ignore[arg-type]
        self.answers = [*answers]
        self.ordered = 0
        self.left: list[str] = []

    async def order(self, *_: Any) -> Answer:
        self.ordered += 1
        answer = self._next()
        assert answer is not None
        return answer

    async def status(self, *_: Any) -> Answer | None:
        return self._next()

    async def forget(self, assessment_id: str, *_: Any) -> None:
        self.left.append(assessment_id)

    def _next(self) -> Answer | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, ComplianceError):
            raise answer
        return None if answer is None else Answer(ComplianceReport.model_validate({"assessmentId": "a"} | answer), 0.0)


def standing(**members: Any) -> Standing:
    known: dict[str, Any] = {
        "started": True,
        "state": AssessmentState.PROCESSING,
        "retry_count": 0,
        "version": 2,
        "progress": 0,
        "message": None,
        "changed_at": datetime.now(UTC),
        "request": {"timeout": 60},
    }
    return Standing(Execution("executor:1", "a", 0, 0, "http://c1", TRACE), **(known | members))


def attempt(server: Server, topic: Topic, *, keys: KeyRing = NO_KEYS, **members: Any) -> Attempt:
    return Attempt(standing(**members), server, Commands(topic, keys), keys)


async def test_progress_is_told_once_and_numbered_by_the_version_that_it_makes() -> None:
    topic = Topic()
    half = {"status": "processing", "progress": 50, "message": "half"}
    server = Server(
        "http://c1",
        {"status": "pending"},
        half,
        half,
        half | {"progress": 40},
        {"status": "completed"} | {"result": {}},
    )

    ending = await attempt(server, topic).carry_out()

    assert (ending.kind, ending.heard) == (CommandType.COMPLETE, True)
    told = [(command["id"], command["data"]) for command in topic.commands]
    assert told == [
        ("executor:1:progress:3", {"progress": 50, "message": "half", "attempt": 0}),
        ("executor:1:progress:4", {"progress": 40, "message": "half", "attempt": 0}),
    ]
    assert {(command["userid"], command["traceparent"]) for command in topic.commands} == {("executor", TRACE)}


async def test_what_was_told_before_is_not_told_again() -> None:
    topic = Topic()
    half = {"status": "processing", "progress": 50, "message": "half"}

    await attempt(
        Server("s", half, {"status": "failed", "error": "no"}), topic, progress=50, message="half"
    ).carry_out()

    assert topic.commands == []


async def test_a_command_is_sent_under_its_id_until_kafka_has_it() -> None:
    topic = Topic()
    topic.trouble = [UnavailableError("Kafka does not answer")] * 2

    await Commands(topic, NO_KEYS).send(CommandType.START, standing().execution, "s-1", {})

    assert [command["id"] for command in topic.commands] == ["s-1"] * 3


async def test_a_server_that_forgot_the_attempt_gets_it_again() -> None:
    server = Server("s", {"status": "processing"}, None, {"status": "completed", "result": {}})

    ending = await attempt(server, Topic()).carry_out()

    assert (ending.kind, server.ordered) == (CommandType.COMPLETE, 2)


async def test_time_runs_from_the_last_change_and_not_from_the_start_of_a_worker() -> None:
    server = Server("s", {"status": "processing"})

    ending = await attempt(server, Topic(), changed_at=datetime.now(UTC) - timedelta(hours=1)).carry_out()

    assert not ending.heard
    assert ending.data["error"].startswith("timed_out: ")


async def test_the_last_question_comes_before_the_time_is_over() -> None:
    class Busy(Server):
        async def order(self, *_: Any) -> Answer:
            return Answer((await super().order()).report, 60.0)

    server = Busy("s", {"status": "processing"}, {"status": "completed", "result": {}})

    ending = await attempt(server, Topic(), request={"timeout": 5}).carry_out()

    assert ending.kind is CommandType.COMPLETE


async def test_the_last_fault_is_told_and_not_that_the_server_was_left_alone_for_it() -> None:
    faults = [
        ComplianceError(FaultKind.SERVER_ERROR, "s", "it answers 500"),
        ComplianceError(FaultKind.LEFT_ALONE, "s", "it is left alone", retry_after=0),
    ]

    ending = await attempt(Server("s", *faults), Topic(), request={"timeout": 1}).carry_out()

    assert ending.data["error"] == "server_error: it answers 500, for all of its 1 s (compliance server s)"


async def test_a_request_that_cannot_be_opened_fails_and_says_so() -> None:
    sealed = KeyRing.parse(generate("k1")).seal("a", {"timeout": 60}, {"timeout": 60})

    ending = await attempt(Server("s", {"status": "pending"}), Topic(), request=sealed).carry_out()

    assert ending.data["error"].startswith("unreadable: ")
    assert "k1" in ending.data["error"]


class Store(ExecutionStore):
    """Takes on what is asked for, and remembers for which servers."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.asked: list[list[str]] = []
        self.rows: dict[str, Standing] = {}
        self.ended: list[str] = []

    async def begin(self, partitions: Collection[int], servers: Sequence[str]) -> int:
        self.asked.append([*servers])
        return 0

    async def open(self, partitions: Collection[int], but: Collection[str]) -> list[Standing]:
        there = (row for key, row in self.rows.items() if key not in but)
        return [row for row in there if row.execution.partition in partitions]

    async def standing(self, execution_id: str) -> Standing | None:
        return self.rows.get(execution_id)

    async def end(self, execution_id: str) -> None:
        del self.rows[execution_id]
        self.ended.append(execution_id)

    async def count_pending(self) -> int:
        return 0


class Scene:
    """An executor at work on partition 0."""

    def __init__(self, *servers: Server) -> None:
        self.store, self.topic = Store(), Topic()
        self.given = {0: True}
        self.executor = Executor(servers, lambda: self.given, Tools(self.store, Commands(self.topic, NO_KEYS), NO_KEYS))


@pytest.fixture
async def working() -> AsyncIterator[Callable[..., Scene]]:
    tasks = []

    def begin(*servers: Server, rows: Sequence[Standing] = ()) -> Scene:
        scene = Scene(*servers)
        scene.store.rows = {row.execution.id: row for row in rows}
        tasks.append(asyncio.create_task(scene.executor.run()))
        return scene

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def until(probe: Callable[[], Any], what: str) -> None:
    async def ask() -> Any:
        return probe()

    await eventually(ask, what)


async def test_the_least_busy_server_is_first_and_one_that_is_left_alone_gets_nothing(
    working: Callable[..., Scene],
) -> None:
    one, two, away = (Server(f"http://c{number}", {"status": "processing"}) for number in (1, 2, 3))
    away.breaker.failed(for_good=True)

    scene = working(one, two, away, rows=[standing()])

    await until(lambda: scene.store.asked, "a round")
    assert scene.store.asked[0] == ["http://c2", "http://c1", "http://c2", "http://c1", "http://c2"]


async def test_a_cancelled_assessment_is_broken_off_and_the_server_is_told(working: Callable[..., Scene]) -> None:
    server = Server("http://c1", {"status": "processing"})
    scene = working(server, rows=[standing()])
    await until(lambda: server.ordered, "the order")

    scene.store.rows["executor:1"] = standing(state=AssessmentState.CANCELLED, version=3)
    scene.executor.notice({"a": record(AssessmentState.CANCELLED)})

    await until(lambda: scene.store.ended == ["executor:1"], "the end of the execution")
    assert server.left == ["a"]
    assert scene.topic.commands == []


async def test_what_is_lost_with_its_partition_is_left_to_others(working: Callable[..., Scene]) -> None:
    server = Server("http://c1", {"status": "processing"})
    scene = working(server, rows=[standing()])
    await until(lambda: server.ordered, "the order")

    scene.given.clear()
    await until(lambda: len(scene.executor._runs) == 0, "the run let go")
    scene.given[0] = True

    await until(lambda: server.ordered == 2, "the order again")
    assert scene.store.ended == []
    assert server.left == []


async def test_a_lane_that_claims_its_partition_again_keeps_what_it_has(working: Callable[..., Scene]) -> None:
    server = Server("http://c1", {"status": "processing"})
    scene = working(server, rows=[standing()])
    await until(lambda: server.ordered, "the order")

    rounds = len(scene.store.asked)
    scene.given |= {0: False, 1: True}
    scene.executor.notice({"b": record(AssessmentState.PENDING)})
    await until(lambda: len(scene.store.asked) > rounds, "the next round")

    assert len(scene.executor._runs) == 1
    assert server.ordered == 1


async def test_an_attempt_is_started_once_and_ended_once(working: Callable[..., Scene]) -> None:
    server = Server("http://c1", {"status": "completed", "result": {"overallScore": 1}})
    pending = standing(state=AssessmentState.PENDING, started=False, version=1)
    assert pending.stage is Stage.TO_START
    scene = working(server, rows=[pending])
    await until(lambda: scene.topic.commands, "the start")

    scene.store.rows["executor:1"] = standing()
    scene.executor.notice({"a": record(AssessmentState.PROCESSING)})

    await until(lambda: scene.store.ended == ["executor:1"], "the end of the execution")
    assert [(command["id"], command["type"]) for command in scene.topic.commands] == [
        ("executor:1:start", "assessment.start"),
        ("executor:1:end", "assessment.complete"),
    ]
    assert server.left == []


def record(state: AssessmentState) -> AssessmentRecord:
    now = datetime.now(UTC)
    return AssessmentRecord(assessment_id="a", state=state, version=3, created_at=now, updated_at=now, request_data={})
