"""Imports of the old system's exports in Postgres: how far each is, what became of its commands, what was put aside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

import orjson

from ..models.assessment import AssessmentRecord
from .encryption import KeyRing
from .postgres import Pool, postgres_errors
from .queries import QUERIES
from .rows import columns, records

_IDS_AT_ONCE = 5000


class ImportCounts(NamedTuple):
    """What became of the lines of an export."""

    imported: int = 0
    repeated: int = 0
    """Were in the store already, and are the same."""
    divergent: int = 0
    """Were in the store already, and are not the same."""
    quarantined: int = 0

    def plus(self, other: ImportCounts) -> ImportCounts:
        """Both together."""
        return ImportCounts(*(mine + yours for mine, yours in zip(self, other, strict=True)))


class ImportPosition(NamedTuple):
    """How far an import is."""

    lines: int
    position: int
    """The byte of the file to go on at."""
    counts: ImportCounts


class ImportOutcome(NamedTuple):
    """What became of an import command."""

    assessment_id: str
    fingerprint: bytes
    """Of the first command that had the id."""
    code: str | None
    """Why it was refused, if it was."""
    message: str | None


class Quarantined(NamedTuple):
    """A line that is put aside."""

    assessment_id: str | None
    origin: str
    """The file and the line."""
    reason: str
    line: bytes
    """As it stands in the file."""


class QuarantinedNote(NamedTuple):
    """The same without the line."""

    assessment_id: str | None
    origin: str
    reason: str
    created_at: datetime


class LegacyImports:
    """What Postgres knows of imports."""

    def __init__(self, pool: Pool, keys: KeyRing) -> None:
        self._pool = pool
        self._keys = keys

    async def begin(self, digest: bytes, name: str, total: int) -> ImportPosition:
        """Begin the import of a file, or go on with it.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            (row,) = await self._pool.fetch(QUERIES["begin_import"], digest, name, total)
        lines, position, *counts = row.values()
        return ImportPosition(lines, position, ImportCounts(*counts))

    async def advance(self, digest: bytes, position: int, lines: int, counts: ImportCounts) -> None:
        """Keep that so many more lines are done, up to a byte.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["advance_import"], digest, position, lines, *counts)

    async def finish(self, digest: bytes) -> None:
        """The import is done."""
        with postgres_errors():
            await self._pool.execute(QUERIES["finish_import"], digest)

    async def outcomes(self, command_ids: Collection[str]) -> dict[str, ImportOutcome]:
        """What became of commands, as far as they are applied."""
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["import_outcomes"], list(command_ids))
        return {
            row["command_id"]: ImportOutcome(
                row["assessment_id"], row["command_fingerprint"] or b"", row["code"], row["message"]
            )
            for row in rows
        }

    async def states(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        """Those of several assessments that the store has, with their payloads clear."""
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["load_states"], list(assessment_ids))
        return {key: self._keys.open_record(state) for key, state in records(rows).items()}

    async def ids(self) -> AsyncIterator[str]:
        """The ids of all assessments in the store."""
        last = ""
        while True:
            with postgres_errors():
                rows = await self._pool.fetch(QUERIES["ids_after"], last, _IDS_AT_ONCE)
            for row in rows:
                yield row["assessment_id"]
            if len(rows) < _IDS_AT_ONCE:
                return
            last = rows[-1]["assessment_id"]

    async def quarantine(self, lines: Sequence[Quarantined]) -> None:
        """Put lines aside; twice does no harm."""
        if lines:
            rows = {(digest := sha256(item.line).digest()): self._row(digest, item) for item in lines}
            with postgres_errors():
                await self._pool.execute(QUERIES["quarantine"], *columns(rows.values()))

    async def release(self, assessment_ids: Collection[str]) -> None:
        """What was put aside of these assessments is in the store by now."""
        with postgres_errors():
            await self._pool.execute(QUERIES["release_quarantined"], list(assessment_ids))

    async def quarantined(self, limit: int) -> list[QuarantinedNote]:
        """What is put aside, oldest first."""
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["quarantined"], limit)
        return [QuarantinedNote(*row.values()) for row in rows]

    def _row(self, digest: bytes, item: Quarantined) -> tuple[bytes, str | None, str, str, str]:
        text = item.line.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
        name = None if item.assessment_id is None else item.assessment_id.replace("\x00", "")
        value = self._keys.seal(name or "", {"line": text})
        # As JSON in JSON it may hold what `jsonb` refuses, such as a null byte.
        return digest, name, item.origin, item.reason.replace("\x00", "\\x00"), _without_null(value)


def _without_null(value: object) -> str:
    return orjson.dumps(value).decode().replace("\\u0000", "\\\\u0000")
