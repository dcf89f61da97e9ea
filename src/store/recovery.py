"""What a recovery asks of Postgres, beside the batches that it writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from ..models.assessment import AssessmentRecord
from ..models.deletions import Deletion
from ..models.letter_marks import LetterMarks
from .maintenance import delete_assessments
from .postgres import Pool, postgres_errors, record_from_row
from .queries import QUERIES
from .rows import columns, deletion_from_row, letter_marks_from_row, letter_marks_row

_CHUNK = 1000


class RecoveryStore:
    """Postgres as a recovery sees it."""

    def __init__(self, pool: Pool, commands_topic: str) -> None:
        self._pool = pool
        self._topic = commands_topic

    async def positions(self) -> dict[int, int]:
        """How far each partition is applied; none in an empty database.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["recovered_positions"], self._topic)
        return {row["partition"]: row["next_offset"] for row in rows}

    async def published(self) -> dict[int, int]:
        """How far each partition is published, as far as Postgres has heard.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["recovered_positions"], self._topic)
        return {row["partition"]: row["emitted_offset"] for row in rows}

    async def producers(self) -> set[str]:
        """The names of all producers that may have something under way.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["named_producers"], self._topic)
        return {row["producer"] for row in rows}

    async def name_producer(self, name: str) -> None:
        """Name a producer that will publish, so that whoever claims a partition fences it.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["name_producer"], self._topic, name)

    async def has_assessments(self) -> bool:
        """Whether there is any assessment.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            return bool(await self._pool.fetchval(QUERIES["has_assessments"]))

    async def count(self) -> int:
        """How many assessments there are.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            return int(await self._pool.fetchval(QUERIES["count_assessments"]))

    async def restore_deletions(self, partition: int, deletions: Sequence[Deletion]) -> None:
        """Keep what was deleted of a partition, and delete what of it is there.

        Raises:
            UnavailableError: Postgres is away.
        """
        for first in range(0, len(deletions), _CHUNK):
            piece = deletions[first : first + _CHUNK]
            ids, offsets, *rest = columns(map(_deletion_row, piece))
            leaves = [(place, bytes.fromhex(of), item.deleted_at) for item in piece for place, of in item.rows]
            with postgres_errors():
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(QUERIES["restore_deletions"], partition, ids, offsets, *rest)
                    if leaves:
                        await connection.execute(QUERIES["restore_row_hashes"], partition, *columns(leaves))
                    found = await connection.fetch(QUERIES["deleted_but_there"], partition, ids, offsets)
                    if found:
                        there = [row["assessment_id"] for row in found]
                        await delete_assessments(connection, self._topic, there)

    async def forget_refusals_of_accepted(self) -> None:
        """Forget the refusals of commands whose ids were used again by one that was accepted.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["forget_refusals_of_accepted"])

    async def restore_letter_marks(self, told: Iterable[LetterMarks]) -> None:
        """Mark dead letters with what became of them, of each with what was told last.

        Raises:
            UnavailableError: Postgres is away.
        """
        last = list({marks.place: marks for marks in told}.values())
        for first in range(0, len(last), _CHUNK):
            rows = map(letter_marks_row, last[first : first + _CHUNK])
            with postgres_errors():
                await self._pool.execute(QUERIES["restore_letter_marks"], *columns(rows))

    async def letter_marks(self) -> AsyncIterator[Sequence[LetterMarks]]:
        """What became of dead letters, some at a time.

        Raises:
            UnavailableError: Postgres is away.
        """
        last = 0
        while True:
            with postgres_errors():
                rows = await self._pool.fetch(QUERIES["marked_dead_letters"], last, _CHUNK)
            if not rows:
                return
            last = rows[-1]["id"]
            yield [letter_marks_from_row(row) for row in rows]

    async def deletions(self, partition: int) -> AsyncIterator[Sequence[Deletion]]:
        """What was deleted of a partition, some at a time.

        Raises:
            UnavailableError: Postgres is away.
        """
        last = 0
        while True:
            with postgres_errors():
                rows = await self._pool.fetch(QUERIES["deletions_of_partition"], partition, last, _CHUNK)
            if not rows:
                return
            last = rows[-1]["id"]
            yield [deletion_from_row(row) for row in rows]

    async def outbox_end(self, partition: int, first: int, events: int) -> int | None:
        """Above so many events of a partition from an offset on; nothing where there is none.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            end: int | None = await self._pool.fetchval(QUERIES["outbox_place"], partition, first, events)
        return end

    async def states(self) -> AsyncIterator[Sequence[AssessmentRecord]]:
        """All assessments, some at a time.

        Raises:
            UnavailableError: Postgres is away.
        """
        last = ""
        while True:
            with postgres_errors():
                rows = await self._pool.fetch(QUERIES["states_after"], last, _CHUNK)
            if not rows:
                return
            last = rows[-1]["assessment_id"]
            yield [record_from_row(row) for row in rows]

    async def partitions_of(self, states: Sequence[AssessmentRecord]) -> dict[str, int]:
        """The command partition of each assessment, where a command made it what it is.

        Raises:
            UnavailableError: Postgres is away.
        """
        keys, versions = [state.assessment_id for state in states], [state.version for state in states]
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["partitions_of"], keys, versions)
        return {row["assessment_id"]: row["command_partition"] for row in rows if row["command_partition"] is not None}


def _deletion_row(item: Deletion) -> tuple[Any, ...]:
    """As `restore_deletions` takes it: Postgres knows no list of lists of different lengths, but a text for each."""
    offsets = ",".join(str(offset) for offset, _ in item.rows)
    return item.assessment_id, item.last_offset, item.position, item.deleted_at, f"{{{offsets}}}"
