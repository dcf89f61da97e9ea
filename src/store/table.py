"""The partition owner's fast view: one RocksDB for each command partition, a cache that knows its position.

A Faust `Table` writes a changelog record for each change; this one writes a batch for each commit and is caught up
from the audit trail instead (docs/adr/0002).
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteBufferManager

from ..models.assessment import UNCHANGING_STATES, AssessmentRecord
from ..models.errors import AssessmentStoreError
from .copies import read_copies, read_copy

# All tables of a process together: by default each has a cache and buffers of its own, without a useful bound.
_MEMORY_BYTES = 64 * 1024 * 1024
_BUFFERS_BYTES = 32 * 1024 * 1024
_WRITE_BUFFER_BYTES = 4 * 1024 * 1024

# Entries that nobody touched for so long are dropped when RocksDB compacts: the table holds the present, not history.
_TTL_SECONDS = 7 * 24 * 3600

# JSON bytes of the states that are kept as objects too: to parse one costs more than all else in reading it.
_RECENT_BYTES = 1024 * 1024

# A state may have the hash of its last audit row behind it, as one more member of its JSON, which readers of states
# pass over: a worker from before there were hashes reads the same table.
_HEAD = b',"auditHash":"%b"}'
_HEAD_BYTES = len(_HEAD % bytes(64))
_HEAD_BEGIN = _HEAD.partition(b"%")[0]

# No assessment id is empty.
_POSITION_KEY = b""

# What a table with a time to live has behind each value, and takes off where it is opened as one.
_TIMESTAMP_BYTES = 4

# RocksDB may throw a file away between the moment that a reader learns of it and the moment that he opens it.
_OPENINGS = 5


class StateTable:
    """States of one partition by assessment id, and the offset below which they reflect every command."""

    def __init__(self, path: Path) -> None:
        """Open the table, or make a new one in the place of one that cannot be read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._db = self._open()
        self._recent = _Recent()

    @property
    def position(self) -> int | None:
        """The offset below which every command is reflected; nothing for a new table."""
        value = self._db.get(_POSITION_KEY)
        return int(value) if value is not None and value.isdigit() else None

    def get(self, assessment_id: str) -> AssessmentRecord | None:
        """One state, where the table has it."""
        value = self._db.get(assessment_id.encode())
        return None if value is None else read_copy(assessment_id, value)

    def bulk_get(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        """Those of several states that the table has."""
        found = self._recent.bulk_get(assessment_ids)
        return found | self._stored([key for key in assessment_ids if key not in found])

    def _stored(self, keys: list[str]) -> dict[str, AssessmentRecord]:
        return read_copies(self.values(keys))

    def values(self, assessment_ids: Collection[str]) -> dict[str, bytes]:
        """What the table itself has of several assessments, byte for byte."""
        return _values(self._db, assessment_ids)

    def heads(self, assessment_ids: Collection[str]) -> dict[str, bytes]:
        """The hash of the last audit row of several assessments, where the table has it."""
        found = self._recent.heads(assessment_ids)
        keys = [key for key in assessment_ids if key not in found]
        stored = {key: head_of(value) for key, value in self.values(keys).items()}
        return found | {key: head for key, head in stored.items() if head is not None}

    def apply(
        self,
        states: Mapping[str, bytes],
        *,
        position: int,
        records: Mapping[str, AssessmentRecord] | None = None,
        heads: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write changed states and the position that the table reflects then, in one write batch.

        Args:
            states: as JSON.
            position: the offset below which every command is reflected.
            records: the same states as objects, where the next commands are likely to ask for them.
            heads: the hashes of their last audit rows, where they are known.
        """
        records, heads = records or {}, heads or {}
        batch = WriteBatch(raw_mode=True)
        for key, value in states.items():
            head = heads.get(key)
            batch.put(key.encode(), value if head is None else value[:-1] + _HEAD % head.hex().encode())
        batch.put(_POSITION_KEY, str(position).encode())
        self._db.write(batch)
        for key, value in states.items():
            self._recent.set(key, records.get(key), len(value), heads.get(key))

    def evict(self, assessment_ids: Collection[str]) -> None:
        """Forget assessments; where one is there again, it is loaded from Postgres when it is first needed."""
        batch = WriteBatch(raw_mode=True)
        for key in assessment_ids:
            batch.delete(key.encode())
            self._recent.set(key, None, 0)
        self._db.write(batch)

    def clear(self) -> None:
        """Start empty: every state is loaded from Postgres again when it is first needed."""
        self._db.close()
        self._recent = _Recent()
        shutil.rmtree(self._path)
        self._db = self._open()

    def close(self) -> None:
        """Let go of the files."""
        self._db.close()

    def _open(self) -> Rdict:
        options = bounded_options()
        options.set_max_background_jobs(1)
        return Rdict(str(self._path), options, access_type=AccessType.with_ttl(_TTL_SECONDS))


def bounded_options() -> Options:
    """How to open a table whose caches and buffers share the bound of all tables of this process."""
    cache, buffers = _shared_memory()
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_manager(buffers)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(cache)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_bloom_filter(10, block_based=False)
    options.set_block_based_table_factory(blocks)
    return options


@lru_cache(maxsize=1)
def _shared_memory() -> tuple[Cache, WriteBufferManager]:
    """What tables read lately and have not written out yet, in one budget."""
    cache = Cache(_MEMORY_BYTES)
    return cache, WriteBufferManager.new_write_buffer_manager_with_cache(_BUFFERS_BYTES, False, cache)


class UnreadableTableError(AssessmentStoreError):
    """A table cannot be read; the message is RocksDB's."""


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
        with _table_errors():
            found = _values(self._db, [""])
            return int(found[""][:-_TIMESTAMP_BYTES]) if found else 0

    def pieces(self, size: int) -> Iterator[dict[str, bytes]]:
        """All entries by assessment id, byte for byte, so many at a time.

        Raises:
            UnreadableTableError: one cannot be read.
        """
        everything: Iterator[tuple[Any, Any]] = self._db.items()
        entries = ((key, value) for key, value in everything if key != _POSITION_KEY)
        while True:
            with _table_errors():
                piece = list(itertools.islice(entries, size))
            if not piece:
                return
            yield {key.decode(errors="replace"): value[:-_TIMESTAMP_BYTES] for key, value in piece}

    def values(self, assessment_ids: Collection[str]) -> dict[str, bytes]:
        """Those of several assessments.

        Raises:
            UnreadableTableError: one cannot be read.
        """
        with _table_errors():
            found = _values(self._db, assessment_ids)
        return {key: value[:-_TIMESTAMP_BYTES] for key, value in found.items()}

    def close(self) -> None:
        """Let go of the files."""
        self._db.close()


@contextmanager
def _table_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UnreadableTableError(str(error)) from error


def _values(table: Rdict, assessment_ids: Collection[str]) -> dict[str, bytes]:
    values: list[Any] = (table.get([key.encode() for key in assessment_ids]) or []) if assessment_ids else []
    return {key: value for key, value in zip(assessment_ids, values, strict=True) if value is not None}


def head_of(value: bytes) -> bytes | None:
    """The hash of the last audit row that an entry has behind its state."""
    if not value[-_HEAD_BYTES:].startswith(_HEAD_BEGIN):
        return None
    return bytes.fromhex(value[len(_HEAD_BEGIN) - _HEAD_BYTES : -2].decode())


class _Recent:
    """The states that changed last, as objects, within a bound."""

    def __init__(self) -> None:
        self._records: dict[str, tuple[AssessmentRecord, int, bytes | None]] = {}
        self._bytes = 0

    def bulk_get(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        records = self._records
        return {key: records[key][0] for key in assessment_ids if key in records}

    def heads(self, assessment_ids: Collection[str]) -> dict[str, bytes]:
        records = self._records
        return {key: head for key in assessment_ids if key in records and (head := records[key][2]) is not None}

    def set(self, key: str, record: AssessmentRecord | None, size: int, head: bytes | None = None) -> None:
        """Replace what was kept; the state that changed longest ago goes first."""
        records = self._records
        if key in records:
            self._bytes -= records.pop(key)[1]
        if record is None or record.state in UNCHANGING_STATES:
            return
        records[key] = record, size, head
        self._bytes += size
        while self._bytes > _RECENT_BYTES:
            self._bytes -= records.pop(next(iter(records)))[1]
