"""A command from its check to its outcome, over fakes of Kafka and Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.harness.waiting import DEADLINE

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.commands import Command, CommandType
from assessmentstore.models.envelope import decode_command
from assessmentstore.models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from assessmentstore.models.positions import Positions
from assessmentstore.store.replies import Outcome, reply_message
from assessmentstore.web import commands as commands_module
from assessmentstore.web.commands import Applied, Commands
from assessmentstore.web.outgoing import Caller, Outgoing, prepare
from assessmentstore.web.publisher import NotSentError

NOW = datetime.now(UTC)
STATE = AssessmentRecord(
    assessment_id="a-1", state=AssessmentState.PROCESSING, version=2, created_at=NOW, updated_at=NOW, request_data={}
)
REFUSAL = Rejection.not_found("a-1")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class FakeKafka:
    """Takes a command and does something with it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.was_sent = asyncio.Event()
        self.then: Callable[[], Awaitable[None]] | None = None

    async def send(self, assessment_id: str, value: bytes) -> Positions:
        self.sent.append((assessment_id, value))
        self.was_sent.set()
        if self.then:
            await self.then()
        return Positions.after(0, len(self.sent) - 1)


class FakeOutcomes:
    """What Postgres knows of commands."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, bytes], Outcome] = {}
        self.asked = 0
        self.was_asked = asyncio.Event()
        self.is_away = False

    async def get(self, command_id: str, fingerprint: bytes) -> Outcome | None:
        self.asked += 1
        self.was_asked.set()
        if self.is_away:
            raise UnavailableError("Postgres does not answer")
        return self.known.get((command_id, fingerprint))


class Setup:
    """The parts together, and the worker's side of the conversation."""

    def __init__(self, timeout: float = 5) -> None:
        self.kafka, self.outcomes = FakeKafka(), FakeOutcomes()
        self.commands = Commands(self.kafka, self.outcomes, timeout=timeout)

    def prepare(self, data: dict[str, Any] | None = None, **changes: Any) -> Outgoing:
        values: dict[str, Any] = {"command_id": "c-1", "caller": Caller("ann", TRACE, "10.0.0.1", "curl")} | changes
        values["reply_to"] = self.commands.instance
        kind = values.pop("kind", CommandType.PROGRESS)
        data = {"progress": 50} if data is None else data
        return prepare(kind, values.pop("assessment_id", "a-1"), data, **values)

    def reply(self, command: Outgoing, outcome: Outcome | None) -> None:
        value = outcome.to_json() if isinstance(outcome, AssessmentRecord) else outcome
        self.commands.replied(reply_message(command.header, value)[1])

    def keep(self, command: Outgoing, outcome: Outcome) -> None:
        self.outcomes.known[command.header.id, command.header.fingerprint] = outcome


async def applied(waiting: Awaitable[Applied]) -> Applied:
    async with asyncio.timeout(DEADLINE):
        return await waiting


async def started(setup: Setup, command: Outgoing) -> asyncio.Task[Applied]:
    """The task that applies a command, once the command was sent."""
    setup.kafka.was_sent.clear()
    task = asyncio.create_task(setup.commands.apply(command))
    async with asyncio.timeout(DEADLINE):
        await setup.kafka.was_sent.wait()
    return task


def test_a_prepared_command_says_who_asks_and_where_to_reply() -> None:
    setup = Setup()

    value = setup.prepare(expected_version=3).value

    command = decode_command(b"a-1", value, [])
    assert isinstance(command, Command)
    assert (command.header.id, command.header.user_id, command.expected_version) == ("c-1", "ann", 3)
    assert (command.header.ip_address, command.header.user_agent) == ("10.0.0.1", "curl")
    assert (command.header.traceparent, command.header.reply_to) == (TRACE, setup.commands.instance)


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"progress": 101}}, "Progress must be between 0 and 100"),
        ({"data": {"progress": "50"}}, "/progress"),
        ({"data": {}}, "/progress"),
        ({"kind": CommandType.CREATE, "data": {"options": {}}}, "Assessment type is required"),
        ({"kind": CommandType.CREATE, "data": {"assessmentType": "health"}}, "Assessment options are required"),
        ({"kind": CommandType.FAIL, "data": {"error": "a\x00b"}}, "null byte"),
        ({"kind": CommandType.COMPLETE, "data": {"result": {"n": float("inf")}}}, "out of the range"),
        ({"kind": CommandType.COMPLETE, "data": {"result": {"n": 2**63}}}, "out of the range"),
        ({"kind": CommandType.COMPLETE, "data": {"result": nested(500)}}, "nested deeper"),
        ({"expected_version": 0}, "expectedversion"),
        ({"assessment_id": "x" * 256}, "the limit is 255"),
        ({"assessment_id": "a\x00b"}, "null byte"),
    ],
)
def test_what_a_worker_would_refuse_is_refused_before_it_is_sent(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RejectedError, match=message) as caught:
        Setup().prepare(**changes)

    assert caught.value.rejection.code is ErrorCode.VALIDATION_ERROR


def test_a_command_over_the_limit_is_too_large() -> None:
    with pytest.raises(RejectedError) as caught:
        Setup().prepare({"error": "x" * 1024 * 1024}, kind=CommandType.FAIL)

    assert caught.value.rejection.code is ErrorCode.PAYLOAD_TOO_LARGE


@pytest.mark.parametrize("outcome", [STATE, REFUSAL])
async def test_a_reply_is_the_outcome(outcome: Outcome) -> None:
    setup = Setup()
    setup.commands.subscribed()
    command = setup.prepare()
    task = await started(setup, command)

    setup.reply(command, outcome)

    assert await applied(task) == Applied(outcome, replayed=False)
    assert setup.outcomes.asked == 0


async def test_a_reply_that_overtakes_kafkas_confirmation_is_not_lost() -> None:
    setup = Setup()
    setup.commands.subscribed()
    command = setup.prepare()

    async def reply_first() -> None:
        setup.reply(command, STATE)

    setup.kafka.then = reply_first

    assert (await applied(setup.commands.apply(command))).outcome == STATE


async def test_a_duplicate_gets_the_first_answer() -> None:
    setup = Setup()
    setup.commands.subscribed()
    command = setup.prepare()
    setup.keep(command, STATE)
    task = await started(setup, command)

    setup.reply(command, None)

    assert await applied(task) == Applied(STATE, replayed=True)


async def test_without_redis_the_outcome_is_looked_up() -> None:
    setup = Setup()
    command = setup.prepare()
    task = await started(setup, command)
    async with asyncio.timeout(DEADLINE):
        await setup.outcomes.was_asked.wait()

    setup.keep(command, REFUSAL)

    assert (await applied(task)).outcome == REFUSAL


async def test_what_was_missed_while_redis_was_away_is_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands_module, "_SLOW_PAUSE", 3600)
    setup = Setup()
    setup.commands.subscribed()
    command = setup.prepare()
    task = await started(setup, command)
    setup.keep(command, STATE)

    setup.commands.subscribed()

    assert (await applied(task)).outcome == STATE


async def test_two_contents_under_one_key_get_an_answer_each() -> None:
    setup = Setup()
    setup.commands.subscribed()
    first, second = setup.prepare({"progress": 1}), setup.prepare({"progress": 2})
    tasks = [await started(setup, command) for command in (first, second, first)]

    setup.reply(first, STATE)
    setup.reply(second, Rejection.idempotency_mismatch("c-1"))

    outcomes = [(await applied(task)).outcome for task in tasks]
    assert outcomes == [STATE, Rejection.idempotency_mismatch("c-1"), STATE]


async def test_no_outcome_in_time_is_told_as_such_with_the_command_id() -> None:
    setup = Setup(timeout=0.05)
    setup.outcomes.is_away = True

    with pytest.raises(RejectedError, match="may still be applied") as caught:
        await setup.commands.apply(setup.prepare())

    assert caught.value.rejection.code is ErrorCode.SERVICE_UNAVAILABLE
    assert caught.value.rejection.details == {"commandId": "c-1"}


async def test_a_command_that_kafka_does_not_have_is_told_to_be_sent_again() -> None:
    setup = Setup()

    async def refuse() -> None:
        raise NotSentError("Kafka does not answer")

    setup.kafka.then = refuse

    with pytest.raises(RejectedError, match="was not taken") as caught:
        await setup.commands.apply(setup.prepare())
    assert caught.value.rejection.code is ErrorCode.SERVICE_UNAVAILABLE


async def test_a_confirmation_that_never_comes_ends_in_time() -> None:
    setup = Setup(timeout=0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    setup.kafka.then = hang

    for road in (setup.commands.publish, setup.commands.apply):
        with pytest.raises(RejectedError, match=r"did not confirm the command within .* may still be applied"):
            await road(setup.prepare())
