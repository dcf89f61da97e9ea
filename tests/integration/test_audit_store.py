"""What is stored is checked as it lies in Postgres: changes by plain SQL, rows older than the hashes, retention."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.audit import Records, open_records
from tests.harness.installation import Installation

from assessmentstore.chaos.messages import command
from assessmentstore.models.bundles import verify_bundle
from assessmentstore.models.canonical import canonical
from assessmentstore.models.chain import chained, entry_hash, entry_of_row
from assessmentstore.store.checkpoints import CheckpointStore
from assessmentstore.store.maintenance import Maintenance
from assessmentstore.store.signing import PublicKeys


@pytest.fixture
async def records(installation: Installation) -> AsyncIterator[Records]:
    async with open_records(installation.settings) as opened:
        yield opened


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1)
# What a double makes of a whole number, what it looks like with an exponent, and those about which the two disagree.
hard = st.sampled_from(
    [0.0, -0.0, 1.0, 1e2, 1e15, 1e16, 1e19, 2.0**64, 1e21, 1e22, 1e-5, 1e-6, 1e-7, 5e-324, 2**53 + 1]
)
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | numbers | hard | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


async def test_the_canonical_form_is_the_same_before_and_after_jsonb(records: Records) -> None:
    written: list[dict[str, Any]] = []

    @given(st.dictionaries(texts, values, max_size=5))
    @settings(max_examples=200, database=None, suppress_health_check=list(HealthCheck), deadline=None)
    def collect(value: dict[str, Any]) -> None:
        written.append(orjson.loads(orjson.dumps(value)))

    collect()
    assert len(written) > 100
    sent = [orjson.dumps(value).decode() for value in written]
    rows = await records.pools.read.fetch("SELECT value::jsonb::text FROM unnest($1::text[]) AS v (value)", sent)

    for value, (returned,) in zip(written, rows, strict=True):
        assert canonical(value) == canonical(orjson.loads(returned))


COLUMNS = {
    "action": "'cancelled'",
    "old_state": "'failed'",
    "new_state": "'cancelled'",
    "old_version": "77",
    "user_id": "'mallory'",
    "details": "jsonb_set(details, '{message}', '\"another\"')",
    "created_at": "created_at - interval '1 day'",
    "command_id": "'another'",
    "command_fingerprint": "'\\x00'",
    "command_offset": "command_offset + 1000",
    "command_partition": "NULL",
    "traceparent": "'another'",
    "previous_hash": "'\\x00'",
    "row_hash": "sha256('')",
}
_THIRD = "WHERE assessment_id = 'a' AND new_version = 3"

# Statements, and what is to be told of.
TAMPERED = {
    **{
        f"column {name}": (f"UPDATE assessment_audit_trail SET {name} = {value} {_THIRD}", "row a version 3")
        for name, value in COLUMNS.items()
    },
    "every column of the migration": (
        f"UPDATE assessment_audit_trail SET row_hash = NULL, previous_hash = NULL {_THIRD}",
        "a version 4",
    ),
    "a version": (f"UPDATE assessment_audit_trail SET new_version = 99 {_THIRD}", "row a version 99"),
    "a row that is gone": (f"DELETE FROM assessment_audit_trail {_THIRD}", "row a version 4"),
    "a first row that is gone": (
        "DELETE FROM assessment_audit_trail WHERE assessment_id = 'a' AND new_version = 1",
        "row a version 2",
    ),
    "a tail that is gone": (
        "DELETE FROM assessment_audit_trail WHERE assessment_id = 'a' AND new_version > 3",
        "row a version 3",
    ),
    "all rows gone": ("DELETE FROM assessment_audit_trail WHERE assessment_id = 'a'", "row a version 5"),
    "two rows that changed places": (
        """
        UPDATE assessment_audit_trail AS one SET details = other.details FROM assessment_audit_trail AS other
        WHERE one.assessment_id = 'a' AND other.assessment_id = 'a' AND one.new_version + other.new_version = 7
            AND one.new_version IN (3, 4)
        """,
        "row a version 3",
    ),
    "a head": ("UPDATE assessment_states SET audit_hash = sha256('') WHERE assessment_id = 'a'", "row a version 5"),
    "a checkpoint": (
        """
        UPDATE audit_checkpoints SET document = replace(document::text, '"count":', '"count":1')::json
        WHERE sequence = 1
        """,
        "is not signed by a key",
    ),
    "a checkpoint that is gone": ("DELETE FROM audit_checkpoints WHERE sequence = 1", "those before it are missing"),
}


async def test_each_change_by_plain_sql_is_told_with_its_row(records: Records, installation: Installation) -> None:
    await records.live("a", "b", "c")
    await records.checkpoint()
    await records.author.apply(command("again", "retry", "b"))
    await records.checkpoint()
    assert await records.faults() == []

    untold = {}
    async with installation.database() as database:
        await database.execute("CREATE TABLE kept_trail AS TABLE assessment_audit_trail")
        await database.execute("CREATE TABLE kept_checkpoints AS TABLE audit_checkpoints")
        heads = await database.fetch("SELECT assessment_id, audit_hash FROM assessment_states")
        for name, (statement, told) in TAMPERED.items():
            await database.execute(statement)
            faults = await records.faults()
            if not any(told in fault for fault in faults):
                untold[name] = faults
            await _restore(database, heads)

    assert untold == {}
    assert await records.faults() == []


async def _restore(database: asyncpg.Connection, heads: Sequence[Any]) -> None:
    await database.execute("TRUNCATE assessment_audit_trail, audit_checkpoints")
    await database.execute("INSERT INTO assessment_audit_trail SELECT * FROM kept_trail")
    await database.execute("INSERT INTO audit_checkpoints SELECT * FROM kept_checkpoints")
    await database.executemany("UPDATE assessment_states SET audit_hash = $2 WHERE assessment_id = $1", heads)


async def test_a_chain_that_is_rewritten_whole_is_told_by_the_checkpoint(
    records: Records, installation: Installation
) -> None:
    """All hashes fit each other, and the state; what was signed they do not fit."""
    await records.live("a")
    (checkpoint,) = await records.checkpoint()

    async with installation.database() as database:
        link = None
        for row in await database.fetch("SELECT * FROM assessment_audit_trail ORDER BY new_version"):
            entry = entry_of_row({**row, "traceparent": "forged"})
            own = entry_hash(chained(entry, link))
            await database.execute(
                "UPDATE assessment_audit_trail SET traceparent = $4, previous_hash = $2, row_hash = $3 WHERE id = $1",
                *(row["id"], link, own, "forged"),
            )
            link = own
        await database.execute("UPDATE assessment_states SET audit_hash = $1", link)

    (fault,) = await records.faults()
    assert fault.startswith(f"checkpoint 1 of partition {checkpoint.partition}: the rows at the offsets 0 to 4 are not")
    bundle = await records.bundle("a")
    faults = verify_bundle(bundle, PublicKeys.parse([records.key.public]).verify).faults
    assert any(fault.startswith("row 1 (a version 1)") for fault in faults)


async def test_rows_older_than_the_hashes_are_leaves_and_the_first_after_them_follows_on_the_last(
    records: Records, installation: Installation
) -> None:
    await records.live("a", "b")
    async with installation.database() as database:
        await database.execute("UPDATE assessment_audit_trail SET row_hash = NULL, previous_hash = NULL")
        await database.execute("UPDATE assessment_states SET audit_hash = NULL")

        await records.author.apply(command("again", "retry", "a"), command("on", "start", "a"))
        await records.checkpoint()

        assert await records.faults() == []
        verify = PublicKeys.parse([records.key.public]).verify
        for key, rows in {"a": 7, "b": 5}.items():
            verdict = verify_bundle(await records.bundle(key), verify)
            assert (verdict.faults, verdict.covered) == ([], rows)
        await database.execute(
            "UPDATE assessment_audit_trail SET user_id = 'm' WHERE assessment_id = 'a' AND new_version = 5"
        )
        await database.execute(
            "UPDATE assessment_audit_trail SET user_id = 'm' WHERE assessment_id = 'b' AND new_version = 2"
        )
    told = await records.faults()
    assert told[0] == "row a version 6: the row before is not the one that it follows on"
    assert "checkpoint 1" in told[1]


async def test_a_row_of_an_older_worker_in_between_is_no_fault(records: Records, installation: Installation) -> None:
    """While workers are upgraded one after the other, an old one writes a row without a hash, and leaves the head."""
    await records.live("a")
    async with installation.database() as database:
        head = await database.fetchval("SELECT audit_hash FROM assessment_states")
        await records.author.apply(command("old", "retry", "a"))
        await database.execute(
            "UPDATE assessment_audit_trail SET row_hash = NULL, previous_hash = NULL WHERE new_version = 6"
        )
        await database.execute("UPDATE assessment_states SET audit_hash = $1", head)

    await records.author.apply(command("new", "start", "a"))
    await records.checkpoint()

    assert await records.faults() == []
    verdict = verify_bundle(await records.bundle("a"), PublicKeys.parse([records.key.public]).verify)
    assert (verdict.faults, verdict.covered) == ([], 7)


async def test_what_retention_deletes_takes_no_proof_from_what_stays(
    records: Records, installation: Installation
) -> None:
    """One row that goes is older than the hashes, some are below a checkpoint, and some are not yet."""
    gone, stays = [f"gone-{number}" for number in range(6)], ["a", "b"]
    await records.live(*gone[:3], "a")
    async with installation.database() as database:
        await database.execute(
            "UPDATE assessment_audit_trail SET row_hash = NULL, previous_hash = NULL WHERE command_id = 'gone-0-1'"
        )
        await database.execute("UPDATE assessment_audit_trail SET previous_hash = NULL WHERE command_id = 'gone-0-2'")
    await records.checkpoint()
    await records.live(*gone[3:], "b")
    async with installation.database() as database:
        await database.execute("UPDATE command_offsets SET emitted_offset = next_offset")
        await database.execute(
            "UPDATE assessment_states SET completed_at = 'yesterday' WHERE assessment_id LIKE 'gone%'"
        )

    await _delete(records, datetime.now(UTC) - timedelta(hours=1))
    await records.checkpoint()

    async with installation.database() as database:
        assert await database.fetchval("SELECT count(*) FROM assessment_states") == len(stays)
        assert await database.fetchval("SELECT count(*) FROM audit_deleted_rows") == 5 * len(gone)
    assert await records.faults() == []
    for key in stays:
        verdict = verify_bundle(await records.bundle(key), PublicKeys.parse([records.key.public]).verify)
        assert (verdict.faults, verdict.covered) == ([], 5)


async def _delete(records: Records, before: datetime) -> None:
    maintenance = Maintenance(records.pools.write, records.settings.commands_topic)
    await records.pools.write.execute(
        "INSERT INTO batch_requests (user_id, key, fingerprint, plan) VALUES ('u', 'k', '', '{\"deleted\": 0}')"
    )
    assert (await maintenance.delete_some("u", "k", ended_before=before)).total == 6


async def test_checkpoints_are_kept_again_where_they_are_of_the_rows_that_are_there(records: Records) -> None:
    author, database = records.author, records.pools.write
    first, second = [key for key in map(str, range(40)) if author.partition(key) == 0][:2]
    made = []
    for key in (first, second):
        await records.live(key)
        made += await records.checkpoint()
    store, claim = CheckpointStore(database), author.claims[0]
    before = await database.fetch("SELECT * FROM audit_checkpoints ORDER BY sequence")

    await database.execute("DELETE FROM audit_checkpoints")
    gap = await store.restore(claim, made[1:])
    whole = await store.restore(claim, made)

    assert (gap, whole, await store.restore(claim, made)) == (made[1], None, None)
    assert await database.fetch("SELECT * FROM audit_checkpoints ORDER BY sequence") == before
    await database.execute("DELETE FROM audit_checkpoints")
    await database.execute("UPDATE assessment_audit_trail SET row_hash = $1 WHERE assessment_id = $2", b"x", second)
    assert await store.restore(claim, made) == made[1]
    assert await database.fetchval("SELECT max(sequence) FROM audit_checkpoints") == 1
