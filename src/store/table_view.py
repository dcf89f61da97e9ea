"""A look into a RocksDB table of `store/table.py` while its worker has it open."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Options, Rdict

from ..models.errors import AssessmentStoreError

# No assessment id is empty.
POSITION_KEY = b""

# What a table with a time to live has behind each value, and takes off where it is opened as one.
_TIMESTAMP_BYTES = 4

# RocksDB may throw a file away between the moment that a reader learns of it and the moment that he opens it.
_OPENINGS = 5


class UnreadableTableError(AssessmentStoreError):
    """A table cannot be read or written; the message is RocksDB's."""


class TableView:
    """What a table had at one moment, for reading: whoever has it open goes on."""

    def __init__(self, path: Path) -> None:
        """Look at it as it is now.

        Raises:
            UnreadableTableError: it cannot be opened.
        """
        for attempt in range(_OPENINGS):
            try:
                self._db = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
                break
            except Exception as error:  # RocksDB's binding has no class of its own
                if attempt == _OPENINGS - 1:
                    raise UnreadableTableError(str(error)) from error

    @property
    def position(self) -> int:
        """The offset below which every command is reflected; 0 for a new table.

        Raises:
            UnreadableTableError: that cannot be read.
        """
        with table_errors():
            found = values_of(self._db, [""])
            return int(found[""][:-_TIMESTAMP_BYTES]) if found else 0

    def pieces(self, size: int) -> Iterator[dict[str, bytes]]:
        """All entries by assessment id, byte for byte, so many at a time.

        Raises:
            UnreadableTableError: one cannot be read.
        """
        everything: Iterator[tuple[Any, Any]] = self._db.items()
        entries = ((key, value) for key, value in everything if key != POSITION_KEY)
        while True:
            with table_errors():
                piece = list(itertools.islice(entries, size))
            if not piece:
                return
            yield {key.decode(errors="replace"): value[:-_TIMESTAMP_BYTES] for key, value in piece}

    def values(self, assessment_ids: Collection[str]) -> dict[str, bytes]:
        """Those of several assessments.

        Raises:
            UnreadableTableError: one cannot be read.
        """
        with table_errors():
            found = values_of(self._db, assessment_ids)
        return {key: value[:-_TIMESTAMP_BYTES] for key, value in found.items()}

    def close(self) -> None:
        """Let go of the files."""
        self._db.close()


@contextmanager
def table_errors() -> Iterator[None]:
    """Let whatever RocksDB's binding raises be an `UnreadableTableError`: it has no class of its own for most."""
    try:
        yield
    except Exception as error:
        raise UnreadableTableError(str(error)) from error


def values_of(table: Rdict, assessment_ids: Collection[str]) -> dict[str, bytes]:
    """Those of several entries that are there, as they are stored."""
    values: list[Any] = (table.get([key.encode() for key in assessment_ids]) or []) if assessment_ids else []
    return {key: value for key, value in zip(assessment_ids, values, strict=True) if value is not None}
