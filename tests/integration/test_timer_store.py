"""What timers find in Postgres: all that is due and nothing else, by indexes, a page at a time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from bench.fill import fill
from tests.harness.plans import Explained

from assessmentstore.models.timers import Due, Timer
from assessmentstore.settings import Settings
from assessmentstore.store import timers
from assessmentstore.store.encryption import KeyRing, generate
from assessmentstore.store.postgres import Connection, Pools, open_pools
from assessmentstore.store.queries import QUERIES
from assessmentstore.store.timers import TimerStore

COUNT = 8_000


@pytest.fixture
def store(pools: Pools) -> TimerStore:
    return TimerStore(pools.read)


async def put(pools: Pools, key: str, state: str = "processing", *, ago: float = 0, **columns: Any) -> None:
    """A state that was changed so many seconds ago."""
    request = columns.pop("request", {"timeout": 300})
    columns = {"version": 2} | columns
    names = ["assessment_id", "state", "request_data", *columns]
    values = ", ".join(f"${number}" for number in range(2, len(names) + 2))
    await pools.write.execute(
        f"INSERT INTO assessment_states (created_at, updated_at, {', '.join(names)})"
        f" SELECT at, at, {values} FROM (SELECT NOW() - make_interval(secs => $1) AS at) AS time",
        *(ago, key, state, _json(request), *columns.values()),
    )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


async def found(store: TimerStore, timer: Timer) -> dict[str, Due]:
    due, following = await store.due(timer, None)
    assert following is None
    return {item.assessment_id: item for item in due}


async def test_a_lease_ends_its_timeout_after_the_last_change_whatever_is_encrypted(
    pools: Pools, store: TimerStore
) -> None:
    ring = KeyRing.parse(generate("k"))
    request = {"timeout": 20, "serverName": "secret"}
    await put(pools, "by-default", ago=301, request={})
    await put(pools, "short", ago=10, request={"timeout": 0.5})
    await put(pools, "sealed", ago=21, request=ring.seal("sealed", request, {"timeout": 20}))
    await put(pools, "not-yet", ago=200)
    await put(pools, "long", ago=86_400, request={"timeout": 9_007_199_254_740_991})
    await put(pools, "pending", "pending", ago=900)
    await put(pools, "completed", "completed", ago=900)
    await put(pools, "no-number", ago=301, request={"timeout": "long"})

    due = await found(store, Timer.LEASE)

    assert list(due) == ["short", "by-default", "sealed", "no-number"]
    assert [item.seconds for item in due.values()] == [0.5, 300, 20, 300]
    await pools.write.execute("UPDATE assessment_states SET progress = 5, version = 2 WHERE assessment_id = 'sealed'")
    assert "sealed" not in await found(store, Timer.LEASE)


async def test_a_retry_is_due_at_its_time(pools: Pools, store: TimerStore) -> None:
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    await put(pools, "due", "failed", next_retry_at=now - hour, version=7)
    await put(pools, "earlier", "failed", next_retry_at=now - 2 * hour)
    await put(pools, "later", "failed", next_retry_at=now + hour)
    await put(pools, "never", "failed")

    due = await found(store, Timer.RETRY)

    assert list(due) == ["earlier", "due"]
    assert due["due"].version == 7


async def test_what_is_due_is_read_in_pages_that_leave_nothing_out(
    pools: Pools, store: TimerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "PAGE", 3)
    at = datetime.now(UTC) - timedelta(hours=1)
    for number in range(7):
        await put(pools, f"p{number}", ago=400, request={"timeout": 300})
        await put(pools, f"f{number}", "failed", next_retry_at=at)

    for timer in Timer:
        read, after, first = list[str](), None, True
        while first or after:
            page, after = await store.due(timer, after)
            read += [due.assessment_id for due in page]
            first = False
        assert sorted(read) == [f"{'p' if timer is Timer.LEASE else 'f'}{number}" for number in range(7)]


async def test_who_waits_too_long_is_told_since_when_and_counted(pools: Pools, store: TimerStore) -> None:
    await put(pools, "old", "pending", ago=100)
    await put(pools, "new", "pending")
    await put(pools, "retried", "pending", ago=200)
    await pools.write.execute("UPDATE assessment_states SET retry_count = 1 WHERE assessment_id = 'retried'")
    await put(pools, "late", ago=360)

    assert list(await store.pending_too_long(60)) == ["old"]
    figures = await store.figures(60)
    assert figures.pending_too_long == 1
    assert 60 <= figures.late_seconds < 600


async def test_with_nothing_stored_nothing_is_late(store: TimerStore) -> None:
    assert await store.figures(60) == timers.Figures(0, 0.0)


async def test_no_look_reads_more_than_what_is_due(settings: Settings) -> None:
    """On a filled database; what processes there is all overdue."""
    await fill(settings.database_url, COUNT)

    async with open_pools(settings, application="test") as pools, pools.read.acquire() as connection:
        await connection.execute("UPDATE assessment_states SET next_retry_at = completed_at WHERE state = 'failed'")
        # What is filled has a year.
        await connection.execute(
            "UPDATE assessment_states SET updated_at = updated_at - INTERVAL '2 years' WHERE state = 'processing'"
        )
        await connection.execute("ANALYZE assessment_states")
        processing = await connection.fetchval("SELECT count(*) FROM assessment_states WHERE state = 'processing'")
        too_long = await pending_for_days(connection)
        explained: Any = Explained(connection)
        await explained.fetch(QUERIES["due_leases"], 0.0, "", 500)
        await explained.fetch(QUERIES["due_retries"], datetime.fromtimestamp(0, UTC), "", 100)
        await explained.fetch(QUERIES["pending_too_long"], 1800.0, 20)
        await explained.fetch(QUERIES["timer_figures"], 1800.0, 20)

    leases, retries, pending, figures = explained.plans
    assert leases.rows == processing > 10, leases
    assert "idx_assessment_states_lease" in leases.told
    assert 100 <= retries.rows <= 110, retries
    assert pending.rows <= too_long, pending
    assert figures.rows <= too_long + 5, figures


async def pending_for_days(connection: Connection) -> int:
    """Have thousands become pending just now, and leave a few as they were; how many those are."""
    await connection.execute("""
        UPDATE assessment_states SET state = 'pending', updated_at = NOW() - INTERVAL '1 second', next_retry_at = NULL
        WHERE state = 'completed'
    """)
    await connection.execute("""
        UPDATE assessment_states SET updated_at = NOW() - INTERVAL '2 days' WHERE assessment_id IN (
            SELECT assessment_id FROM assessment_states WHERE state = 'pending' ORDER BY assessment_id LIMIT 10
        )
    """)
    await connection.execute("ANALYZE assessment_states")
    old = (
        "SELECT count(*) FROM assessment_states WHERE state = 'pending' AND updated_at < NOW() - INTERVAL '20 minutes'"
    )
    return int(await connection.fetchval(old))


async def test_two_looks_at_once_find_the_same(pools: Pools, store: TimerStore) -> None:
    await put(pools, "a", ago=400)

    one, other = await asyncio.gather(store.due(Timer.LEASE, None), store.due(Timer.LEASE, None))

    assert one == other
    assert len(one[0]) == 1
