"""The sample customers: what they ask for, and when they lose patience."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tests.harness.waiting import eventually

from assessmentstore.dev.customers import Customers, Order, orders
from assessmentstore.models.assessment import AssessmentRequest, AssessmentType
from assessmentstore.models.base import JsonObject
from assessmentstore.models.commands import CommandType


@dataclass
class Sent:
    """Remembers the commands."""

    commands: list[tuple[CommandType, str, JsonObject]] = field(default_factory=list)

    async def __call__(self, command_type: CommandType, assessment_id: str, data: JsonObject) -> None:
        self.commands.append((command_type, assessment_id, data))

    @property
    def types(self) -> list[str]:
        return [command_type.removeprefix("assessment.") for command_type, *_ in self.commands]


def order(patience: float) -> Order:
    return Order(type=AssessmentType.HEALTH, title="x", servers=("x",), patience=patience)


async def test_whoever_asks_cancels_what_is_not_done_in_time() -> None:
    sent = Sent()

    await Customers(sent, lambda _: True).place(order(0.01))

    assert sent.types == ["create", "cancel"]
    assert len({assessment_id for _, assessment_id, _ in sent.commands}) == 1
    assert sent.commands[-1][2] == {"reason": "x was not assessed within 0.01 s"}


async def test_nobody_cancels_what_is_done() -> None:
    sent = Sent()

    await Customers(sent, lambda _: False).place(order(0.01))

    assert sent.types == ["create"]


async def test_nothing_stays_open_when_the_customers_leave() -> None:
    sent = Sent()
    work = asyncio.create_task(Customers(sent, lambda _: True).come([order(1000)]))

    async def two_came() -> bool:
        return sent.types.count("create") >= 2

    await eventually(two_came, "two customers came")
    created = sent.types.count("create")
    work.cancel()
    await asyncio.wait([work], timeout=60)

    assert work.cancelled()
    assert sent.types == ["create"] * created + ["cancel"] * created


def test_a_round_of_orders_is_about_every_server_alone_and_all_together() -> None:
    asked = orders(["redis", "web"], ["unused-port"])

    seen = {(one.type.value, *one.servers) for one in asked}
    alone = {(kind, name) for kind in ("health", "security") for name in ("redis", "web")}
    assert seen == alone | {("compliance", "redis", "web"), ("health", "unused-port")}


def test_a_request_is_one_of_the_contract() -> None:
    for one in orders(["redis", "web"], ["unused-port"]):
        request = AssessmentRequest.model_validate(one.request())

        assert request.options.server_filter == list(one.servers)
