"""Records off the wire: quickly made, and whatever bytes the names of their headers are.

Kafka does not look at header names; aiokafka takes them for UTF-8, and one that is not would end every fetch of its
partition for ever. A batch that aiokafka cannot read is read here, at leisure; the odd bytes become `\\xff`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

# Offset and length of a batch, before what the length counts.
_LENGTH = slice(8, 12)
_OVERHEAD = 12

# The first format that has headers.
_FORMAT_WITH_HEADERS = 2


class FetchedRecord(NamedTuple):
    """The fields of aiokafka's `ConsumerRecord`, whose frozen dataclass takes five times as long to make."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    checksum: int | None
    serialized_key_size: int
    serialized_value_size: int
    headers: tuple[tuple[str, bytes | None], ...]


def install() -> None:
    """Let all consumers of this process read records as this module does."""
    fetcher.MemoryRecords = TolerantRecords
    fetcher.ConsumerRecord = FetchedRecord


class TolerantRecords:
    """The batches of one fetch."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:
        """The next batch, or nothing."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        length = _OVERHEAD + int.from_bytes(self._data[_LENGTH], "big")
        raw, self._data = self._data[:length], self._data[length:]
        return batch if batch.magic < _FORMAT_WITH_HEADERS else _TolerantBatch(batch, raw)


class _TolerantBatch:
    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(_SlowBatch(self._raw))

    def __next__(self) -> Any:
        return next(self._batch)


class _SlowBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """A batch read in Python."""

    _pos: int

    def _read_msg(self, _: Any = None) -> Any:
        buffer, position = self._buffer, self._pos

        def number() -> int:
            nonlocal position
            value: int
            value, position = decode_varint(buffer, position)
            return value

        def content() -> bytes | None:
            nonlocal position
            length = number()
            if length < 0:
                return None
            start, position = position, position + length
            return bytes(buffer[start:position])

        number()  # the length of the record
        number()  # attributes, of which there are none
        timestamp, offset = self.first_timestamp + number(), self.base_offset + number()
        if self.timestamp_type == self.LOG_APPEND_TIME:
            timestamp = self.max_timestamp
        key, value = content(), content()
        headers = [((content() or b"").decode("utf-8", "backslashreplace"), content()) for _ in range(number())]
        self._pos = position
        return _DefaultRecordPy(offset, timestamp, self.timestamp_type, key, value, headers)
