"""The old system in our words: its names, its events and records, who serves which id, and what moves the roll-out."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.legacy import exported

from assessmentstore.legacy.commands import encode, import_id
from assessmentstore.legacy.comparing import judge as compare
from assessmentstore.legacy.comparing import path, repair
from assessmentstore.legacy.events import UnknownNameError, legacy_notification, read_event
from assessmentstore.legacy.export import Export
from assessmentstore.legacy.fields import UnreadableError, state_of, time_of
from assessmentstore.legacy.names import ALIASES, LegacyKind, legacy_kind
from assessmentstore.legacy.records import differences, import_data
from assessmentstore.legacy.rollout import STEPS, Baseline, Signals, judge, next_step
from assessmentstore.legacy.routing import bucket, routes_to_store
from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.base import JsonObject
from assessmentstore.models.commands import Command, CommandType
from assessmentstore.models.envelope import decode_command
from assessmentstore.models.errors import Rejection
from assessmentstore.models.events import EventType, event_from_json
from assessmentstore.models.machine import decide, evolve
from assessmentstore.store.encryption import NO_KEYS, KeyRing, generate

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)

# The names of the documents and their peers, as each of them writes them.
NAMES = {
    "assessment.created": "create", "assessment.started": "start", "assessment.progress": "progress",
    "assessment.completed": "complete", "assessment.failed": "fail", "assessment.cancelled": "cancel",
    "assessment_created": "create", "assessment_started": "start", "assessment_progress": "progress",
    "assessment_completed": "complete", "assessment_failed": "fail", "assessment_cancelled": "cancel",
}  # fmt: skip


def event(name: str, **members: Any) -> JsonObject:
    return {"type": name, "assessmentId": "a-1", "eventId": "e-1", **members}


def taken_over(record: JsonObject) -> AssessmentRecord:
    """What an import makes of a record."""
    value = encode(
        CommandType.IMPORT, record["assessmentId"], import_data(record), command_id="c", at=NOW, keys=NO_KEYS
    ).value
    command = decode_command(record["assessmentId"].encode(), value, [])
    assert isinstance(command, Command)
    decided = decide(None, command, NOW)
    assert not isinstance(decided, Rejection)
    return evolve(None, event_from_json(decided.to_json()))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_of_the_old_system_is_one_command(name: str) -> None:
    data = {"data": {"assessmentType": "health", "options": {}}, "progress": 5, "result": {}, "error": "x"}

    assert read_event(event(name, **data)).command == f"assessment.{NAMES[name]}"


@given(st.sampled_from(sorted(ALIASES)), st.sampled_from(["assessment.{}", "assessment_{}", "Assessment{}", "{}"]))
def test_a_name_means_the_same_however_it_is_put_together(word: str, form: str) -> None:
    assert legacy_kind(form.format(word.capitalize() if "{}" in form and form[0] == "A" else word)) is ALIASES[word]


@given(st.text())
def test_a_name_is_known_or_refused_and_never_guessed(name: str) -> None:
    kind = legacy_kind(name)

    if kind is None:
        with pytest.raises((UnknownNameError, UnreadableError)):
            read_event(event(name))
    else:
        assert kind in LegacyKind


@pytest.mark.parametrize(
    ("state", "command"),
    [("in_progress", "start"), ("completed", "complete"), ("FAILED", "fail"), ("cancelled", "cancel")],
)
def test_a_state_that_changed_is_the_command_that_changes_it(state: str, command: str) -> None:
    found = read_event(event("assessment.stateChanged", newState=state, error="x", result={}))

    assert found.command == f"assessment.{command}"


def test_an_event_has_the_same_command_id_whenever_it_comes() -> None:
    bare = {"type": "assessment.progress", "assessmentId": "a-1", "progress": 40}

    assert read_event(bare).command_id == read_event(dict(reversed(bare.items()))).command_id
    assert read_event(bare).command_id != read_event(bare | {"progress": 41}).command_id
    assert read_event(event("assessment.started")).command_id == "legacy:e-1:assessment.started"


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, {"type": 3}, {"type": "assessment.created"}])
def test_what_is_no_event_is_told_why(value: Any) -> None:
    with pytest.raises(UnreadableError, match=r"\w+ \w+"):
        read_event(value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(
    st.sampled_from(["type", "assessmentId", "data", "state", "progress", "timestamp", "result", "id"]), inner
) | st.lists(inner)))  # fmt: skip
def test_no_value_breaks_the_reading(value: Any) -> None:
    try:
        found = read_event(value)
    except UnreadableError:
        return
    assert found.command or found.kind is LegacyKind.REPORT


@pytest.mark.parametrize("number", range(6))
def test_a_record_is_taken_over_as_it_is_under_both_exporters_names(number: int) -> None:
    record = exported(number)

    stored = taken_over(record)

    assert differences(record, stored, times=True) == []
    assert stored.version == 1
    assert stored.state == state_of(record.get("state") or record["status"])
    assert stored.owner == "ann"


def test_with_keys_nothing_of_an_import_rests_in_the_clear_and_readers_see_all_of_it() -> None:
    keys = KeyRing.parse(generate("k1"))
    record = exported(3) | {"state": "completed", "errorMessage": None, "resultData": {"summary": {}, "x": "canary-2"}}
    record["requestData"] = record["requestData"] | {"serverName": "canary-1"}
    command = encode(CommandType.IMPORT, "old-3", import_data(record), command_id="c", at=NOW, keys=keys)
    taken = decode_command(b"old-3", command.value, [], keys)
    assert isinstance(taken, Command)
    decided = decide(None, taken, NOW)
    assert not isinstance(decided, Rejection)

    sealed = keys.seal_event(decided)
    stored = evolve(None, event_from_json(sealed.to_json()))

    for rests in (command.value, sealed.to_json(), stored.to_json()):
        assert b"canary" not in rests
    assert differences(record, keys.open_record(stored), times=True) == []
    assert (stored.owner, taken.header.fingerprint) == ("ann", command.header and command.header.fingerprint)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"state": "archived"}, "the state 'archived'"),
        ({"requestData": None}, "no request"),
        ({"createdAt": "yesterday"}, "createdAt"),
        ({"progress": 140}, "Progress must be between"),
        ({"requestData": {"options": {}}}, "/request/assessmentType"),
    ],
)
def test_what_cannot_be_taken_over_is_told_why_and_never_guessed(members: JsonObject, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        import_data(exported(1) | members)


def test_times_are_read_as_javascript_and_databases_write_them() -> None:
    assert time_of(1_709_280_000_250, "t") == "2024-03-01T08:00:00.250000+00:00"
    assert time_of("2024-03-01T08:00:00.250Z", "t") == "2024-03-01T08:00:00.250000+00:00"
    assert time_of("2024-03-01 08:00:00", "t") == "2024-03-01T08:00:00+00:00"
    with pytest.raises(UnreadableError):
        time_of(12, "t")


def test_the_id_of_an_import_fits_whatever_the_assessment_is_called() -> None:
    assert import_id("a-1") == "import:a-1"
    assert len(import_id("x" * 255)) <= 255


# Written out for whoever implements the routing elsewhere; the emitter in Node has the same.
@pytest.mark.parametrize(("assessment_id", "place"), [("a-1", 38), ("old-3", 56), ("ünïcode", 59), ("", 10)])
def test_the_bucket_of_an_id_is_the_one_of_the_documentation(assessment_id: str, place: int) -> None:
    assert bucket(assessment_id) == place


@given(st.text(), st.integers(0, 100), st.integers(0, 100))
def test_an_id_stays_with_the_store_when_the_share_grows(assessment_id: str, one: int, other: int) -> None:
    less, more = sorted((one, other))

    assert routes_to_store(assessment_id, more) >= routes_to_store(assessment_id, less)
    assert not routes_to_store(assessment_id, 0)
    assert routes_to_store(assessment_id, 100)
    assert not routes_to_store(assessment_id, more, legacy_mode=True)


def test_the_share_of_ids_is_about_the_percentage() -> None:
    served = sum(routes_to_store(f"id-{number}", 25) for number in range(10_000))

    assert 2300 < served < 2700


def test_the_steps_follow_each_other_up_to_all() -> None:
    taken, step = [], next_step(0)
    while step is not None:
        taken.append(step)
        step = next_step(step)

    assert tuple(taken) == STEPS


@pytest.mark.parametrize(
    ("signals", "alerts", "triggers"),
    [
        (Signals(), 0, 0),
        (Signals(error_rate=0.05, response_ms=5000, failure_rate=0.05, inconsistency=0.01), 0, 0),
        (Signals(error_rate=0.051), 1, 0),
        (Signals(error_rate=0.101), 0, 1),
        (Signals(response_ms=5001), 1, 0),
        (Signals(response_ms=10_001), 0, 1),
        (Signals(failure_rate=0.051), 0, 1),
        (Signals(inconsistency=0.011), 0, 1),
        (Signals(unhealthy="the database is away"), 0, 1),
        (Signals(error_rate=0.2, unhealthy="x"), 0, 2),
    ],
)
def test_the_thresholds_are_those_of_the_reference(signals: Signals, alerts: int, triggers: int) -> None:
    verdict = judge(signals, Baseline())

    assert (len(verdict.alerts), len(verdict.triggers)) == (alerts, triggers)


def test_a_change_from_the_beginning_holds() -> None:
    begun = Baseline(error_rate=0.001, response_ms=20.0)

    assert judge(Signals(error_rate=0.022), begun).alerts
    assert judge(Signals(response_ms=2021.0), begun).alerts
    assert not judge(Signals(error_rate=0.02, response_ms=2019.0), begun).alerts


@given(st.sampled_from(list(AssessmentState)), st.sampled_from(list(AssessmentState)))
def test_a_path_leads_where_the_state_machine_lets_it(source: AssessmentState, target: AssessmentState) -> None:
    found = path(source, target)

    ends = (AssessmentState.COMPLETED, AssessmentState.CANCELLED)
    assert (found is None) == (source in ends and source is not target)
    assert found != [] or source is target


@pytest.mark.parametrize(
    ("members", "kind", "fields"),
    [
        ({}, None, []),
        ({"state": "completed", "progress": 100, "resultData": {"overallScore": 1}}, "lost", ["state", "progress"]),
        ({"state": "pending", "progress": 0}, "lost", ["state", "progress"]),
        ({"progress": 88}, "stale-field", ["progress"]),
        ({"message": "other"}, "stale-field", ["message"]),
    ],
)
def test_a_difference_is_named_by_what_it_looks_like(members: JsonObject, kind: str | None, fields: list[str]) -> None:
    record = exported(5)

    found = compare(record | members, taken_over(record), "old-5", None)

    assert {item.kind for item in found} == ({kind} if kind else set())
    assert [item.field for item in found][: len(fields)] == fields


def test_what_has_ended_otherwise_is_in_a_wrong_state() -> None:
    cancelled, completed = exported(4), exported(0)

    (found, *_) = compare(completed | {"status": "completed"}, taken_over(cancelled), "old-4", None)

    assert (found.kind, found.field, found.legacy_value, found.store_value) == (
        "wrong-state", "state", "completed", "cancelled",
    )  # fmt: skip


def test_what_is_missing_is_imported_and_what_is_behind_catches_up() -> None:
    record = exported(5)
    stored = taken_over(record)

    assert [kind for kind, _ in repair(record, None)] == [CommandType.IMPORT]
    assert repair(record, stored) == []
    assert repair(record | {"progress": 77}, stored) == [(CommandType.PROGRESS, {"progress": 77})]
    ended = record | {"state": "failed", "errorMessage": "x"}
    assert repair(ended, replace_state(stored, AssessmentState.PENDING)) == [
        (CommandType.START, {}),
        (CommandType.FAIL, {"error": "x"}),
    ]


def replace_state(record: AssessmentRecord, state: AssessmentState) -> AssessmentRecord:
    return record.model_copy(update={"state": state})


@pytest.mark.parametrize("kind", list(EventType))
def test_listeners_are_told_in_names_that_the_table_knows_and_never_of_what_they_said(kind: EventType) -> None:
    change: JsonObject = {
        "assessmentId": "a-1", "type": str(kind), "version": 3, "state": "pending", "previousState": None,
        "progress": 40, "message": None, "commandId": "c-1", "userId": None, "occurredAt": "2026-01-31T12:00:00Z",
        "request": {"assessmentType": "health", "options": {}}, "result": {}, "durationMs": 5, "error": "x",
        "reason": "y", "retryCount": 1,
    }  # fmt: skip

    told = legacy_notification(change)

    assert legacy_notification(change | {"commandId": "legacy:e-1:assessment.started"}) is None
    if kind is EventType.IMPORTED:
        assert told is None
    else:
        assert told is not None
        read = read_event(json.loads(json.dumps(told)))
        assert read.assessment_id == "a-1"
        assert told["eventId"] == "a-1:3"


def test_a_lasting_command_is_the_same_bytes_for_the_same_line() -> None:
    record = exported(3)

    one, other = (
        encode(CommandType.IMPORT, "old-3", import_data(record), command_id="c", at=NOW, keys=NO_KEYS) for _ in "12"
    )

    assert one == replace(other)


def test_the_check_of_an_export_finds_each_fault_and_names_it(tmp_path: Any) -> None:
    good, row = exported(1), {"action": "x", "assessmentId": "old-1"}
    lines = [
        good, good, {"action": "x", "assessmentId": "gone"}, row | {"oldState": "completed", "newState": "pending"},
        {"type": "manifest", "assessments": 9},
    ]  # fmt: skip
    file = tmp_path / "export.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "no JSON\n")
    export = Export(file)

    found = export.check()
    export.close()

    assert not found.passed
    assert {text.split(":")[0] for text in found.errors} == {"duplicate", "reference", "count"}
    assert {text.split(":")[0] for text in found.warnings} == {"transition", "unreadable"}
