"""Event streams on a real Postgres and Redis: what is sent, to whom, from where on, and until when."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY
from tests.harness.installation import Installation
from tests.harness.streams import Author, Block, Streams, an_author, serving_streams
from tests.harness.waiting import DEADLINE, eventually

from assessmentstore.chaos.messages import Message, command, create
from assessmentstore.settings import Settings
from assessmentstore.store.trail import Chunk
from assessmentstore.web import feed, sse, subscription
from assessmentstore.web.auth import Role
from assessmentstore.web.feed import FEED

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
async def author(settings: Settings) -> AsyncIterator[Author]:
    async with an_author(settings) as author:
        yield author


@pytest.fixture
async def streams(settings: Settings) -> AsyncIterator[Streams]:
    async with serving_streams(settings) as streams:
        yield streams


def life(key: str, *names: str, user: str = "ann") -> list[Message]:
    """Commands of one assessment, their ids made of their places."""
    data: dict[str, Any] = {"progress": {"progress": 50}, "complete": {"result": {}}, "fail": {"error": "x"}}
    return [
        create(f"{key}-{name}-{number}", key, userid=user)
        if name == "create"
        else command(f"{key}-{name}-{number}", name, key, data.get(name))
        for number, name in enumerate(names)
    ]


def types(blocks: list[Block]) -> list[str]:
    return [(block.event or "").removeprefix("assessment.") for block in blocks]


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"assessmentstore_{name}", labels) or 0.0


async def until_open(count: int) -> None:
    async def probe() -> bool:
        return metric("event_streams") == count

    await eventually(probe, f"{count} open streams")


async def trail(installation: Installation) -> dict[tuple[str, int], str]:
    """Every event as the audit trail has it."""
    async with installation.database() as database:
        rows = await database.fetch("SELECT assessment_id, new_version, details FROM assessment_audit_trail")
    return {(row["assessment_id"], row["new_version"]): row["details"] for row in rows}


async def test_a_stream_of_one_assessment_tells_its_whole_life_and_ends_with_it(
    author: Author, streams: Streams
) -> None:
    await author.apply(*life("a", "create", "start"))

    async with streams.read("/assessments/a/events") as reader:
        begun = await reader.events(2)
        await author.apply(*life("b", "create"), *life("a", "create", "start", "progress", "complete"))
        ended = await reader.rest()

    headers = reader.answer.headers
    assert [(block.id, block.place) for block in begun + ended] == [(str(n), ("a", n)) for n in (1, 2, 3, 4)]
    assert types(begun + ended) == ["created", "started", "progress", "completed"]
    assert headers["Content-Type"] == "text/event-stream"
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-cache", "no")
    assert {"traceparent", "X-Content-Type-Options"} <= set(headers)
    assert headers["Server"] == "assessmentstore"


async def test_a_stream_goes_on_after_the_last_event_and_tells_who_has_all_to_stay_away(
    author: Author, streams: Streams
) -> None:
    await author.apply(*life("a", "create", "start", "cancel"))

    async with streams.read("/assessments/a/events?lastEventId=1") as by_query:
        assert types(await by_query.rest()) == ["started", "cancelled"]
    async with streams.read("/assessments/a/events?lastEventId=1", "2") as by_header:
        assert types(await by_header.rest()) == ["cancelled"]
    async with streams.read("/assessments/a/events", "3") as finished:
        assert finished.answer.status == 204
    async with streams.read("/assessments/a/events?type=assessment.failed") as nothing:
        assert await nothing.rest() == []
        assert nothing.last_id == "3", "the client has to know that it has all"


async def test_a_failed_assessment_may_be_retried_so_its_stream_stays_open(author: Author, streams: Streams) -> None:
    await author.apply(*life("a", "create", "start", "fail"))

    async with streams.read("/assessments/a/events", "3") as reader:
        await author.apply(command("again", "retry", "a"), command("stop", "cancel", "a"))
        assert types(await reader.rest()) == ["retried", "cancelled"]


async def test_the_feed_begins_now_and_goes_on_where_it_was_left(author: Author, streams: Streams) -> None:
    await author.apply(*life("old", "create"))

    async with streams.read() as reader:
        await reader.block()
        left_before_anything_came = reader.last_id
        await author.apply(*life("a", "create"), *life("b", "create"))
        first = await reader.events(2)
    await author.apply(*life("c", "create", "start"))
    async with streams.read(last_id=first[0].id) as again, streams.read(last_id=left_before_anything_came) as late:
        rest, everything = await again.events(3), await late.events(4)

    assert {block.place for block in first} == {("a", 1), ("b", 1)}
    assert {block.place for block in rest} == {first[1].place, ("c", 1), ("c", 2)}
    assert {block.place for block in everything} == {("a", 1), ("b", 1), ("c", 1), ("c", 2)}


async def test_types_are_chosen_in_history_and_live(author: Author, streams: Streams) -> None:
    async with streams.read() as start:
        await start.block()
    await author.apply(*life("a", "create", "start", "complete"))

    wanted = "?type=assessment.completed&type=assessment.failed"
    async with streams.read(f"/events{wanted}", start.last_id) as reader:
        history = await reader.events(1)
        await author.apply(*life("b", "create", "start", "fail"), *life("c", "create", "start", "complete"))
        live = await reader.events(2)
    async with streams.read(f"/assessments/a/events{wanted}") as one:
        of_a = await one.rest()

    assert types(history + of_a) == ["completed", "completed"]
    assert sorted(types(live)) == ["completed", "failed"]


async def test_what_is_asked_is_read_strictly(author: Author, streams: Streams) -> None:
    await author.apply(*life("a", "create"))

    for query, parameter in (
        ("type=completed", "type"),
        ("types=x", "types"),
        ("lastEventId=1&lastEventId=2", "lastEventId"),
    ):
        for path in ("/events", "/assessments/a/events"):
            async with streams.read(f"{path}?{query}") as refused:
                problem = (await refused.answer.json())["error"]
            assert (refused.answer.status, problem["code"]) == (400, "VALIDATION_ERROR")
            assert problem["details"]["parameter"] == parameter


async def test_everybody_sees_his_own_and_oversight_sees_all(author: Author, streams: Streams) -> None:
    async with streams.read() as start:
        await start.block()
    await author.apply(*life("a1", "create", user="ann"), *life("b1", "create", user="bob"))

    async with (
        streams.read(last_id=start.last_id, user="ann", role=Role.USER) as ann,
        streams.read(last_id=start.last_id, user="bob", role=Role.USER) as bob,
        streams.read(last_id=start.last_id, user="eve", role=Role.HUMAN_OVERSIGHT) as eve,
    ):
        assert {(await reader.events(1))[0].place for reader in (ann, bob)} == {("a1", 1), ("b1", 1)}
        await eve.events(2)
        await author.apply(*life("b2", "create", user="bob"))
        await author.apply(*life("a2", "create", user="ann"))
        assert [block.place for block in await ann.events(1)] == [("a2", 1)]
        assert [block.place for block in await bob.events(1)] == [("b2", 1)]
        assert [block.place for block in await eve.events(2)] == [("b2", 1), ("a2", 1)]
    for path, user, status in (("/assessments/b1/events", "ann", 403), ("/assessments/none/events", "ann", 404)):
        async with streams.read(path, user=user, role=Role.USER) as refused:
            assert refused.answer.status == status


@pytest.mark.parametrize(
    ("last_id", "reason"), [("nonsense", "malformed"), ("7", "malformed"), ("p.ffff", "future"), ("p", "deleted")]
)
async def test_the_feed_is_reset_where_it_cannot_go_on(
    installation: Installation, author: Author, streams: Streams, last_id: str, reason: str
) -> None:
    await author.apply(*life("a", "create", "start"))
    async with installation.database() as database:
        await database.execute("INSERT INTO history_offsets VALUES ($1, 1)", author.partition("a"))

    async with streams.read(last_id=last_id) as reader:
        reset = (await reader.events(1))[0]
        await author.apply(*life("b", "create"))
        (after,) = await reader.events(1)

    assert (reset.event, reset.data) == ("reset", {"reason": reason, "position": reset.id})
    assert after.place == ("b", 1)
    async with streams.read(last_id=reset.id) as again:
        assert [block.place for block in await again.events(1)] == [("b", 1)]


@pytest.mark.parametrize(
    ("last_id", "reason"), [("p.1", "malformed"), ("9", "future"), ("1", "deleted"), (None, "deleted")]
)
async def test_the_stream_of_one_is_reset_where_it_cannot_go_on(
    installation: Installation, author: Author, streams: Streams, last_id: str | None, reason: str
) -> None:
    await author.apply(*life("a", "create", "start", "progress"))
    async with installation.database() as database:
        await database.execute("DELETE FROM assessment_audit_trail WHERE new_version <= 3")

    async with streams.read("/assessments/a/events", last_id) as reader:
        (reset,) = await reader.events(1)
        await author.apply(command("end", "cancel", "a"))
        rest = await reader.rest()

    assert (reset.event, reset.data) == ("reset", {"reason": reason, "position": "3"})
    assert [block.place for block in rest] == [("a", 4)]


@pytest.mark.parametrize("last_id", ["nonsense", "9"])
async def test_a_reset_at_the_end_is_the_last_that_is_told(author: Author, streams: Streams, last_id: str) -> None:
    await author.apply(*life("a", "create", "start", "cancel"))

    async with streams.read("/assessments/a/events", last_id) as reader:
        assert types(await reader.rest()) == ["reset"]

    async with streams.read("/assessments/a/events", reader.last_id) as again:
        assert again.answer.status == 204


async def test_an_id_that_is_used_again_begins_anew(
    installation: Installation, author: Author, streams: Streams
) -> None:
    """Its stream is open meanwhile: the new versions must not be taken for those that were seen."""
    await author.apply(*life("a", "create", "start", "progress", "fail"))

    async with streams.read("/assessments/a/events") as reader:
        await reader.events(4)
        async with installation.database() as database:
            for table in ("assessment_metrics", "assessment_audit_trail", "assessment_states"):
                await database.execute(f"DELETE FROM {table}")
        await author.apply(create("again", "a", userid="ann"), command("end", "cancel", "a"))
        rest = await reader.rest()

    assert [(block.event, block.id) for block in rest] == [
        ("reset", "0"),
        ("assessment.created", "1"),
        ("assessment.cancelled", "2"),
    ]
    assert rest[0].data == {"reason": "deleted", "position": "0"}


async def test_history_that_goes_while_it_is_read_is_no_silent_gap(
    installation: Installation, author: Author, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is read after the rows and their beginning have changed, the check of the position before."""
    async with streams.read() as start:
        await start.block()
    await author.apply(*life("a", "create", "start"))
    bounds = streams.trail.bounds

    async def bounds_then_cleanup() -> Any:
        before = await bounds()
        async with installation.database() as database:
            await database.execute("DELETE FROM assessment_audit_trail")
            await database.execute("INSERT INTO history_offsets VALUES ($1, 2)", author.partition("a"))
        return before

    monkeypatch.setattr(streams.trail, "bounds", bounds_then_cleanup)
    async with streams.read(last_id=start.last_id) as reader:
        (reset,) = await reader.events(1)

    assert reset.data["reason"] == "deleted"


async def test_a_silent_stream_beats_and_moves_on(
    author: Author, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.1)
    await author.apply(*life("a", "create"))

    async with streams.read(user="bob", role=Role.USER) as reader, streams.read("/assessments/a/events", "1") as one:
        first = await reader.block()
        assert first is not None
        await author.apply(*life("b", "create"))

        async def moved() -> bool:
            beat = await reader.block()
            assert beat is not None
            assert (beat.comment, beat.event) == ("heartbeat", None)
            return beat.id != first.id

        await eventually(moved, "a heartbeat with a later position")
        assert [(await one.block()) and None for _ in range(2)] == [None, None]
        assert one.last_id is None


@pytest.mark.parametrize("reason", ["overflow", "stalled"])
async def test_a_slow_reader_is_cut_off_and_harms_nobody(
    author: Author, streams: Streams, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr(subscription, "MOST_WAITING", 40 if reason == "overflow" else 10_000)
    # Long enough for the quick one on a machine that is busy.
    monkeypatch.setattr(sse, "WRITE_SECONDS", DEADLINE if reason == "overflow" else 3.0)
    before = metric("event_streams_cut_total", reason=reason)
    large = [command(f"a-{number}", "progress", "a", {"progress": 1, "message": "m" * 200_000}) for number in range(80)]

    await author.apply(*life("a", "create", "start"))
    slow = await until_deaf(streams)
    async with streams.read() as quick:
        await until_open(2)
        for first in range(0, len(large), 8):
            await author.apply(*large[first : first + 8])
            await quick.events(8)
        await until_open(1)

    slow.close()
    assert metric("event_streams_cut_total", reason=reason) == before + 1


async def until_deaf(streams: Streams) -> socket.socket:
    """A client that asks for the feed and never reads."""
    address = urlsplit(streams.url)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((address.hostname, address.port))
    authorization = f"Authorization: Bearer {streams.token('ann', Role.ADMIN)}"
    slow.sendall(f"GET /events HTTP/1.1\r\nHost: x\r\n{authorization}\r\n\r\n".encode())
    await until_open(1)
    return slow


@pytest.mark.settings(redis_url=NOWHERE)
async def test_events_come_without_redis_and_without_the_polls_that_only_look_after_it(
    author: Author, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_SLOW_POLL", 3600.0)
    async with streams.read() as reader:
        await reader.block()
        await author.apply(*life("a", "create"))
        await reader.events(1)


async def test_a_stream_ends_with_its_token(author: Author, streams: Streams) -> None:
    await author.apply(*life("a", "create"))
    told: list[list[str]] = []

    async def let_in() -> bool:
        """On a machine that stands still a token may be over before it is shown."""
        async with (
            streams.read("/assessments/a/events", lifetime=timedelta(seconds=4)) as one,
            streams.read(lifetime=timedelta(seconds=4)) as everything,
        ):
            if {one.answer.status, everything.answer.status} != {200}:
                return False
            told.extend([types(await one.rest()), types(await everything.rest())])
        return True

    await eventually(let_in, "two streams to begin in time")
    assert told == [["created"], []]
    await until_open(0)


async def test_a_stop_ends_all_streams_at_once(settings: Settings, author: Author) -> None:
    await author.apply(*life("a", "create"))
    async with (
        serving_streams(settings, patience=2 * DEADLINE) as streams,
        streams.read() as everything,
        streams.read("/assessments/a/events") as one,
    ):
        await until_open(2)
        stopping = asyncio.create_task(streams.server.close())
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(everything.rest(), one.rest())
            await stopping


async def test_there_is_a_limit(author: Author, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_STREAMS", 1)

    async with streams.read():
        await until_open(1)
        async with streams.read() as refused:
            assert refused.answer.status == 503
            assert "Retry-After" in refused.answer.headers
    await until_open(0)
    async with streams.read() as accepted:
        assert accepted.answer.status == 200


async def test_what_comes_while_a_long_history_is_read_does_not_cut_its_reader_off(
    author: Author, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "MOST_WAITING", 600)
    async with streams.read() as start:
        await start.block()
    for number in range(3):
        await author.apply(*(create(f"{number}-{n}", f"{number}-{n}", userid="ann") for n in range(700)))
    window, live = streams.trail.window, streams.server.app[FEED]

    async def window_and_more(*arguments: Any, **options: Any) -> Chunk:
        if not await streams.trail.version("late-0"):
            await author.apply(*(create(f"late-{n}", f"late-{n}", userid="ann") for n in range(700)))
            await live.reached((await streams.trail.bounds()).end)
        return await window(*arguments, **options)

    monkeypatch.setattr(streams.trail, "window", window_and_more)
    async with streams.read(last_id=start.last_id, user="ann", role=Role.USER) as reader:
        blocks = await reader.events(2800)

    assert len({block.place for block in blocks}) == 2800


async def test_readers_that_come_and_go_miss_nothing_and_get_nothing_twice(
    installation: Installation, author: Author, streams: Streams
) -> None:
    """Four partitions commit beside each other while readers of the feed and of single assessments reconnect."""
    keys = [f"a{number}" for number in range(20)]
    versions = list(range(1, 23))
    lives = [life(key, "create", "start", *["progress"] * 19, "cancel") for key in keys]
    async with streams.read() as start:
        await start.block()
    await author.apply(*(commands.pop(0) for commands in lives))
    readers = [(f"/assessments/{key}/events", "0", 22) for key in keys[:4]] + [("/events", start.last_id, 440)] * 4
    reading = asyncio.gather(*(restless(streams, *reader, seed) for seed, reader in enumerate(readers)))

    chance = random.Random(7)
    while any(lives):
        await author.apply(*(commands.pop(0) for commands in lives if commands and chance.random() < 0.5))

    told = await asyncio.wait_for(reading, DEADLINE)
    assert set(await trail(installation)) == {(key, version) for key in keys for version in versions}
    for key, blocks in zip(keys, told[:4], strict=False):
        assert [block.place for block in blocks] == [(key, version) for version in versions]
    for blocks in told[4:]:
        for key in keys:
            assert [block.data["version"] for block in blocks if block.data["assessmentId"] == key] == versions


async def restless(streams: Streams, path: str, last_id: str | None, count: int, seed: int) -> list[Block]:
    """Read so many events, and come back now and then with the last id that was seen."""
    chance = random.Random(seed)
    blocks: list[Block] = []
    while len(blocks) < count:
        async with streams.read(path, last_id) as reader:
            assert reader.answer.status == 200
            await reader.block()
            blocks += await reader.events(min(count - len(blocks), chance.randint(0, 12)))
            last_id = reader.last_id or last_id
    return blocks
