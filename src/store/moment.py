"""Postgres as it is at one moment, however long somebody looks at it, for comparisons."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg
from pydantic import ValidationError

from ..models.base import JsonObject
from ..models.chain import entry_of_row
from .encryption import KeyRing
from .postgres import Connection, Pool, postgres_errors, record_from_row
from .queries import QUERIES
from .truth import Copy, Judgement, Truth, Verdict, judge

# To count a large table takes longer than any statement of the store itself may.
_COUNTING_SECONDS = 600


@asynccontextmanager
async def one_moment(pool: Pool) -> AsyncIterator[Moment]:
    """Look at it as it is now.

    Raises:
        UnavailableError: Postgres is away.
    """
    with postgres_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            yield Moment(connection)


async def judge_all(pool: Pool, copies: Collection[Copy], keys: KeyRing) -> dict[str, Judgement]:
    """Judge copies of one cache by Postgres as it is now.

    Raises:
        UnavailableError: Postgres is away.
    """
    async with one_moment(pool) as moment:
        truths = await moment.states([copy.assessment_id for copy in copies])
        judged = {copy.assessment_id: judge(copy, truths[copy.assessment_id], keys) for copy in copies}
        odd = [copy for copy in copies if judged[copy.assessment_id].verdict is not Verdict.EQUAL]
        await moment.add_trails({copy.assessment_id: truths[copy.assessment_id] for copy in odd})
    return judged | {copy.assessment_id: judge(copy, truths[copy.assessment_id], keys) for copy in odd}


class Moment:
    """What there is; nothing that is committed meanwhile is seen."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def states(self, assessment_ids: Collection[str]) -> dict[str, Truth]:
        """Assessments, without their trails."""
        rows = await self._connection.fetch(QUERIES["load_states"], list(assessment_ids))
        return {key: Truth() for key in assessment_ids} | {row["assessment_id"]: _truth(row) for row in rows}

    async def states_after(self, assessment_id: str, most: int) -> dict[str, Truth]:
        """The next assessments by their ids, without their trails."""
        rows = await self._connection.fetch(QUERIES["states_after"], assessment_id, most)
        return {row["assessment_id"]: _truth(row) for row in rows}

    async def add_trails(self, truths: Mapping[str, Truth]) -> None:
        """Add what was of assessments before."""
        if not truths:
            return
        rows: dict[str, list[asyncpg.Record]] = {}
        for row in await self._connection.fetch(QUERIES["trails_of"], list(truths)):
            rows.setdefault(row["assessment_id"], []).append(row)
        for key, found in rows.items():
            truths[key].rows = found
        for key in await self.deletions(truths.keys()):
            truths[key].deleted = True

    async def deletions(self, assessment_ids: Collection[str]) -> dict[str, int]:
        """The last deleted offsets of those that retention deleted."""
        rows = await self._connection.fetch(QUERIES["deletions_of"], list(assessment_ids)) if assessment_ids else []
        return {row["assessment_id"]: row["last_offset"] for row in rows}

    async def present(self, assessment_ids: Collection[str]) -> set[str]:
        """Those that there are."""
        rows = await self._connection.fetch(QUERIES["present_ids"], list(assessment_ids))
        return {row["assessment_id"] for row in rows}

    async def search_owners(self, assessment_ids: Collection[str]) -> dict[str, str | None]:
        """The owners of those that search knows, as it has them."""
        rows = await self._connection.fetch(QUERIES["search_rows_of"], list(assessment_ids))
        return {row["assessment_id"]: row["owner"] for row in rows}

    async def entries(self, partition: int, first: int, end: int) -> dict[int, JsonObject]:
        """The audit rows of a range of offsets, as they are hashed, without their links."""
        rows = await self._connection.fetch(QUERIES["trail_rows_between"], partition, first, end)
        return {row["command_offset"]: entry_of_row(row) for row in rows}

    async def events_from(
        self, assessment_ids: Collection[str], partition: int, first: int
    ) -> Sequence[tuple[str, str]]:
        """Events of assessments from an offset on: id and JSON of each, in order."""
        rows = await self._connection.fetch(QUERIES["later_events"], list(assessment_ids), partition, first)
        return [(row["assessment_id"], row["value"]) for row in rows]

    async def rows_below(self, partition: int, offset: int) -> int:
        """How many audit rows are older."""
        return int(await self._connection.fetchval(QUERIES["count_trail_rows_below"], partition, offset))

    async def older_than(self, begins: Mapping[int, int], assessment_ids: Collection[str]) -> set[str]:
        """Those that have an audit row of no partition, or below where its partition's log begins."""
        partitions, offsets = list(begins), list(begins.values())
        rows = await self._connection.fetch(QUERIES["rows_before_log"], list(assessment_ids), partitions, offsets)
        return {row["assessment_id"] for row in rows}

    async def wrong_counters(self) -> list[tuple[str, int, int]]:
        """Counters that are not what the states come to: type/source/priority/state, expected, found."""
        await self._connection.execute(f"SET LOCAL statement_timeout = '{_COUNTING_SECONDS}s'")
        rows = await self._connection.fetch(QUERIES["wrong_counters"], timeout=_COUNTING_SECONDS)
        return [("/".join(map(str, kind)), expected, found) for *kind, expected, found in rows]

    async def created(self, partition: int, first: int, end: int, most: int) -> list[tuple[str, int]]:
        """Assessments that were created in a range of offsets, and where."""
        rows = await self._connection.fetch(QUERIES["created_between"], partition, first, end, most)
        return [(row["assessment_id"], row["command_offset"]) for row in rows]

    async def trail_end(self, partition: int) -> int:
        """The last command of a partition that was accepted; 0 where none was."""
        return await self._connection.fetchval(QUERIES["trail_end"], partition) or 0


def _truth(row: asyncpg.Record) -> Truth:
    """A row of `assessment_states`, whatever somebody made of it."""
    try:
        return Truth(record_from_row(row), head=row["audit_hash"])
    except ValidationError as error:
        return Truth(error=f"a row that cannot be read: {error.errors()[0]['msg']}", head=row["audit_hash"])
