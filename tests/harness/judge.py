"""The judge of `assessmentstore.chaos`, as tests call him: on one installation, when its load has ended."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from assessmentstore.chaos.installation import Installation
from assessmentstore.chaos.messages import Message
from assessmentstore.chaos.model import expect
from assessmentstore.chaos.records import judge_records
from assessmentstore.chaos.topics import Place, TopicRecord, read_topic
from assessmentstore.chaos.world import read_world, settle

from .waiting import DEADLINE


async def judge(
    installation: Installation,
    *,
    sent: Mapping[Place, Message] | None = None,
    deadline: float = DEADLINE,
    overruled: Iterable[str] = (),
    redis: bool = True,
    lost: Mapping[int, Sequence[TopicRecord]] | None = None,
) -> list[str]:
    """Wait until all commands are applied and published, and say all that is wrong.

    Args:
        installation: whose load has ended.
        sent: what the broker acknowledged, to be found on the topic.
        deadline: seconds until what is not done counts as lost.
        overruled: assessments that were changed by plain SQL.
        redis: whether Redis is there.
        lost: commands of each partition that came before those that the topic still has.
    """
    unsettled = await settle(installation, deadline, redis=redis)
    world = await read_world(installation, redis=redis)
    for partition, records in (lost or {}).items():
        world.commands[partition] = [*records, *world.commands[partition]]
    expected = replace(expect(world.commands), overruled=frozenset(overruled))
    return [*unsettled, *judge_records(world, expected, sent)]


async def assert_exactly_once(installation: Installation, **options: Any) -> None:
    """Judge, and fail with all that was found."""
    violations = await judge(installation, **options)
    assert not violations, "\n".join(["violations:", *violations])


async def slowest_events(installation: Installation, began: Sequence[float]) -> list[float]:
    """The most seconds between a command and its event, for the commands of each stretch of time.

    Args:
        installation: whose load has ended.
        began: when each stretch began, in seconds since 1970; the last one goes to the end.
    """
    settings = installation.settings
    commands = await read_topic(settings, settings.commands_topic, settings.topic_partitions)
    events = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    accepted = expect(commands).of("accepted")
    sent = {outcome.command_id: outcome.record.timestamp for outcome in accepted}
    slowest = [0.0] * len(began)
    for record in (record for records in events.values() for record in records):
        at = sent[record.event["commandId"]]
        stretch = max(0, bisect(began, at / 1000) - 1)
        slowest[stretch] = max(slowest[stretch], (record.timestamp - at) / 1000)
    return slowest


async def settled(installation: Installation, *, deadline: float = DEADLINE, redis: bool = True) -> None:
    """Wait until every command is applied, published and reflected."""
    unsettled = await settle(installation, deadline, redis=redis)
    assert not unsettled, unsettled
