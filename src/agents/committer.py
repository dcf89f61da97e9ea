"""Steps 2 to 4 of a batch, for whatever partitions of the worker have one: one Postgres transaction behind fences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from ..models.assessment import AssessmentRecord
from ..models.commands import CREATING, Command, CommandType
from ..models.errors import AssessmentStoreError, UnavailableError
from ..models.retries import RetryPolicy
from ..store.batch import BatchStore, BatchTransaction, FencedError, PartitionClaim
from ..store.encryption import KeyRing
from ..store.postgres import StaleViewError, UnstorableError
from ..store.table import StateTable
from ..telemetry import VERSION_CONFLICTS
from .crash_points import CrashPoint, CrashPoints
from .fold import Decoded, Folded, fold
from .group_commit import GroupCommit

log = structlog.get_logger(__name__)

# While one transaction waits for Postgres, another is decided.
_SIDE_BY_SIDE = 2

# A batch that does not fit Postgres' own rows so many times never will: somebody changed some of them and not others,
# as when a version is set back that the audit trail has already.
_MOST_DECISIONS = 5


class Share(NamedTuple):
    """One partition's part of a transaction."""

    claim: PartitionClaim
    table: StateTable
    batch: Sequence[Decoded]

    @property
    def end(self) -> int:
        """The offset after the last command."""
        return self.batch[-1].offset + 1


class Committer:
    """Decides and commits the batches of all partitions of a worker."""

    def __init__(
        self, store: BatchStore, *, keys: KeyRing, retries: RetryPolicy, batch_size: int, crash_points: CrashPoints
    ) -> None:
        """Take what it needs.

        Args:
            store: the write side.
            keys: that seal payloads; without any nothing is sealed.
            retries: the policy of requests that have none.
            batch_size: the number of commands from which on a transaction is full.
            crash_points: where a fault test makes it die.
        """
        self._store = store
        self._seal = keys.seal_event if keys else None
        self._retries = retries
        self._crash_points = crash_points
        self._group: GroupCommit[Share, Folded] = GroupCommit(
            self._commit_together,
            side_by_side=_SIDE_BY_SIDE,
            weigh=lambda share: len(share.batch),
            most=batch_size,
        )

    async def commit(self, share: Share, *, alone: bool = False) -> Folded:
        """Decide and commit a batch, with those of other partitions that wait, or alone.

        Raises:
            FencedError: somebody else owns the partition; nothing was written.
            UnstorableError: Postgres refuses a value, or its own rows contradict each other; nothing was written.
            UnavailableError: Postgres is away; whether the batch was committed is told by the next claim.
        """
        return await self._group.submit(share, alone=alone)

    async def close(self) -> None:
        """Cut off what is under way; nobody waits for it any more."""
        await self._group.close(UnavailableError("Postgres is not asked any more: the partitions are handed back"))

    async def _commit_together(self, shares: Sequence[Share]) -> Sequence[Folded | Exception]:
        """All in one; where that was refused, each on its own, so that what is wrong with one holds up no other."""
        if len(shares) > 1:
            try:
                return await self._transact(shares, fresh=False)
            except (FencedError, StaleViewError, UnstorableError) as error:
                log.info("batches are committed one by one", partitions=len(shares), why=str(error))
        return [await self._outcome(share) for share in shares]

    async def _outcome(self, share: Share) -> Folded | Exception:
        try:
            return await self._commit_one(share)
        except AssessmentStoreError as error:
            return error

    async def _commit_one(self, share: Share) -> Folded:
        """One batch, decided again from Postgres' own rows where a view was stale."""
        for attempt in itertools.count(1):
            try:
                return (await self._transact([share], fresh=attempt > 1))[0]
            except StaleViewError as error:
                VERSION_CONFLICTS.inc()
                partition = share.claim.partition
                log.warning("the batch is decided again: a view was stale", partition=partition, why=str(error))
                if attempt == _MOST_DECISIONS:
                    raise UnstorableError(f"rows contradict each other: {error}") from error
        raise AssertionError("unreachable")

    async def _transact(self, shares: Sequence[Share], *, fresh: bool) -> list[Folded]:
        async with self._store.transaction({share.claim: share.end for share in shares}) as transaction:
            self._crash_points.reach(CrashPoint.FENCED)
            decided = await self._decide(transaction, shares, fresh=fresh)
            self._crash_points.reach(CrashPoint.FOLDED)
            heads: dict[str, bytes] = {}
            if not fresh:
                for share, folded in zip(shares, decided, strict=True):
                    heads |= share.table.heads([key for key, before in folded.changes.before.items() if before])
            changes = {share.claim.partition: folded.changes for share, folded in zip(shares, decided, strict=True)}
            after = await transaction.write(changes, heads)
            self._crash_points.reach(CrashPoint.WRITTEN)
        for folded in decided:
            folded.heads = {key: after[key] for key in folded.changes.after}
        return decided

    async def _decide(self, transaction: BatchTransaction, shares: Sequence[Share], *, fresh: bool) -> list[Folded]:
        """Load and fold; a refusal is final only when it was decided on Postgres' own row."""
        ids = {header.id for share in shares for decoded in share.batch if (header := decoded.header)}
        known = await transaction.known(ids) if ids else {}
        states = await self._load(transaction, shares, fresh=fresh)
        self._crash_points.reach(CrashPoint.LOADED)
        decided = [fold(share.batch, states, known, transaction.now, self._seal, self._retries) for share in shares]
        refused = {key for folded in decided for key in folded.refused_ids}
        if refused and not fresh:
            truth = await transaction.load(refused)
            stale = [key for key in refused if states.get(key) != truth.get(key)]
            if stale:
                raise StaleViewError(f"a refusal was decided on an old version of {stale[0]}")
        return decided

    async def _load(
        self, transaction: BatchTransaction, shares: Sequence[Share], *, fresh: bool
    ) -> Mapping[str, AssessmentRecord]:
        """The states that the batches touch: from the tables, else from Postgres."""
        states: dict[str, AssessmentRecord] = {}
        missing: set[str] = set()
        for share in shares:
            commands = [decoded.item for decoded in share.batch if isinstance(decoded.item, Command)]
            touched = {command.header.assessment_id for command in commands}
            found = {} if fresh else share.table.bulk_get(touched)
            states |= found
            missing |= touched - found.keys() - (set() if fresh else _created(commands))
        return states | await transaction.load(missing) if missing else states


def _created(commands: Sequence[Command]) -> set[str]:
    """The assessments whose first command in the batch creates them: Postgres will tell if one exists already."""
    first: dict[str, CommandType] = {}
    for command in commands:
        first.setdefault(command.header.assessment_id, command.header.type)
    return {key for key, kind in first.items() if kind in CREATING}
