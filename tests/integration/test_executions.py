"""What is taken on, in a real Postgres: whose turn it is, and what is to be done about each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.harness.streams import Author, an_author

from assessmentstore.chaos.messages import command, request
from assessmentstore.settings import Settings
from assessmentstore.store.executions import ExecutionStore, Stage, Standing
from assessmentstore.store.postgres import Pools
from assessmentstore.store.queries import QUERIES

PARTITIONS = range(4)
SERVER = "http://c1"


@pytest.fixture
async def author(settings: Settings) -> AsyncIterator[Author]:
    async with an_author(settings) as found:
        yield found


@pytest.fixture
def store(pools: Pools) -> ExecutionStore:
    return ExecutionStore(pools.write)


async def create(author: Author, *names: str, priority: int = 5) -> None:
    await author.apply(*(command(f"c-{name}", "create", name, request(priority=priority)) for name in names))


async def taken(store: ExecutionStore) -> dict[str, Standing]:
    return {standing.execution.assessment_id: standing for standing in await store.open(PARTITIONS, [])}


async def start(author: Author, standing: Standing) -> None:
    await author.apply(command(standing.execution.start_id, "start", standing.execution.assessment_id))


async def test_the_highest_priority_is_first_and_the_lowest_does_not_starve(
    store: ExecutionStore, author: Author, pools: Pools
) -> None:
    await create(author, "low", "older", priority=1)
    await create(author, "high", priority=10)
    await create(author, "middle")
    await pools.write.execute("ALTER TABLE assessment_states DISABLE TRIGGER ALL")
    # A point of priority is worth a minute: after nine of them the lowest is as the highest.
    await pools.write.execute(
        "UPDATE assessment_states SET updated_at = updated_at - interval '10 minutes' WHERE assessment_id = 'older'"
    )

    order: list[str] = []
    for _ in range(4):
        assert await store.begin(PARTITIONS, [SERVER]) == 1
        (new,) = (await taken(store)).keys() - {*order}
        order.append(new)

    assert order == ["older", "high", "middle", "low"]
    assert await store.begin(PARTITIONS, [SERVER]) == 0


async def test_no_more_are_taken_on_than_there_is_room_each_for_one_server_and_none_twice(
    store: ExecutionStore, author: Author
) -> None:
    await create(author, *(f"a-{number}" for number in range(5)))

    assert await store.begin(PARTITIONS, ["http://c1", "http://c2", "http://c1"]) == 3
    first = await taken(store)
    assert await store.begin(PARTITIONS, ["http://c3"] * 9) == 2

    servers = [standing.execution.server for standing in first.values()]
    assert sorted(servers) == ["http://c1", "http://c1", "http://c2"]
    assert len(await taken(store)) == 5
    assert len({standing.execution.id for standing in (await taken(store)).values()}) == 5


async def test_only_the_own_partitions_are_looked_at(store: ExecutionStore, author: Author) -> None:
    names = [f"a-{number}" for number in range(12)]
    await create(author, *names)
    own = [0, 2]

    await store.begin(own, [SERVER] * 20)

    expected = {name for name in names if author.partition(name) in own}
    assert (await taken(store)).keys() == expected
    assert {standing.execution.partition for standing in await store.open(own, [])} <= {0, 2}
    assert await store.open([1, 3], []) == []


async def test_what_was_imported_is_left_to_the_old_system_until_it_changes_here(
    store: ExecutionStore, author: Author
) -> None:
    at = "2026-01-02T03:04:05Z"
    old = {"request": request(), "state": "pending", "createdAt": at, "updatedAt": at}
    failed = old | {"state": "failed", "error": "broken", "completedAt": at}
    await author.apply(command("i-1", "import", "waits", old), command("i-2", "import", "comes back", failed))
    await author.apply(command("x-1", "retry", "comes back"))

    assert await store.begin(PARTITIONS, [SERVER] * 9) == 1

    assert (await taken(store)).keys() == {"comes back"}


async def test_the_stages_of_an_attempt(store: ExecutionStore, author: Author) -> None:
    names = ["waits", "runs", "done", "failed", "cancelled", "cancelled early", "anothers", "retried"]
    await create(author, *names)
    await store.begin(PARTITIONS, [SERVER] * len(names))
    before = await taken(store)
    assert {standing.stage for standing in before.values()} == {Stage.TO_START}
    for name in ("runs", "done", "failed", "cancelled", "retried"):
        await start(author, before[name])
    await author.apply(
        command("x-1", "complete", "done", {"result": {}}),
        command("x-2", "fail", "failed", {"error": "broken"}),
        command("x-3", "cancel", "cancelled"),
        command("x-4", "cancel", "cancelled early"),
        command("x-5", "start", "anothers"),
        command("x-6", "fail", "retried", {"error": "broken"}),
        command("x-7", "retry", "retried"),
    )

    after = await taken(store)

    assert {name: standing.stage for name, standing in after.items()} == {
        "waits": Stage.TO_START,
        "runs": Stage.RUNNING,
        "done": Stage.OVER,
        "failed": Stage.ABANDONED,
        "cancelled": Stage.ABANDONED,
        "cancelled early": Stage.OVER,
        "anothers": Stage.OVER,
        "retried": Stage.OVER,
    }
    assert await store.standing(after["runs"].execution.id) == after["runs"]


async def test_the_next_attempt_takes_the_place_of_the_one_before(store: ExecutionStore, author: Author) -> None:
    await create(author, "a")
    await store.begin(PARTITIONS, [SERVER])
    first = (await taken(store))["a"]
    await start(author, first)
    await author.apply(command("x-1", "fail", "a", {"error": "broken"}))
    assert await store.begin(PARTITIONS, [SERVER]) == 0
    await author.apply(command("x-2", "retry", "a"))

    assert await store.begin(PARTITIONS, ["http://c2"]) == 1

    second = (await taken(store))["a"]
    assert (second.execution.attempt, second.execution.server) == (1, "http://c2")
    assert second.stage is Stage.TO_START
    assert second.execution.id != first.execution.id
    assert await store.standing(first.execution.id) is None


async def test_what_was_ended_is_forgotten_and_what_was_deleted_has_to_be_told(
    store: ExecutionStore, author: Author, pools: Pools
) -> None:
    await create(author, "a", "b")
    await store.begin(PARTITIONS, [SERVER] * 2)
    found = await taken(store)
    assert await store.count_pending() == 2

    await store.end(found["a"].execution.id)
    for table in ("assessment_audit_trail", "assessment_search", "assessment_states"):
        await pools.write.execute(f"DELETE FROM {table} WHERE assessment_id = 'b'")

    assert {name: standing.stage for name, standing in (await taken(store)).items()} == {"b": Stage.ABANDONED}


async def test_an_index_knows_whose_turn_it_is(pools: Pools) -> None:
    await pools.write.execute(
        """
        INSERT INTO assessment_states (assessment_id, state, request_data)
        SELECT 'a-' || number, 'pending', '{}' FROM generate_series(1, 20000) AS number;
        INSERT INTO assessment_audit_trail (assessment_id, action, new_state, new_version, command_partition)
        SELECT 'a-' || number, 'created', 'pending', 1, number % 4 FROM generate_series(1, 20000) AS number;
        ANALYZE assessment_states, assessment_audit_trail;
        """
    )

    async with pools.write.acquire() as connection:
        await connection.execute(f"PREPARE turn (int[], text[], bigint) AS {QUERIES['begin_executions']}")
        rows = await connection.fetch("EXPLAIN EXECUTE turn ('{0,1}', '{http://c1}', 1)")

    plan = "\n".join(row[0] for row in rows)
    assert "Index Scan using idx_assessment_states_pending" in plan, plan
