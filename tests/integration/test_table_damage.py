"""The RocksDB table on a disk that spoils files or is full: a cache, that must never hold up or mislead a worker."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.store.table import StateTable
from assessmentstore.store.table_view import UnreadableTableError
from assessmentstore.telemetry import DISCARDED_TABLES

IDS = [f"a{number}" for number in range(3000)]


def value(assessment_id: str, version: int = 1) -> bytes:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    return AssessmentRecord(
        assessment_id=assessment_id,
        state=AssessmentState.PROCESSING,
        version=version,
        created_at=now,
        updated_at=now,
        request_data={"noise": os.urandom(200).hex()},
    ).to_json()


def full_table(path: Path) -> StateTable:
    """A table with some megabytes in files, opened anew, so that nothing of it is in memory."""
    table = StateTable(path)
    table.apply({key: value(key) for key in IDS}, position=7)
    table.close()
    return StateTable(path)


def spoil(path: Path, pattern: str, how: str) -> None:
    damaged = [file for file in path.glob(pattern) if file.stat().st_size]
    assert damaged
    for file in damaged:
        size = file.stat().st_size
        if how == "cut":
            os.truncate(file, size // 2)
        elif how == "gone":
            file.unlink()
        else:
            with file.open("r+b") as opened:
                opened.seek(0 if how == "overwritten" else size // 3)
                opened.write(b"\xff" * (size if how == "overwritten" else size // 3))


def discarded() -> float:
    return next(sample.value for metric in DISCARDED_TABLES.collect() for sample in metric.samples[:1])


def assert_it_works(table: StateTable, position: int) -> None:
    table.apply({"a1": value("a1", version=3)}, position=position)
    found = table.bulk_get(["a1", "a2"])
    assert {key: state.version for key, state in found.items()} == {"a1": 3}
    assert table.position == position


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow: RocksDB cannot tell it from a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        ("CURRENT", "cut"),
        ("CURRENT", "overwritten"),
        ("CURRENT", "gone"),
        ("MANIFEST-*", "cut"),
        ("MANIFEST-*", "overwritten"),
        ("*.sst", "cut"),
        ("*.sst", "overwritten"),
        ("*.sst", "gone"),
    ],
)
def test_a_table_that_was_spoilt_while_nobody_had_it_begins_empty(
    tmp_path: Path, pattern: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    full_table(tmp_path / "t").close()
    spoil(tmp_path / "t", pattern, how)
    before = discarded()

    table = StateTable(tmp_path / "t")

    assert (table.position, table.bulk_get(IDS)) == (None, {})
    assert discarded() == before + 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert_it_works(table, 9)
    table.close()


@pytest.mark.parametrize("how", ["cut", "overwritten", "in the middle"])
@pytest.mark.parametrize("first", ["read", "write"])
def test_a_table_that_is_spoilt_while_it_is_open_begins_empty(tmp_path: Path, how: str, first: str) -> None:
    """What the damage does not touch may be served until it is met: it is right."""
    table = full_table(tmp_path / "t")
    spoil(tmp_path / "t", "*.sst", how)
    before = discarded()

    if first == "write":
        table.apply({"a1": value("a1", version=2)}, position=8)
    assert {state.version for state in table.bulk_get(IDS).values()} <= {1, 2}
    table.heads(IDS)

    assert discarded() == before + 1
    assert table.get("a2") is None
    assert_it_works(table, 9)
    table.close()
    again = StateTable(tmp_path / "t")
    assert again.position == 9
    again.close()


def test_on_a_full_disk_there_is_no_table_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it had before is not found again under a later position."""
    monkeypatch.setattr("assessmentstore.store.table._PAUSE_SECONDS", 0.0)
    table = full_table(tmp_path / "t")

    with full_disk():
        table.apply({"a1": value("a1", version=2)}, position=8)
        table.apply({"a2": value("a2", version=2)}, position=9)
        found = table.position, table.bulk_get(["a3"])
        opened = StateTable(tmp_path / "other")
        opened.apply({"a1": value("a1")}, position=8)
        nothing = opened.position, opened.get("a1")

    assert found == (None, {})
    assert nothing == (None, None)
    assert "make room" in caplog.text
    assert_it_works(table, 10)
    assert_it_works(opened, 10)
    table.close()
    opened.close()


def test_a_table_that_is_in_use_is_not_thrown_away(tmp_path: Path) -> None:
    table = full_table(tmp_path / "t")

    with pytest.raises(UnreadableTableError, match="LOCK"):
        StateTable(tmp_path / "t")

    assert (table.position, table.get("a2") is not None) == (7, True)
    table.close()
