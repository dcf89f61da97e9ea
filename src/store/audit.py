"""The audit trail for auditors: bundles, lists of checkpoints, and the check of all that is stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg

from ..models.base import JsonObject
from ..models.bundles import BUNDLE, CHECKPOINTS, name_of, seal_of, sealed_message
from ..models.chain import chained, entry_hash, entry_of_row, wire_time
from ..models.checkpoints import Checkpoint, Verifier
from ..models.errors import AssessmentStoreError
from ..models.merkle import Frontier, Prover
from ..models.sealed import UnreadableError
from .checkpoints import Leaf, Standing, read_leaves
from .encryption import NO_KEYS, KeyRing
from .postgres import Connection, Pool, postgres_errors
from .queries import QUERIES
from .signing import SigningKey

# Rows that are read at once: some megabytes.
_CHUNK = 2000

# Faults that are told of one store: whoever finds so many looks for a cause and not for the next one.
MOST_FAULTS = 100

Report = Callable[[str], None]


class NoTrailError(AssessmentStoreError):
    """There is no such assessment, and no trail of one."""


class AuditReader:
    """Postgres as an auditor sees it: he needs to read five tables, and writes nothing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def bundle(self, assessment_id: str, key: SigningKey | None) -> JsonObject:
        """All that it takes to check an assessment's trail elsewhere.

        Args:
            assessment_id: of the assessment.
            key: that seals the bundle; without one nothing says where the trail ends.

        Raises:
            NoTrailError: there is none.
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                bundle = await _bundle(connection, assessment_id)
        return _sealed(bundle, key)

    async def checkpoints(self, partition: int | None, key: SigningKey | None) -> JsonObject:
        """All checkpoints, of one partition or of all.

        Args:
            partition: of the commands topic; None is all.
            key: that seals the list; without one nothing says where it ends.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["all_checkpoints"], partition)
        documents = [Checkpoint.from_json(row["document"]).to_wire() for row in rows]
        now = wire_time(datetime.now(UTC))
        return _sealed({"kind": CHECKPOINTS, "exportedAt": now, "checkpoints": documents, "seal": None}, key)

    async def check(
        self, verify: Verifier, report: Report | None = None, keys: KeyRing = NO_KEYS
    ) -> AsyncGenerator[str, None]:
        """Walk all chains and all checkpoints, and say what is wrong.

        Args:
            verify: signatures of checkpoints.
            report: is told how far it is.
            keys: that encrypted payloads are opened with; without any, none is.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                async for fault in _check_chains(connection, report, keys):
                    yield fault
                async for fault in _check_trees(connection, verify, report):
                    yield fault


def _sealed(exported: JsonObject, key: SigningKey | None) -> JsonObject:
    return exported if key is None else exported | {"seal": seal_of(key.id, key.sign(sealed_message(exported)))}


async def _bundle(connection: Connection, assessment_id: str) -> JsonObject:
    rows = await connection.fetch(QUERIES["audit_rows"], assessment_id)
    state = await connection.fetchrow(QUERIES["audit_end"], assessment_id)
    if state is None:
        raise NoTrailError(f"there is no assessment {assessment_id}: it never was, or retention deleted it")
    proofs = _Proofs(connection)
    wanted = [(row, await proofs.of(row["command_partition"], row["command_offset"])) for row in rows]
    hashed = state["audit_hash"]
    return {
        "kind": BUNDLE,
        "assessmentId": assessment_id,
        "exportedAt": wire_time(datetime.now(UTC)),
        "state": {"version": state["version"], "auditHash": None if hashed is None else hashed.hex()},
        "rows": [{"entry": _entry(row), "hash": _hex(row["row_hash"]), "proof": proof} for row, proof in wanted],
        "checkpoints": [checkpoint.to_wire() for checkpoint in await proofs.checkpoints()],
        "seal": None,
    }


def _entry(row: asyncpg.Record) -> JsonObject:
    """What is hashed of a row: with its place in the chain, where it has one."""
    entry = entry_of_row(row)
    return entry if row["row_hash"] is None else chained(entry, row["previous_hash"])


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


class _Proofs:
    """The proofs of one bundle: each checkpoint's rows are read once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._trees: dict[tuple[int, int], tuple[Checkpoint, Prover, dict[int, int]]] = {}
        self._partitions: set[int] = set()

    async def of(self, partition: int | None, offset: int | None) -> JsonObject | None:
        """The proof of the row at an offset, once a checkpoint covers it."""
        if partition is None or offset is None:
            return None
        self._partitions.add(partition)
        found = await self._connection.fetchrow(QUERIES["covering_checkpoint"], partition, offset)
        if found is None:
            return None
        sequence = found["sequence"]
        if (partition, sequence) not in self._trees:
            self._trees[partition, sequence] = await self._tree(partition, Standing.from_row(found))
        checkpoint, prover, indexes = self._trees[partition, sequence]
        if offset not in indexes or checkpoint.count != prover.end:
            # The rows are not those that were signed: the bundle is made all the same, and its check tells.
            return None
        index = indexes[offset]
        return {"checkpoint": sequence, "index": index, "path": [node.hex() for node in prover.path(index)]}

    async def checkpoints(self) -> list[Checkpoint]:
        """Those that the proofs name, and the newest one of each partition."""
        found = {key: tree[0] for key, tree in self._trees.items()}
        for partition in self._partitions:
            last = Standing.from_row(await self._connection.fetchrow(QUERIES["last_checkpoint"], partition))
            if last.checkpoint is not None:
                found[partition, last.checkpoint.sequence] = last.checkpoint
        return [found[key] for key in sorted(found)]

    async def _tree(self, partition: int, standing: Standing) -> tuple[Checkpoint, Prover, dict[int, int]]:
        checkpoint = standing.checkpoint
        assert checkpoint is not None  # noqa: S101 - it was read from a row
        row = await self._connection.fetchrow(QUERIES["checkpoint_at"], partition, checkpoint.sequence - 1)
        before = Standing.from_row(row).frontier
        leaves = await read_leaves(self._connection, partition, checkpoint.first_offset, checkpoint.end_offset, None)
        indexes = {leaf.offset: before.count + place for place, leaf in enumerate(leaves)}
        return checkpoint, Prover(before, [leaf.hash for leaf in leaves]), indexes


async def _check_chains(connection: Connection, report: Report | None, keys: KeyRing) -> AsyncIterator[str]:
    """Every row by its content, its predecessor, and the state at its end."""
    chain, count = _Chain(), 0
    async for row in connection.cursor(QUERIES["all_audit_rows"], prefetch=_CHUNK):
        for fault in chain.add(row):
            yield fault
        if keys and (unreadable := _unreadable(row, keys)):
            yield unreadable
        count += 1
        if report and count % (50 * _CHUNK) == 0:
            report(f"{count:,} rows")
    for fault in chain.end():
        yield fault
    if report:
        report(f"{count:,} rows: all chains walked")
    for row in await connection.fetch(QUERIES["states_without_rows"], MOST_FAULTS):
        yield f"row {row['assessment_id']} version {row['version']}: the state ends with a hash, and there are no rows"


def _unreadable(row: asyncpg.Record, keys: KeyRing) -> str | None:
    """What keeps a row's payload from being read: a hash covers its digest, and not its cipher text."""
    try:
        if row["details"] is not None:
            keys.open_event_strictly(row["details"].encode())
    except UnreadableError as error:
        return f"row {row['assessment_id']} version {row['new_version']}: {error}"
    return None


class _Chain:
    """The chain of one assessment after the other."""

    def __init__(self) -> None:
        self._last: Any = None
        self._link: bytes | None = None
        self._chained = False

    def add(self, row: asyncpg.Record) -> list[str]:
        """Look at the next row."""
        faults = []
        if self._last is None or self._last["assessment_id"] != row["assessment_id"]:
            faults += self.end()
            self._link, self._chained = None, False
        entry = _entry(row)
        own, name = entry_hash(entry), f"row {name_of(entry)}"
        if row["row_hash"] is not None:
            if own != row["row_hash"]:
                faults.append(f"{name}: its content has the hash {own.hex()}, it says {row['row_hash'].hex()}")
            if row["previous_hash"] != self._link:
                faults.append(f"{name}: the row before is not the one that it follows on")
            self._chained = True
        elif row["previous_hash"] is not None:
            faults.append(f"{name}: its hash is missing")
        if row["row_hash"] is not None or not self._chained:
            self._link = row["row_hash"] or own
        self._last = row
        return faults

    def end(self) -> list[str]:
        """Look at where the trail ended."""
        last = self._last
        link = self._link if self._chained else None
        if last is None or last["audit_hash"] == link:
            return []
        name = f"row {last['assessment_id']} version {last['new_version']}"
        return [f"{name}: the rows end here, the state (version {last['version']}) ends with another hash"]


async def _check_trees(connection: Connection, verify: Verifier, report: Report | None) -> AsyncIterator[str]:
    """Every partition's rows against its checkpoints, one checkpoint's rows at a time."""
    before, frontier = Standing(None, Frontier()), Frontier()
    for row in await connection.fetch(QUERIES["all_checkpoints"], None):
        this = Standing.from_row(row)
        checkpoint = this.checkpoint
        assert checkpoint is not None  # noqa: S101 - it was read from a row
        if before.checkpoint is None or before.checkpoint.partition != checkpoint.partition:
            before, frontier = Standing(None, Frontier()), Frontier()
        name = f"checkpoint {checkpoint.sequence} of partition {checkpoint.partition}"
        for fault in _check_checkpoint(name, before.checkpoint, checkpoint, verify):
            yield fault
        leaves = await read_leaves(connection, checkpoint.partition, before.end_offset, checkpoint.end_offset, None)
        frontier = frontier.add([leaf.hash for leaf in leaves])
        if (frontier.count, frontier.root) != (checkpoint.count, checkpoint.root):
            yield f"{name}: {_difference(leaves, frontier, before, checkpoint)}"
        # Go on from what was signed, so that one fault is told once.
        before, frontier = this, this.frontier
        if this.frontier.root != checkpoint.root:
            yield f"{name}: what the next one goes on from is not what was signed"
        if report:
            report(f"{name}: {checkpoint.count:,} rows")


def _check_checkpoint(name: str, before: Checkpoint | None, this: Checkpoint, verify: Verifier) -> list[str]:
    faults = []
    if not verify(this.key_id, this.signature, this.message):
        faults.append(f"{name}: it is not signed by a key that is trusted (it names {this.key_id})")
    if this.sequence != (1 if before is None else before.sequence + 1):
        faults.append(f"{name}: those before it are missing")
    elif this.previous_hash != (None if before is None else before.hash):
        faults.append(f"{name}: the checkpoint before is another than the one that it names")
    return faults


def _difference(leaves: list[Leaf], found: Frontier, before: Standing, signed: Checkpoint) -> str:
    where = f"the rows at the offsets {before.end_offset} to {signed.end_offset - 1}"
    if found.count != signed.count:
        return f"{where} are {len(leaves)}, it was signed over {signed.count - before.frontier.count}"
    return f"{where} are not those that it was signed over"
