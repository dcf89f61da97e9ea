"""The audit service hears of every event, in order, whatever it answers and whoever stops in between."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr
from tests.harness.receivers import Receiver, Script, Sent, answering, receiving, well
from tests.harness.waiting import eventually
from typer.testing import CliRunner, Result

from assessmentstore.cli import app
from assessmentstore.outward import audit, consumer
from assessmentstore.outward.audit import forwarding
from assessmentstore.services.processes import free_ports
from assessmentstore.settings import Settings
from assessmentstore.store.audit_letters import AuditLetters
from assessmentstore.store.postgres import open_pools

Event = dict[str, Any]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_CHUNK", 5)
    monkeypatch.setattr(audit, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(audit, "_LONGEST_PAUSE_SECONDS", 0.1)


def event(key: str, version: int) -> Event:
    told = {"assessmentId": key, "version": version, "type": "assessment.progress", "userId": "ann"}
    return told | {"occurredAt": "2026-01-31T12:00:00Z", "progress": version}


def lives(count: int, versions: int) -> list[Event]:
    """Events of some assessments, mixed."""
    return [event(f"a{number}", version) for version in range(1, versions + 1) for number in range(count)]


async def publish(settings: Settings, events: Sequence[Event]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap) as producer:
        for told in events:
            await producer.send(settings.events_topic, orjson.dumps(told), key=told["assessmentId"].encode())
        await producer.flush()


@asynccontextmanager
async def forwarder(settings: Settings, url: str) -> AsyncIterator[AuditLetters]:
    chosen = settings.model_copy(update={"audit_url": url, "audit_api_key": SecretStr("the key")})
    async with open_pools(chosen, application="test") as pools:
        letters = AuditLetters(pools.write)
        async with forwarding(chosen, letters):
            yield letters


def ids(sent: Sequence[Sent]) -> set[str]:
    return {one.body["id"] for one in sent}


def names(events: Sequence[Event]) -> set[str]:
    return {f"{told['assessmentId']}:{told['version']}" for told in events}


def assert_in_order(sent: Sequence[Sent]) -> None:
    """Those of an assessment were taken in order, but for what was sent again."""
    versions = defaultdict(list)
    for one in sent:
        versions[one.body["details"]["assessmentId"]].append(one.body["details"]["data"]["version"])
    for key, found in versions.items():
        assert list(dict.fromkeys(found)) == sorted(set(found)), key


async def all_taken(receiver: Receiver, wanted: set[str]) -> None:
    async def probe() -> bool:
        return wanted <= ids(receiver.taken)

    await eventually(probe, "every event with the audit service")


def now_and_then(status: int, **headers: str) -> Script:
    """Refuse every third record the first two times."""
    refuse = answering(status, **headers)

    async def script(sent: Sent) -> web.StreamResponse:
        wanted = sent.body["details"]["data"]["version"] % 3 == 0 and sent.before < 2
        return await (refuse if wanted else well)(sent)

    return script


async def close_the_door(_sent: Sent) -> web.StreamResponse:
    raise ConnectionResetError


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500, 503])
async def test_what_may_succeed_later_is_sent_until_it_does(settings: Settings, status: int) -> None:
    events = lives(6, 6)
    async with receiving(Receiver(now_and_then(status, Location="/elsewhere", Retry_After="0"))) as service:
        await publish(settings, events)
        async with forwarder(settings, service.url) as letters:
            await all_taken(service, names(events))
            assert await letters.open(0, 10) == []

    assert len(service.sent) > len(events)
    assert {one.headers["authorization"] for one in service.sent} == {"Bearer the key"}
    assert_in_order(service.taken)


async def test_a_service_that_is_down_at_first_gets_everything_from_the_beginning(settings: Settings) -> None:
    events, (port,) = lives(3, 5), free_ports(1, among=range(20_000, 24_000))
    await publish(settings, events)
    async with forwarder(settings, f"http://127.0.0.1:{port}/hook"):
        async with receiving(port=port) as service:
            await all_taken(service, names(events))
        more = [event("late", version) for version in (1, 2, 3)]
        await publish(settings, more)
        async with receiving(port=port) as again:
            await all_taken(again, names(more))

    assert_in_order(service.taken)
    assert ids(again.taken) == names(more), "what was acknowledged is not sent again"


async def test_a_poisoned_record_is_a_dead_letter_and_the_others_go_on(settings: Settings) -> None:
    events = lives(4, 4)

    async def script(sent: Sent) -> web.StreamResponse:
        return await (answering(422) if sent.body["id"] == "a1:2" else well)(sent)

    async with receiving(Receiver(script)) as service:
        await publish(settings, events)
        async with forwarder(settings, service.url) as letters:
            await all_taken(service, names(events) - {"a1:2"})
            (letter,) = await letters.open(0, 10)

    assert (letter.event_id, letter.reason) == ("a1:2", "422: as the script says")
    assert orjson.loads(letter.record)["details"]["data"] == event("a1", 2)
    assert_in_order(service.taken)


@pytest.mark.parametrize("status", [403, 500])
async def test_a_record_that_fails_for_ever_while_others_are_taken_is_a_dead_letter(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(audit, "_ALONE_SECONDS", 0.2)
    events, others = lives(2, 3), list[Event]()

    async def script(sent: Sent) -> web.StreamResponse:
        return await (answering(status) if sent.body["id"] == "a1:2" else well)(sent)

    async with receiving(Receiver(script)) as service:
        await publish(settings, events)
        async with forwarder(settings, service.url) as letters:

            async def probe() -> bool:
                others.append(event(f"b{len(others)}", 1))
                await publish(settings, others[-1:])
                return bool(await letters.open(0, 10))

            await eventually(probe, "the dead letter")
            (letter,) = await letters.open(0, 10)
            await all_taken(service, names([*events, *others]) - {"a1:2"})

    assert (letter.event_id, letter.reason) == ("a1:2", f"{status}: as the script says")
    assert sum(sent.body["id"] == "a1:2" for sent in service.sent) > audit._ALONE
    assert_in_order(service.taken)


async def test_what_is_no_event_is_a_dead_letter_too(settings: Settings) -> None:
    async with receiving() as service:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap) as producer:
            await producer.send_and_wait(settings.events_topic, b"no\x00event", partition=0)
        await publish(settings, lives(4, 1))
        async with forwarder(settings, service.url) as letters:
            await all_taken(service, names(lives(4, 1)))
            letter = await eventually(lambda: letters.open(0, 10), "the dead letter")

    assert (letter[0].event_id, letter[0].record) == ("0@0", "noevent")


@pytest.mark.parametrize("trouble", [close_the_door, answering(500)])
async def test_a_restart_in_the_middle_loses_nothing_and_keeps_the_ids(settings: Settings, trouble: Script) -> None:
    events = lives(5, 8)

    async def then_trouble(sent: Sent) -> web.StreamResponse:
        return await (trouble if len(service.taken) >= 13 else well)(sent)

    async with receiving(Receiver(then_trouble)) as service:
        await publish(settings, events)
        async with forwarder(settings, service.url):

            async def probe() -> bool:
                return len(service.taken) >= 13 and len(service.sent) > 20

            await eventually(probe, "trouble")
        service.script = well
        async with forwarder(settings, service.url):
            await all_taken(service, names(events))

    assert ids(service.taken) == names(events), "one id for each event, however often it was sent"
    assert_in_order(service.taken)


async def test_two_members_share_the_partitions(settings: Settings) -> None:
    events = lives(12, 3)
    async with receiving() as service, forwarder(settings, service.url), forwarder(settings, service.url):
        await publish(settings, events)
        await all_taken(service, names(events))

    assert_in_order(service.taken)


async def test_a_dead_letter_is_kept_once_until_somebody_sees_to_it(settings: Settings) -> None:
    async with open_pools(settings, application="test") as pools:
        letters = AuditLetters(pools.write)
        await letters.put("a:1", b"{}", "400")
        await letters.put("a:1", b"{}", "400")
        (letter,) = await letters.open(0, 10)

        assert await letters.close(letter.id, "ann", "a test") is True
        assert await letters.close(letter.id, "bob") is False
        assert await letters.open(0, 10) == []
        await letters.put("a:1", b"{}", "400")
        assert len(await letters.open(0, 10)) == 1


async def test_an_operator_sends_a_refused_record_again_or_drops_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(sent: Sent) -> web.StreamResponse:
        return await (answering(422) if sent.body["id"] == "bad" else well)(sent)

    async with open_pools(settings, application="test") as pools, receiving(Receiver(script)) as service:
        letters = AuditLetters(pools.write)
        for name in ("mended", "bad", "known"):
            await letters.put(name, orjson.dumps({"id": name}), "422")
        monkeypatch.setattr(
            Settings, "load", classmethod(lambda _: settings.model_copy(update={"audit_url": service.url}))
        )

        listed = await command("list")
        again = await command("redrive", "--all", "--by", "ann")
        left = await command("list")
        (bad,) = [json.loads(line) for line in left.stdout.splitlines()]
        dropped = await command("drop", str(bad["id"]), "--because", "entered by hand")
        rows = await pools.write.fetch("SELECT event_id, closed_by, drop_reason FROM audit_dead_letters ORDER BY id")

    assert [json.loads(line)["record"] for line in listed.stdout.splitlines()] == [
        {"id": "mended"}, {"id": "bad"}, {"id": "known"}
    ]  # fmt: skip
    assert again.exit_code == 1
    assert "bad: not taken: 422: as the script says" in again.stdout
    assert (bad["eventId"], dropped.exit_code) == ("bad", 0)
    assert [row["drop_reason"] for row in rows] == [None, "entered by hand", None]
    assert rows[0]["closed_by"] == "ann"


async def command(*arguments: str) -> Result:
    """Run a command, which has a loop of its own."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["audit", "letters", *arguments]))
