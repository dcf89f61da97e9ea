"""Many commands from their send to their outcomes, over fakes of Kafka and Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

import pytest
from tests.harness.waiting import DEADLINE

from assessmentstore.models.commands import CommandType
from assessmentstore.models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from assessmentstore.models.positions import Positions
from assessmentstore.store.batches import Settled
from assessmentstore.store.replies import reply_message
from assessmentstore.web import bulk as bulk_module
from assessmentstore.web.bulk import REPLIES, BulkCommands
from assessmentstore.web.commands import Commands
from assessmentstore.web.outgoing import Caller, Outgoing, prepare
from assessmentstore.web.publisher import NotSentError

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class FakeKafka:
    """Takes commands."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.error: UnavailableError | None = None

    async def send(self, assessment_id: str, value: bytes) -> Positions:  # noqa: ARG002
        raise AssertionError("a batch is sent together")

    async def send_all(self, commands: Iterable[tuple[str, bytes]]) -> Positions:
        self.sent.extend(commands)
        if self.error:
            raise self.error
        return Positions({0: len(self.sent)})


class FakePostgres:
    """What is known of commands."""

    def __init__(self) -> None:
        self.known: dict[str, Settled] = {}
        self.asked: list[int] = []
        self.was_asked = asyncio.Event()
        self.is_away = False

    async def get(self, command_id: str, fingerprint: bytes) -> None:  # noqa: ARG002
        raise AssertionError("a batch is asked for together")

    async def outcomes(self, expected: Mapping[str, bytes]) -> dict[str, Settled]:
        self.asked.append(len(expected))
        self.was_asked.set()
        if self.is_away:
            raise UnavailableError("Postgres does not answer")
        return {key: self.known[key] for key in expected if key in self.known}


class Setup:
    def __init__(self, timeout: float = 5) -> None:
        self.kafka, self.postgres = FakeKafka(), FakePostgres()
        self.commands = Commands(self.kafka, self.postgres, timeout=timeout)
        self.bulk = BulkCommands(self.kafka, self.postgres, self.commands, timeout=timeout)

    def batch(self, count: int) -> list[Outgoing]:
        return [
            prepare(
                CommandType.START,
                f"a-{number}",
                {},
                command_id=f"c-{number}",
                caller=Caller("ann", TRACE, None, None),
                reply_to=self.bulk.reply_to(number, count),
            )
            for number in range(count)
        ]

    async def apply(self, batch: list[Outgoing]) -> list[Settled]:
        async def commands() -> AsyncIterator[Outgoing]:
            for command in batch:
                yield command

        return await self.bulk.apply_all(commands(), count=len(batch), key="k")

    def settle(self, batch: list[Outgoing], outcome: Settled = 2) -> None:
        self.postgres.known |= {item.header.id: outcome for item in batch}


async def test_outcomes_come_in_the_order_of_the_commands() -> None:
    setup = Setup()
    batch = setup.batch(3)
    setup.settle(batch[::2])
    setup.settle(batch[1:2], refusal := Rejection.not_found("a-1"))

    assert await setup.apply(batch) == [2, refusal, 2]
    assert [assessment_id for assessment_id, _ in setup.kafka.sent] == ["a-0", "a-1", "a-2"]


async def test_nothing_to_send_is_answered_at_once() -> None:
    setup = Setup()

    assert await setup.apply([]) == []
    assert setup.postgres.asked == []


async def test_only_the_last_commands_ask_for_replies() -> None:
    batch = Setup().batch(REPLIES + 10)

    assert [item.header.reply_to is None for item in batch] == [True] * 10 + [False] * REPLIES


async def test_a_reply_is_followed_by_one_query_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "_SLOW_PAUSE", 60)
    setup = Setup()
    setup.commands.subscribed()
    batch = setup.batch(200)
    applying = asyncio.create_task(setup.apply(batch))
    await asyncio.sleep(0)
    assert len(setup.kafka.sent) == 200
    setup.settle(batch)

    for item in batch[-REPLIES:]:
        setup.commands.replied(reply_message(item.header, None)[1])

    assert await asyncio.wait_for(applying, DEADLINE) == [2] * 200
    assert setup.postgres.asked == [200]


async def test_lost_replies_are_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "_SLOW_PAUSE", 0.01)
    setup = Setup()
    setup.commands.subscribed()
    batch = setup.batch(2)
    setup.settle(batch)

    assert await asyncio.wait_for(setup.apply(batch), DEADLINE) == [2, 2]


async def test_an_unknown_outcome_is_told_as_unknown_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "_COMMANDS_A_SECOND", 10**9)
    setup = Setup(timeout=2.0)
    batch = setup.batch(3)
    setup.settle(batch[:2])

    with pytest.raises(RejectedError, match=r"Of 3 commands 2 are known.*Idempotency-Key k$") as unknown:
        await setup.apply(batch)

    assert unknown.value.rejection.code is ErrorCode.SERVICE_UNAVAILABLE
    assert unknown.value.rejection.details == {"idempotencyKey": "k"}


@pytest.mark.parametrize("error", [NotSentError("Kafka is away"), UnavailableError("Kafka did not confirm")])
async def test_what_kafka_does_not_confirm_is_not_waited_for(error: UnavailableError) -> None:
    setup = Setup()
    setup.kafka.error = error

    with pytest.raises(RejectedError, match="send the same request again"):
        await setup.apply(setup.batch(2))

    assert setup.postgres.asked == []


async def test_a_postgres_that_is_away_for_a_while_is_asked_again() -> None:
    setup = Setup()
    setup.postgres.is_away = True
    batch = setup.batch(2)
    applying = asyncio.create_task(setup.apply(batch))
    await asyncio.wait_for(setup.postgres.was_asked.wait(), DEADLINE)

    setup.postgres.is_away = False
    setup.settle(batch)

    assert await asyncio.wait_for(applying, DEADLINE) == [2, 2]
