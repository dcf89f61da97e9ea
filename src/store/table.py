"""The partition owner's fast view: one RocksDB for each command partition, a cache that knows its position.

A Faust `Table` writes a changelog record for each change; this one writes a batch for each commit and is caught up
from the audit trail instead (docs/adr/0002).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteBufferManager

from ..models.assessment import UNCHANGING_STATES, AssessmentRecord
from ..telemetry import DISCARDED_TABLES
from .copies import read_copies, read_copy
from .table_view import POSITION_KEY, UnreadableTableError, table_errors, values_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

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

# What RocksDB says of a table that another process has open, or this one: it is not to be thrown away.
_IN_USE = ("While lock file: ", "lock hold by current process")

# How often a table is tried that cannot be written, as on a full disk: each time is a folder deleted and made.
_PAUSE_SECONDS = 5.0


class StateTable:
    """States of one partition by assessment id, and the offset below which they reflect every command.

    It is a cache: one that the disk has spoilt, or has no room for, is thrown away and begins empty, so that what it
    had is loaded from Postgres. While no new one can be made, there is none: nothing is found, and nothing is kept.
    """

    def __init__(self, path: Path) -> None:
        """Open the table, or make a new one in the place of one that cannot be read.

        Raises:
            UnreadableTableError: another process has it open.
        """
        self._path = path
        self._db: Rdict | None = None
        self._recent = _Recent()
        self._next_try = 0.0
        try:
            self._db = self._open()
        except UnreadableTableError as error:
            if any(words in str(error) for words in _IN_USE):
                raise
            self._discard(error)

    @property
    def position(self) -> int | None:
        """The offset below which every command is reflected; nothing for a new table."""
        value = self._read(lambda db: db.get(POSITION_KEY), None)
        return int(value) if value is not None and value.isdigit() else None

    def get(self, assessment_id: str) -> AssessmentRecord | None:
        """One state, where the table has it."""
        value = self._read(lambda db: db.get(assessment_id.encode()), None)
        return None if value is None else read_copy(assessment_id, value)

    def bulk_get(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        """Those of several states that the table has."""
        found = self._recent.bulk_get(assessment_ids)
        return found | self._stored([key for key in assessment_ids if key not in found])

    def _stored(self, keys: list[str]) -> dict[str, AssessmentRecord]:
        return read_copies(self.values(keys))

    def values(self, assessment_ids: Collection[str]) -> dict[str, bytes]:
        """What the table itself has of several assessments, byte for byte."""
        return self._read(lambda db: values_of(db, assessment_ids), {})

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
        batch.put(POSITION_KEY, str(position).encode())
        self._write(batch)
        for key, value in states.items():
            self._recent.set(key, records.get(key), len(value), heads.get(key))

    def evict(self, assessment_ids: Collection[str]) -> None:
        """Forget assessments; where one is there again, it is loaded from Postgres when it is first needed."""
        batch = WriteBatch(raw_mode=True)
        for key in assessment_ids:
            batch.delete(key.encode())
            self._recent.set(key, None, 0)
        self._write(batch)

    def clear(self) -> None:
        """Start empty: every state is loaded from Postgres again when it is first needed."""
        self._next_try = 0.0
        self._begin_anew()

    def close(self) -> None:
        """Let go of the files."""
        if self._db is not None:
            # Whatever it could not write out before its end: the position in the files says what they have.
            with suppress(UnreadableTableError), table_errors():
                self._db.close()
            self._db = None

    def _open(self) -> Rdict:
        options = bounded_options()
        options.set_max_background_jobs(1)
        with table_errors():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return Rdict(str(self._path), options, access_type=AccessType.with_ttl(_TTL_SECONDS))

    def _read(self, ask: Callable[[Rdict], T], nothing: T) -> T:
        if self._db is None:
            return nothing
        try:
            with table_errors():
                return ask(self._db)
        except UnreadableTableError as error:
            self._discard(error)
            return nothing

    def _write(self, batch: WriteBatch) -> None:
        """Write to the table, or to a new one; where there is none, Postgres has what it would have."""
        if self._db is None:
            self._begin_anew()
        try:
            self._put(batch)
        except UnreadableTableError as error:
            self._discard(error)
            try:
                self._put(batch)
            except UnreadableTableError as again:
                self._go_without(again)

    def _put(self, batch: WriteBatch) -> None:
        if self._db is not None:
            with table_errors():
                self._db.write(batch)

    def _discard(self, error: UnreadableTableError) -> None:
        """Throw away a table that cannot be used, and say so."""
        DISCARDED_TABLES.inc()
        extra = {"action": "table_discarded", "path": str(self._path), "why": str(error)}
        logger.error("a table cannot be used: it begins empty and fills from Postgres; check the disk", extra=extra)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Make an empty table in the place of what is there; where that fails, there is none until a later try."""
        if time.monotonic() < self._next_try:
            return
        self.close()
        self._recent = _Recent()
        try:
            # What is left of the old one must not be found under a newer position.
            with table_errors():
                if self._path.exists():
                    shutil.rmtree(self._path)
            self._db = self._open()
        except UnreadableTableError as error:
            self._go_without(error)

    def _go_without(self, error: UnreadableTableError) -> None:
        self.close()
        self._next_try = time.monotonic() + _PAUSE_SECONDS
        extra = {"action": "table_missing", "path": str(self._path), "why": str(error)}
        logger.warning("there is no table, Postgres is read in its place: make room on the disk", extra=extra)


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
