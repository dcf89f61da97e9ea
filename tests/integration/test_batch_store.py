"""The batch transaction on a real Postgres: fence, version check, duplicates and outbox."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest
from tests.harness.decoded import command

from assessmentstore.agents.fold import Decoded, Folded, fold
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.errors import ErrorCode, Rejection
from assessmentstore.models.events import event_from_json
from assessmentstore.settings import Settings
from assessmentstore.store.batch import BatchStore, FencedError, PartitionClaim
from assessmentstore.store.changes import DeadLetter
from assessmentstore.store.migrate import is_migrated, migrate
from assessmentstore.store.postgres import Pools, StaleViewError, UnstorableError
from assessmentstore.store.reads import OutcomeReader

TOPIC = "assessment.commands"


@pytest.fixture
def store(pools: Pools) -> BatchStore:
    return BatchStore(pools.write)


async def apply(
    store: BatchStore, claim: PartitionClaim, *batch: Decoded, states: dict[str, AssessmentRecord] | None = None
) -> Folded:
    """Commit a batch as a lane does; `states` stands in for a view that may be stale."""
    end = batch[-1].offset + 1
    async with store.transaction({claim: end}) as transaction:
        loaded = await transaction.load({decoded.header.assessment_id for decoded in batch if decoded.header})
        known = await transaction.known({decoded.header.id for decoded in batch if decoded.header})
        folded = fold(batch, loaded if states is None else states, known, transaction.now)
        await transaction.write({claim.partition: folded.changes})
    return folded


async def one_row(pools: Pools, query: str) -> asyncpg.Record:
    row = await pools.read.fetchrow(query)
    assert row is not None
    return row


async def claim(store: BatchStore, partition: int = 0, *, owner: str = "one") -> PartitionClaim:
    return await store.claim(TOPIC, partition, owner=owner, epoch=None)


async def test_what_is_committed_is_read_back_as_it_was(store: BatchStore, pools: Pools) -> None:
    mine = await claim(store)

    letter = DeadLetter(offset=3, key=b"\x00", value=b"\xff", headers=[("h", None), ("i", b"\x00")], reason="junk")
    folded = await apply(
        store, mine, command(0, "create"), command(1, "start"), command(2, "retry"), Decoded(3, 0, letter)
    )

    outbox = await store.outbox(0, 0, 4)
    assert [item.event for item in outbox.events] == [item.event for item in folded.changes.accepted]
    assert outbox.rejections[0].rejection == folded.changes.refused[0].rejection
    assert outbox.rejections[0].header.id == "c2-a1"
    assert outbox == folded.changes.outbox()
    assert outbox.dead_letters == [replace(letter, at=outbox.dead_letters[0].at)]
    assert await store.changed_since(0, 0, 4) == folded.changes.after
    row = await one_row(pools, "SELECT * FROM assessment_audit_trail WHERE new_version = 2")
    assert (row["action"], row["old_state"], row["new_state"], row["old_version"]) == (
        "started",
        "pending",
        "processing",
        1,
    )


async def test_an_outbox_has_only_its_range_of_offsets(store: BatchStore) -> None:
    mine = await claim(store)
    await apply(store, mine, command(0, "create"), command(1, "start"), command(2, "progress", progress=1))

    outbox = await store.outbox(0, 1, 2)

    assert [item.event.version for item in outbox.events] == [2]


async def test_a_worker_whose_partition_was_taken_writes_nothing(store: BatchStore, pools: Pools) -> None:
    zombie = await claim(store, owner="zombie")
    await claim(store, owner="heir")

    with pytest.raises(FencedError):
        await apply(store, zombie, command(0, "create"))

    assert await pools.read.fetchval("SELECT count(*) FROM assessment_states") == 0
    assert await pools.read.fetchval("SELECT next_offset FROM command_offsets") == 0


async def test_a_worker_cannot_claim_again_what_was_taken_from_it(store: BatchStore) -> None:
    zombie = await claim(store, owner="zombie")
    heir = await claim(store, owner="heir")

    with pytest.raises(FencedError):
        await store.claim(TOPIC, 0, owner="zombie", epoch=zombie.epoch)

    again = await store.claim(TOPIC, 0, owner="heir", epoch=heir.epoch)
    assert again.epoch == heir.epoch + 1


async def test_a_claim_waits_for_the_batch_under_way_and_sees_its_position(store: BatchStore) -> None:
    first = await claim(store)
    async with store.transaction({first: 7}):
        taking = asyncio.create_task(claim(store, owner="heir"))
        done, _ = await asyncio.wait({taking}, timeout=0.2)
        assert not done

    assert (await taking).next_offset == 7


async def test_partitions_that_share_a_transaction_share_their_counters(store: BatchStore, pools: Pools) -> None:
    claims = [await claim(store, partition) for partition in range(3)]
    batches = {0: [command(0, "create", "a0")], 1: [command(0, "create", "a1")], 2: [command(0, "create", "a2")]}
    await apply_together(store, claims, batches)
    claims = [replace(mine, next_offset=1) for mine in claims]

    await apply_together(store, claims[1:], {1: [command(1, "start", "a1")], 2: [command(1, "start", "a2")]})

    rows = await pools.read.fetch(
        "SELECT slot, state, assessments FROM assessment_totals WHERE scope = '' ORDER BY slot, state"
    )
    assert [tuple(row) for row in rows] == [(0, "pending", 3), (1, "pending", -2), (1, "processing", 2)]


async def apply_together(store: BatchStore, claims: list[PartitionClaim], batches: dict[int, list[Decoded]]) -> None:
    """Commit a batch of each of several partitions in one transaction."""
    async with store.transaction({mine: mine.next_offset + len(batches[mine.partition]) for mine in claims}) as opened:
        loaded = await opened.load({f"a{partition}" for partition in batches})
        changes = {key: fold(batch, loaded, {}, opened.now).changes for key, batch in batches.items()}
        await opened.write(changes)


async def test_a_position_is_never_moved_twice(store: BatchStore) -> None:
    mine = await claim(store)
    await apply(store, mine, command(0, "create"))

    with pytest.raises(FencedError):
        await apply(store, mine, command(0, "create", "a2"))


async def test_a_version_that_was_changed_behind_our_back_is_never_overwritten(store: BatchStore, pools: Pools) -> None:
    mine = await claim(store)
    states = (await apply(store, mine, command(0, "create"))).changes.after
    await pools.write.execute("UPDATE assessment_states SET version = 5, message = 'by hand'")
    mine = await store.claim(TOPIC, 0, owner="one", epoch=mine.epoch)

    with pytest.raises(StaleViewError):
        await apply(store, mine, command(1, "start"), states=states)

    row = await one_row(pools, "SELECT state, version, message FROM assessment_states")
    assert tuple(row) == ("pending", 5, "by hand")
    assert await pools.read.fetchval("SELECT next_offset FROM command_offsets") == 1


async def test_what_was_deleted_behind_our_back_is_decided_again(store: BatchStore, pools: Pools) -> None:
    mine = await claim(store)
    states = (await apply(store, mine, command(0, "create"))).changes.after
    for table in ("audit_trail", "search", "states"):
        await pools.write.execute(f"DELETE FROM assessment_{table}")
    mine = await store.claim(TOPIC, 0, owner="one", epoch=mine.epoch)

    with pytest.raises(StaleViewError):
        await apply(store, mine, command(1, "start"), states=dict(states))


async def test_a_head_that_is_not_the_one_in_postgres_is_never_chained_to(store: BatchStore, pools: Pools) -> None:
    """A view may have one from another life of the assessment: the batch is decided again, and Postgres' own counts."""
    mine = await claim(store)
    states = (await apply(store, mine, command(0, "create"))).changes.after
    mine = await store.claim(TOPIC, 0, owner="one", epoch=mine.epoch)
    start = command(1, "start")

    with pytest.raises(StaleViewError):
        async with store.transaction({mine: 2}) as transaction:
            await transaction.write({0: fold([start], states, {}, transaction.now).changes}, {"a1": bytes(32)})
    async with store.transaction({mine: 2}) as transaction:
        await transaction.write({0: fold([start], states, {}, transaction.now).changes})

    first, second = await pools.read.fetch("SELECT * FROM assessment_audit_trail ORDER BY new_version")
    assert second["previous_hash"] == first["row_hash"] != bytes(32)


async def test_a_replay_of_the_same_commands_makes_the_same_hashes(store: BatchStore, pools: Pools) -> None:
    """The events come back from their JSON, and are written by the same path."""
    mine = await claim(store)
    changes = (await apply(store, mine, command(0, "create"), command(1, "start"))).changes
    query = "SELECT previous_hash, row_hash FROM assessment_audit_trail ORDER BY new_version"
    before = await pools.read.fetch(query)
    await pools.write.execute("TRUNCATE assessment_states CASCADE")

    again = [item._replace(event=event_from_json(item.value)) for item in changes.accepted]
    async with store.transaction({replace(mine, next_offset=2): 3}) as transaction:
        await transaction.write({0: replace(changes, accepted=again)})

    assert await pools.read.fetch(query) == before
    assert await pools.read.fetchval("SELECT audit_hash FROM assessment_states") == before[-1]["row_hash"]


async def test_an_id_that_was_inserted_behind_our_back_is_never_overwritten(store: BatchStore) -> None:
    mine = await claim(store)
    await apply(store, mine, command(0, "create"))
    mine = await store.claim(TOPIC, 0, owner="one", epoch=mine.epoch)

    with pytest.raises(StaleViewError):
        await apply(store, mine, command(1, "create"), states={})


async def test_one_command_id_on_two_partitions_has_one_effect(store: BatchStore, pools: Pools) -> None:
    one, other = await claim(store, 0), await claim(store, 1)
    create = command(0, "create", command_id="same")

    outcomes = await asyncio.gather(apply(store, one, create), apply(store, other, create), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, StaleViewError)]
    duplicates = [outcome for outcome in outcomes if isinstance(outcome, Folded) and outcome.duplicates]
    assert len(refused) + len(duplicates) == 1
    assert await pools.read.fetchval("SELECT count(*) FROM assessment_audit_trail") == 1


async def test_a_value_that_postgres_refuses_is_told_from_an_outage(store: BatchStore) -> None:
    mine = await claim(store)
    state = (await apply(store, mine, command(0, "create"))).changes.after["a1"]
    mine = await store.claim(TOPIC, 0, owner="one", epoch=mine.epoch)

    with pytest.raises(UnstorableError):
        await apply(store, mine, command(1, "start"), states={"a1": state.model_copy(update={"message": "\x00"})})


async def test_the_stored_times_are_those_of_the_events(store: BatchStore, pools: Pools) -> None:
    mine = await claim(store)
    created = (await apply(store, mine, command(0, "create"))).changes.after["a1"]
    mine = await store.claim(TOPIC, 0, owner="one", epoch=mine.epoch)

    started = (await apply(store, mine, command(1, "start"))).changes.after["a1"]

    row = await one_row(pools, "SELECT created_at, updated_at, started_at FROM assessment_states")
    assert tuple(row) == (created.created_at, started.updated_at, started.updated_at)


async def test_a_plain_update_sets_its_time_by_the_trigger(store: BatchStore, pools: Pools) -> None:
    await apply(store, await claim(store), command(0, "create"))
    before = await pools.read.fetchval("SELECT updated_at FROM assessment_states")

    await pools.write.execute("UPDATE assessment_states SET message = 'by hand'")

    assert await pools.read.fetchval("SELECT updated_at FROM assessment_states") > before


async def test_the_answer_to_a_command_is_the_state_right_after_it(store: BatchStore, pools: Pools) -> None:
    create, start, progress = command(0, "create"), command(1, "start"), command(2, "progress", progress=9)
    await apply(store, await claim(store), create, start, progress)
    assert start.header is not None

    outcome = await OutcomeReader(pools.read).get(start.header.id, start.header.fingerprint)

    assert isinstance(outcome, AssessmentRecord)
    assert (outcome.version, outcome.state, outcome.progress) == (2, "processing", 0)


async def test_the_answer_to_a_refused_command_is_its_refusal(store: BatchStore, pools: Pools) -> None:
    start = command(0, "start")
    await apply(store, await claim(store), start)
    assert start.header is not None
    reader = OutcomeReader(pools.read)

    outcome = await reader.get(start.header.id, start.header.fingerprint)

    assert isinstance(outcome, Rejection)
    assert outcome.code is ErrorCode.NOT_FOUND
    assert await reader.get("unknown", b"") is None


async def test_another_content_under_the_same_id_gets_no_answer_but_a_mismatch(store: BatchStore, pools: Pools) -> None:
    await apply(store, await claim(store), command(0, "create"))

    outcome = await OutcomeReader(pools.read).get("c0-a1", b"another")

    assert isinstance(outcome, Rejection)
    assert outcome.code is ErrorCode.IDEMPOTENCY_MISMATCH


async def test_migrating_from_several_places_at_once_applies_each_step_once(services: Settings) -> None:
    connection = await asyncpg.connect(services.database_url)
    name = f"migrate_{datetime.now(UTC):%H%M%S%f}"
    await connection.execute(f'CREATE DATABASE "{name}"')
    url = services.database_url.rsplit("/", 1)[0] + f"/{name}"
    assert not await is_migrated(url)

    applied = await asyncio.gather(*(migrate(url) for _ in range(4)))

    assert sorted(step for steps in applied for step in steps) == max(applied)
    assert await is_migrated(url)
    await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await connection.close()
