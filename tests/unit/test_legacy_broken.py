"""Whatever stands in an export, in a report or in an event of the old system: it is told, and ends nothing."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.legacy import audit_row, exported, write_lines

from assessmentstore.legacy.comparing import judge, repair
from assessmentstore.legacy.export import Export
from assessmentstore.legacy.fields import UnreadableError
from assessmentstore.legacy.importing import Importer
from assessmentstore.legacy.intake import Intake, Taken
from assessmentstore.legacy.records import import_data
from assessmentstore.legacy.verifying import _records
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.events import event_from_json
from assessmentstore.models.machine import evolve
from assessmentstore.store.encryption import NO_KEYS

_ODD: list[Any] = [
    *(None, True, -1, 0, 1.5, 1e308, -1e308, 2**63, 2.0**62, 253_402_300_800_000, "", "\x00", "x" * 70_000),
    *("2024-13-01", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "pending", "exploded"),
    *([], {}, [[]], {"a": {}}, {"assessmentType": 5}, {"assessmentType": "health", "options": {}, "userId": 7}),
    {"startedAt": 1e300},
]

_EVENT = {"type": "assessment_created", "assessmentId": "k", "eventId": "e", "timestamp": 1, "data": {"options": {}}}


def _broken(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The same with some members gone, or something else."""
    wrong = st.dictionaries(st.sampled_from([*whole, "metadata", "duration", "newState"]), st.sampled_from(_ODD))
    gone = st.sets(st.sampled_from(list(whole)), max_size=1)
    return st.builds(lambda put, out: {k: v for k, v in (whole | put).items() if k not in out}, wrong, gone)


def _record(number: int) -> dict[str, Any]:
    return exported(number) | {"message": "m", "startedAt": 1, "nextRetryAt": None, "metadata": {"startedAt": 1}}


def _stored() -> AssessmentRecord:
    at = datetime(2024, 3, 1, tzinfo=UTC).isoformat()
    event = {"assessmentId": "old-1", "version": 1, "type": "assessment.created", "state": "pending", "progress": 0}
    event |= {"previousState": None, "message": None, "commandId": "c", "userId": "ann", "occurredAt": at}
    return evolve(None, event_from_json(json.dumps(event | {"request": {"assessmentType": "health", "options": {}}})))


_LINES = st.lists(
    st.one_of(
        _broken(_record(0)), _broken(_record(1)), _broken(audit_row(exported(0), "pending")), st.sampled_from(_ODD)
    ),
    max_size=4,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(lines=_LINES)
def test_every_line_of_an_export_is_taken_or_put_aside(tmp_path: Path, lines: list[Any]) -> None:
    file = write_lines(tmp_path / "export.jsonl", lines)

    with closing(Export(file)) as export:
        checked = export.check()
        taken, aside = Importer(export, None, None, None, NO_KEYS)._read(export.lines())  # type: ignore[arg-type]
        verified = [name for records in _records(export) for name in records]

    assert len(taken) + len(aside) == checked.stats["assessments"]
    assert all(item.reason for item in aside)
    assert {item.command.key for item in taken} <= set(verified)


@settings(max_examples=300, deadline=None)
@given(record=_broken(_record(0)), is_stored=st.booleans())
def test_every_report_is_compared_and_brought_into_line_where_it_can_be(
    record: dict[str, Any], is_stored: bool
) -> None:
    stored = _stored() if is_stored else None

    found = judge(record, stored, "old-1", None)

    assert found
    try:
        repair(record, stored)
    except UnreadableError as error:
        assert str(error)


@settings(max_examples=300, deadline=None)
@given(value=_broken(_EVENT) | st.sampled_from(_ODD))
def test_every_event_is_a_command_a_report_or_a_dead_letter(value: Any) -> None:
    item = Intake(None, None, NO_KEYS).read(value)  # type: ignore[arg-type]

    assert (item.taken is Taken.DEAD_LETTER) == bool(item.reason)


def test_a_row_of_the_audit_log_without_a_time_is_kept_and_told(tmp_path: Path) -> None:
    lines = [exported(1), audit_row(exported(1), "pending") | {"createdAt": "yesterday"}]

    with closing(Export(write_lines(tmp_path / "export.jsonl", lines))) as export:
        checked = export.check()
        (row,) = export.history("old-1")

    assert checked.passed
    assert "audit: line 2: createdAt of an audit row is 'yesterday'" in checked.warnings[0]
    assert (row["createdAt"], row["newState"]) == (None, "pending")


def test_lines_without_an_id_are_not_the_same_assessment(tmp_path: Path) -> None:
    lines = [{"state": "pending"}, {"state": "pending"}]

    with closing(Export(write_lines(tmp_path / "export.jsonl", lines))) as export:
        checked = export.check()

    assert (checked.errors, checked.stats["unreadable"]) == ([], 2)


def test_an_export_without_an_assessment_is_an_error(tmp_path: Path) -> None:
    with closing(Export(write_lines(tmp_path / "export.jsonl", []))) as export:
        assert export.check().errors == ["empty: there is no assessment in it"]


def test_a_life_that_lasts_for_ever_is_not_guessed_at() -> None:
    with pytest.raises(UnreadableError, match="nothing lasts so many milliseconds"):
        import_data({name: value for name, value in exported(0).items() if name != "startedAt"} | {"duration": 1e300})
