"""The live feed, over a fake of the audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import Mock

import pytest
from tests.harness.waiting import eventually

from assessmentstore.models.errors import RejectedError, UnavailableError
from assessmentstore.models.events import EventType
from assessmentstore.store.trail import Bounds, Chunk, TrailEvent
from assessmentstore.web import subscription as subscription_module
from assessmentstore.web.feed import EVERYTHING, Feed, assessment_channel, owner_channel
from assessmentstore.web.subscription import Delivery, Subscription


class FakeTrail:
    """One list of events for each partition; each event takes one offset."""

    def __init__(self, partitions: int) -> None:
        self.rows: list[list[TrailEvent]] = [[] for _ in range(partitions)]
        self.is_away = False
        self.asked = 0

    def add(self, partition: int, assessment_id: str, version: int = 1, owner: str | None = None) -> None:
        rows = self.rows[partition]
        rows.append(TrailEvent(len(rows), assessment_id, version, EventType.PROGRESS, owner, "{}"))

    async def bounds(self) -> Bounds:
        self.asked += 1
        if self.is_away:
            raise UnavailableError("Postgres does not answer")
        return Bounds(tuple(0 for _ in self.rows), tuple(map(len, self.rows)))

    async def window(self, partition: int, first: int, end: int) -> Chunk:
        end = min(end, first + 2)
        return Chunk(self.rows[partition][first:end], end, 0)


@asynccontextmanager
async def running(trail: FakeTrail) -> AsyncIterator[Feed]:
    feed = Feed(trail)
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_reads_only_while_somebody_listens() -> None:
    trail = FakeTrail(1)
    async with running(trail) as feed:
        feed.changed()
        await asyncio.sleep(0)
        assert trail.asked == 0

        with feed.open(Mock()):
            await feed.reached(())
        feed.changed()
        await eventually(lambda: _unknown(feed), "the feed at rest")

        asked = trail.asked
        feed.changed()
        await asyncio.sleep(0)
        assert trail.asked == asked


async def _unknown(feed: Feed) -> bool:
    try:
        return feed.position is None
    except UnavailableError:
        return True


async def test_each_channel_gets_its_own_with_the_position_that_it_leads_to() -> None:
    trail = FakeTrail(2)
    trail.add(0, "before")
    async with running(trail) as feed:
        with feed.open(Mock()) as of_all, feed.open(Mock()) as of_ann, feed.open(Mock()) as of_b:
            await feed.reached(())
            with (
                feed.joined(of_all, EVERYTHING) as position,
                feed.joined(of_ann, owner_channel("ann")),
                feed.joined(of_b, assessment_channel("b")),
            ):
                trail.add(0, "a", owner="ann")
                trail.add(1, "b")
                trail.add(0, "a", 2, owner="ann")
                trail.add(0, "a", 3, owner="ann")
                await feed.reached((4, 1))
                everything, ann, only_b = [await each.take(1) for each in (of_all, of_ann, of_b)]

    assert position == (1, 0)
    assert [_first_line(item) for item in everything] == [
        b"id: p.2.0",
        b"id: p.3.0",
        b"id: p.4.0",
        b"id: p.4.1",
    ]
    assert [item.event.version for item in ann] == [1, 2, 3]
    assert [_first_line(item) for item in only_b] == [b"id: 1"]


def _first_line(item: Delivery) -> bytes:
    return item.text.split(b"\n")[0]


async def test_an_outage_of_postgres_delays_and_loses_nothing() -> None:
    trail = FakeTrail(1)
    async with running(trail) as feed:
        with feed.open(Mock()) as subscription:
            await feed.reached(())
            with feed.joined(subscription, EVERYTHING):
                trail.is_away = True
                trail.add(0, "a")
                asked = trail.asked
                feed.changed()
                await eventually(lambda: _asked(trail, asked + 2), "two looks in vain")
                trail.is_away = False
                assert len(await subscription.take(5)) == 1


async def _asked(trail: FakeTrail, times: int) -> bool:
    return trail.asked >= times


async def test_a_history_that_is_shorter_than_before_ends_the_streams() -> None:
    trail = FakeTrail(1)
    trail.add(0, "a")
    async with running(trail) as feed:
        with feed.open(Mock()) as subscription:
            await feed.reached(())
            trail.rows[0].clear()
            feed.changed()
            assert await subscription.take(5) == []

            assert subscription.ended
            assert feed.position == (0,)


async def test_a_stopping_feed_takes_nobody() -> None:
    feed = Feed(FakeTrail(1))
    with feed.open(Mock()) as subscription:
        feed.stop()

        assert subscription.ended
        with pytest.raises(RejectedError, match="stopping"), feed.open(Mock()):
            pass


@pytest.mark.parametrize("limit", ["MOST_WAITING", "MOST_WAITING_BYTES"])
async def test_a_reader_with_too_much_waiting_is_cut_off_alone(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    text = b"x" * 100
    monkeypatch.setattr(subscription_module, limit, 5 if limit == "MOST_WAITING" else 5 * len(text))
    cut, never = Mock(), Mock()
    slow, quick = Subscription(cut), Subscription(never)
    event = TrailEvent(0, "a", 1, EventType.PROGRESS, None, "{}")

    for _ in range(6):
        slow.offer(Delivery(event, text))
        quick.offer(Delivery(event, text))
        assert len(await quick.take(1)) == 1

    assert (slow.ended, quick.ended) == (True, False)
    cut.assert_called_once_with()
    never.assert_not_called()
