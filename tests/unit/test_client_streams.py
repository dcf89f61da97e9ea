"""Streams of events over many connections, and the handlers that they feed, against a server with prepared answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.harness.waiting import DEADLINE
from tests.unit.api_fake import FakeApi, event, free_port, refusal, serving, sse

from assessmentstore.client import AsyncClient, ClientError, DeliveryError, Reset, subscriptions
from assessmentstore.models.events import AssessmentEvent, EventType


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[AsyncClient]:
    async with serving(api) as url, AsyncClient(url, "some.jwt", patience=5) as client:
        yield client


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let handlers be called again at once."""
    monkeypatch.setattr(subscriptions, "_FIRST_PAUSE", 0.0)


def at(position: str, version: int) -> bytes:
    return sse(event(version), position)


async def test_a_stream_goes_on_where_it_was_cut_off(api: FakeApi, client: AsyncClient) -> None:
    whole, half = at("p.2", 2), at("p.3", 3)
    api.will_stream(b"id: p.1\n\n", whole, half[: len(half) // 2], then="cut")
    api.will_answer(refusal("SERVICE_UNAVAILABLE"), status=503, Retry_After="0")
    api.will_stream(half, b"id: p.9\n\n", then="end")
    api.will_stream(at("p.10", 4))
    api.answers.append(web.Response(status=204))

    stream = client.events(types=["assessment.progress"])
    seen = [(item.version, stream.last_event_id) async for item in stream if not isinstance(item, Reset)]

    assert [version for version, _ in seen] == [2, 3, 4]
    assert [asked.headers.get("Last-Event-ID") for asked in api.asked] == [None, "p.2", "p.2", "p.9", "p.10"]
    assert {(asked.path, *asked.query.items()) for asked in api.asked} == {("/events", ("type", "assessment.progress"))}


async def test_its_place_is_that_of_what_was_taken_from_it(api: FakeApi, client: AsyncClient) -> None:
    api.will_stream(at("p.1", 1) + at("p.2", 2) + b"id: p.5\n\n", then="stay")

    async with client.events() as stream:
        first, place = await anext(stream), stream.last_event_id
        second, later = await anext(stream), stream.last_event_id

    assert not isinstance(first, Reset)
    assert not isinstance(second, Reset)
    assert (first.version, place, second.version, later) == (1, "p.1", 2, "p.5")


async def test_a_stream_of_all_stands_when_its_block_begins(api: FakeApi, client: AsyncClient) -> None:
    api.will_stream(b"id: p.7\n", b"\n", then="stay")

    async with client.events() as stream:
        assert stream.last_event_id == "p.7"


async def test_a_stream_that_is_left_ends_quietly_with_its_loop(api: FakeApi, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever breaks out of the loop closes nothing: the generators come to their end with the event loop."""

    async def leave(url: str) -> int:
        async with AsyncClient(url, "some.jwt") as client:
            async for happened in client.events("a-1"):
                assert isinstance(happened, AssessmentEvent)
                return happened.version
        raise AssertionError("there was no event")

    api.will_stream(sse(event(1, "created", request={})), then="stay")
    async with serving(api) as url:
        assert await asyncio.to_thread(lambda: asyncio.run(leave(url))) == 1

    assert "asynchronous generator" not in caplog.text


async def test_lost_events_are_told(api: FakeApi, client: AsyncClient) -> None:
    api.will_stream(sse({"reason": "deleted", "position": "p.9"}, "p.9", "reset"), at("p.10", 2), then="stay")

    async with client.events(last_event_id="p.1") as stream:
        items = [await anext(stream), await anext(stream)]

    assert items[0] == Reset("deleted", "p.9")
    assert api.asked[0].headers["Last-Event-ID"] == "p.1"


@pytest.mark.parametrize("kind", ["completed", "cancelled"])
async def test_a_stream_of_one_ends_with_its_last_event(kind: str, api: FakeApi, client: AsyncClient) -> None:
    last = event(2, kind, result={}, durationMs=1, reason=None)
    api.will_stream(sse(event(1, "created", request={})), sse(last), then="stay")

    assert [getattr(item, "version", None) async for item in client.events("a-1")] == [1, 2]
    assert len(api.asked) == 1


async def test_a_stream_survives_a_restart_of_the_server() -> None:
    port, before, after = free_port(), FakeApi(), FakeApi()
    before.will_stream(at("p.1", 1), then="stay")
    after.will_stream(at("p.2", 2), then="stay")
    async with AsyncClient(f"http://127.0.0.1:{port}", "some.jwt", patience=30) as client:
        stream = client.events()
        async with serving(before, port):
            first = await anext(stream)
        second = asyncio.create_task(stream.__anext__())
        async with serving(after, port):
            assert getattr(await second, "version", None) == 2
            await stream.aclose()

    assert getattr(first, "version", None) == 1
    assert after.asked[0].headers["Last-Event-ID"] == "p.1"


async def test_a_server_that_stays_away_ends_a_stream_when_patience_does() -> None:
    api = FakeApi()
    api.will_stream(at("p.1", 1))
    async with serving(api) as url:
        client = AsyncClient(url, "some.jwt", patience=0.2)
        async with client:
            stream = client.events()
            await anext(stream)
            api.answers[:] = [web.json_response(refusal("SERVICE_UNAVAILABLE"), status=503)]

            with pytest.raises(ClientError, match="SERVICE_UNAVAILABLE"):
                await anext(stream)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (web.json_response(refusal("FORBIDDEN", "not yours"), status=403), "not yours"),
        (web.Response(text="<html>", content_type="text/html"), "where a stream of events was expected"),
    ],
)
async def test_what_is_no_stream_is_told(answer: web.Response, words: str, api: FakeApi, client: AsyncClient) -> None:
    api.answers.append(answer)

    with pytest.raises(ClientError, match=words):
        await anext(client.events())


async def test_an_event_of_a_later_version_is_told_and_not_passed_over(api: FakeApi, client: AsyncClient) -> None:
    api.will_stream(sse(event(1) | {"type": "assessment.archived"}), at("p.2", 2), then="stay")

    async with client.events() as stream:
        with pytest.raises(ClientError, match=r"'assessment.archived' cannot be read .is this client too old"):
            await anext(stream)
        assert getattr(await anext(stream), "version", None) == 2


async def test_a_handler_gets_each_event_in_order_and_again_where_it_failed(api: FakeApi, client: AsyncClient) -> None:
    api.will_stream(b"id: p.0\n\n", at("p.1", 1), at("p.2", 2), at("p.3", 3), then="stay")
    calls: list[int] = []
    done = asyncio.Event()

    async def handle(happened: AssessmentEvent) -> None:
        calls.append(happened.version)
        if calls == [1, 2]:
            raise ValueError("not yet")
        if happened.version == 3:
            done.set()

    subscription = await client.subscribe([EventType.PROGRESS], handle)
    await asyncio.wait_for(done.wait(), DEADLINE)

    assert calls == [1, 2, 2, 3]
    assert re.fullmatch(r"sub_\d{13}_[0-9a-z]{9}", subscription.id)
    assert (subscription.active, subscription.event_types) == (True, frozenset([EventType.PROGRESS]))
    assert await client.unsubscribe(subscription.id)
    assert not await client.unsubscribe(subscription.id)
    assert not await client.unsubscribe(subscription)
    assert not subscription.active
    await subscription.wait()


async def test_a_handler_that_fails_for_good_is_reported_and_the_next_event_comes(
    api: FakeApi, client: AsyncClient
) -> None:
    api.will_stream(b"id: p.0\n\n", at("p.1", 1), at("p.2", 2), then="stay")
    errors: asyncio.Queue[DeliveryError] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def handle(_: AssessmentEvent) -> None:
        raise ValueError("never")

    def note(error: DeliveryError) -> None:
        loop.call_soon_threadsafe(errors.put_nowait, error)

    subscription = await client.subscribe([], handle, note)
    first, second = [await asyncio.wait_for(errors.get(), DEADLINE) for _ in range(2)]

    assert [error.event.id for error in (first, second) if error.event] == ["a-1:1", "a-1:2"]
    assert isinstance(first.__cause__, ValueError)
    assert subscription.active


async def test_without_anybody_to_report_to_a_failing_handler_ends_its_subscription(
    api: FakeApi, client: AsyncClient
) -> None:
    api.will_stream(b"id: p.0\n\n", at("p.1", 1), at("p.2", 2), then="stay")
    calls: list[int] = []

    async def handle(happened: AssessmentEvent) -> None:
        calls.append(happened.version)
        raise ValueError("never")

    subscription = await client.subscribe([], handle)
    with pytest.raises(DeliveryError, match="failed 5 times on event a-1:1"):
        await asyncio.wait_for(subscription.wait(), DEADLINE)

    assert (set(calls), subscription.active) == ({1}, False)


async def test_a_stream_that_is_refused_is_reported_and_tried_again(api: FakeApi, client: AsyncClient) -> None:
    api.will_stream(b"id: p.0\n\n")
    api.will_answer(refusal("UNAUTHENTICATED", "the token has expired"), status=401)
    api.will_stream(at("p.1", 1), then="stay")
    errors: list[DeliveryError] = []
    done = asyncio.Event()

    async def handle(_: AssessmentEvent) -> None:
        done.set()

    async def note(error: DeliveryError) -> None:
        errors.append(error)

    await client.subscribe([], handle, note)
    await asyncio.wait_for(done.wait(), DEADLINE)

    assert [error.event for error in errors] == [None]
    assert "the token has expired" in str(errors[0])
    assert api.asked[-1].headers["Last-Event-ID"] == "p.0"


async def test_a_handler_may_end_its_own_subscription(api: FakeApi, client: AsyncClient) -> None:
    api.will_stream(b"id: p.0\n\n", at("p.1", 1), at("p.2", 2), then="stay")
    calls: list[int] = []

    async def handle(happened: AssessmentEvent) -> None:
        calls.append(happened.version)
        assert await client.unsubscribe(subscription)

    subscription = await client.subscribe([], handle)
    await asyncio.wait_for(subscription.wait(), DEADLINE)

    assert calls == [1]
