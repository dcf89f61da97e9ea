"""Reading the log back: records are what they were, and a fold in any batches is the fold of all."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.agents.publications import dead_letter_record, rejection_record
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.chain import wire_time
from assessmentstore.models.checkpoints import Checkpoint
from assessmentstore.models.commands import COMMAND_DATA, Command, CommandHeader, CommandType, fingerprint
from assessmentstore.models.comparison import Field, Store
from assessmentstore.models.deletions import Deletion
from assessmentstore.models.emitted import event_headers
from assessmentstore.models.errors import ErrorCode, Rejection
from assessmentstore.models.events import AssessmentEvent
from assessmentstore.models.machine import decide, evolve
from assessmentstore.recovery.errors import RecoveryError
from assessmentstore.recovery.findings import Findings
from assessmentstore.recovery.fold import Deleted, Until, fold_items, touched
from assessmentstore.recovery.records import (
    LoggedEvent,
    command_offset,
    read_checkpoint,
    read_deletion,
    read_event,
    read_letter,
    read_marks,
    read_rejection,
)
from assessmentstore.recovery.side import beside
from assessmentstore.recovery.verify import advice
from assessmentstore.settings import Settings
from assessmentstore.store.chaining import Head, chain
from assessmentstore.store.changes import DeadLetter, Refused
from assessmentstore.store.rows import audit_row, metric_row
from assessmentstore.store.search import is_indexed, search_row

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)

DATA: dict[CommandType, dict[str, Any]] = {
    CommandType.CREATE: {"assessmentType": "health", "options": {"b": 1.5, "a": [1, {"z": 0, "y": None}]}},
    CommandType.PROGRESS: {"progress": 40, "message": "so far"},
    CommandType.COMPLETE: {"result": {"overallScore": 97.5}},
    CommandType.FAIL: {"error": "no route"},
    CommandType.IMPORT: {
        "request": {"assessmentType": "health", "options": {}},
        "state": "completed",
        "result": {"overallScore": 9.5},
        "createdAt": "2024-05-01T08:00:00Z",
        "updatedAt": "2024-05-01T08:09:00Z",
        "startedAt": "2024-05-01T08:01:00Z",
        "completedAt": "2024-05-01T08:09:00Z",
    },
}

asked = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(list(CommandType))), max_size=60)


def header(offset: int, kind: CommandType, assessment_id: str) -> CommandHeader:
    content = fingerprint(kind, assessment_id, "ann", {"offset": offset})
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    came_by = {"ip_address": f"10.0.0.{offset % 200}", "user_agent": 'curl/8 "ü"'} if offset % 2 else {}
    return CommandHeader(
        id=f"c{offset}",
        type=kind,
        assessment_id=assessment_id,
        user_id="ann",
        traceparent=trace,
        fingerprint=content,
        **came_by,
    )


def log_of(commands: Sequence[tuple[str, CommandType]]) -> list[LoggedEvent]:
    """What comes of commands, a second after each other: the accepted ones."""
    states: dict[str, AssessmentRecord] = {}
    items = []
    for offset, (assessment_id, kind) in enumerate(commands):
        data = COMMAND_DATA[kind].model_validate(DATA.get(kind, {}))
        command = Command(header=header(offset, kind, assessment_id), data=data)
        event = decide(states.get(assessment_id), command, NOW + timedelta(seconds=offset))
        if not isinstance(event, Rejection):
            states[assessment_id] = evolve(states.get(assessment_id), event)
            items.append(LoggedEvent(event, event.to_json(), command.header, offset))
    return items


def states_of(events: Sequence[AssessmentEvent]) -> dict[str, AssessmentRecord]:
    states: dict[str, AssessmentRecord] = {}
    for event in events:
        states[event.assessment_id] = evolve(states.get(event.assessment_id), event)
    return states


def record(key: bytes | None, value: bytes | None, headers: Any) -> Any:
    return SimpleNamespace(topic="t", partition=2, offset=5, key=key, value=value, headers=tuple(headers))


def written(items: Sequence[LoggedEvent], cuts: Sequence[int]) -> tuple[list[Any], dict[str, AssessmentRecord]]:
    """The rows that batches with these ends would write, and the states after them."""
    states: dict[str, AssessmentRecord] = {}
    heads: dict[str, bytes] = {}
    rows: list[Any] = []
    for first, end in pairwise(sorted({0, *cuts, len(items)})):
        batch = items[first:end]
        changes = fold_items(batch, {key: states[key] for key in touched(batch) & states.keys()})
        links, after = chain(changes, 0, {key: Head.of(head) for key, head in heads.items()})
        states |= changes.after
        heads |= after
        rows += [
            (audit_row(item, link), metric_row(item), search_row(item.after) if is_indexed(item.event) else None)
            for item, link in zip(changes.accepted, links, strict=True)
        ]
    return rows, states


@given(asked, st.lists(st.integers(0, 60)))
def test_rows_do_not_depend_on_the_batches_that_they_are_written_in(
    commands: list[tuple[str, CommandType]], cuts: list[int]
) -> None:
    items = log_of(commands)

    assert written(items, [cut for cut in cuts if cut < len(items)]) == written(items, range(len(items)))


@given(asked, st.integers(-1, 60))
def test_the_fold_up_to_an_instant_is_the_state_at_that_instant(
    commands: list[tuple[str, CommandType]], seconds: int
) -> None:
    items, instant = log_of(commands), NOW + timedelta(seconds=seconds)
    until = Until(instant)

    admitted = [item for item in items if until.admits(0, item)]

    assert fold_items(admitted, {}).after == states_of([i.event for i in items if i.event.occurred_at <= instant])


@given(asked, st.integers(0, 60))
def test_the_fold_up_to_an_offset_is_the_state_before_that_command(
    commands: list[tuple[str, CommandType]], offset: int
) -> None:
    items = log_of(commands)

    admitted = [item for item in items if Until(offsets={0: offset}).admits(0, item)]

    assert fold_items(admitted, {}).after == states_of([item.event for item in log_of(commands[:offset])])
    assert [item for item in items if Until(offsets={1: 0}).admits(0, item)] == items


@given(asked)
def test_events_are_read_back_as_what_was_written(commands: list[tuple[str, CommandType]]) -> None:
    for item in log_of(commands):
        told = item.header
        headers = event_headers(item.event, told.traceparent, item.offset, told.fingerprint)

        read = read_event(record(b"", item.value, headers))

        assert read == item
        assert read.event.to_json() == item.value
        assert command_offset(record(b"", item.value, headers)) == item.offset


def test_a_rejection_is_read_back_as_what_was_written() -> None:
    rejection = Rejection(ErrorCode.INVALID_STATE_TRANSITION, "no", {"to": "x", "from": "y", "allowed": ["z"]})
    refused = Refused(header=header(8, CommandType.START, "a"), rejection=rejection, at=NOW, offset=8)

    assert read_rejection(record(*rejection_record(refused))) == refused


@pytest.mark.parametrize("headers", [[], [("a", None), ("b", b""), ("offset", b"99"), ("c", None)]])
@pytest.mark.parametrize(("key", "value"), [(None, None), (b"", b""), (b"\xff", b"\x00")])
def test_a_dead_letter_is_read_back_as_it_came(headers: Any, key: bytes | None, value: bytes | None) -> None:
    letter = DeadLetter(offset=3, key=key, value=value, headers=headers, reason="ünfit", at=NOW)

    assert read_letter(record(*dead_letter_record(_settings(), 2, letter))) == (2, letter)


def test_a_record_that_tells_no_offset_is_named() -> None:
    with pytest.raises(RecoveryError, match=r"t\[2\] at 5 cannot be read back: it has no header ce_commandoffset"):
        command_offset(record(b"a", b"{}", [("ce_id", b"a:1")]))


_OFFSET = ("ce_commandoffset", b"3")
_ENDS = [("topic", b"t"), ("partition", b"2"), ("offset", b"3"), ("reason", b"r"), ("time", b"2026-01-01T00:00:00Z")]


@pytest.mark.parametrize(
    ("read", "value", "headers"),
    [
        (read_event, b"", [_OFFSET]),
        (read_event, b"{}", [("ce_commandoffset", b"three")]),
        (read_event, b"{}", [_OFFSET, ("traceparent", b"\xff")]),
        (read_rejection, b"[]", [_OFFSET]),
        (read_rejection, b"{}", [_OFFSET, ("ce_commandfingerprint", b"no hex")]),
        (read_letter, b"x", [*_ENDS[:2], ("offset", b"x"), *_ENDS[3:]]),
        (read_letter, b"x", [*_ENDS[:3], ("reason", b"\xff"), _ENDS[4]]),
        (read_letter, b"x", [*_ENDS, ("null-headers", b"x")]),
        (read_deletion, b"{}", []),
        (read_deletion, None, []),
        (read_marks, None, []),
        (read_checkpoint, b"[]", []),
    ],
    ids=range(12),
)
def test_a_record_that_is_nothing_of_the_kind_is_named(read: Any, value: bytes | None, headers: Any) -> None:
    with pytest.raises(RecoveryError, match=r"t\[2\] at 5 cannot be read back: .+"):
        read(record(b"a", value, headers))


def test_what_the_log_does_not_explain_is_refused() -> None:
    first, *_ = log_of([("a", CommandType.CREATE)])

    with pytest.raises(RecoveryError, match="does not explain"):
        fold_items([replace(first, event=first.event.model_copy(update={"version": 5}))], {})


def test_what_was_deleted_is_passed_over_and_its_id_may_come_again() -> None:
    items = log_of([("a", CommandType.CREATE), ("a", CommandType.CANCEL), ("b", CommandType.CREATE)])
    deleted = Deleted([_deletion(last_offset=1), _deletion(last_offset=0)])

    assert [deleted.has(item) for item in items] == [True, True, False]
    assert not deleted.has(replace(items[0], offset=2))


def test_a_deletion_counts_from_when_it_was_made() -> None:
    deletion = _deletion(last_offset=1)

    assert Until().admits_deletion(deletion)
    assert [Until(NOW + timedelta(seconds=second)).admits_deletion(deletion) for second in (-1, 0)] == [False, True]
    assert [Until(offsets={0: offset}).admits_deletion(deletion) for offset in (9, 10)] == [False, True]
    assert Until(offsets={1: 0}).admits_deletion(deletion)


def test_a_checkpoint_counts_where_all_its_rows_do() -> None:
    made = Checkpoint(
        topic="t",
        partition=0,
        sequence=1,
        count=1,
        root=b"r",
        first_offset=0,
        end_offset=10,
        created_at=wire_time(NOW),
        previous_hash=None,
        key_id="k",
    )

    assert Until().admits_checkpoint(made)
    assert [Until(NOW + timedelta(seconds=second)).admits_checkpoint(made) for second in (-1, 0)] == [False, True]
    assert [Until(offsets={0: offset}).admits_checkpoint(made) for offset in (9, 10)] == [False, True]


def test_a_deletion_is_read_back_as_it_was_told() -> None:
    told = _deletion(last_offset=1).model_copy(update={"rows": ((0, "ab"), (1, "cd"))})

    assert Deletion.model_validate_json(told.to_json()) == told


def test_of_a_command_id_that_is_used_again_the_last_outcome_counts() -> None:
    (created,) = log_of([("a", CommandType.CREATE)])
    rejection = Rejection(ErrorCode.INVALID_STATE_TRANSITION, "no", {})
    first, second = (Refused(header=created.header, rejection=rejection, at=NOW, offset=at) for at in (-2, -1))

    assert fold_items([first, second], {}).refused == [second]
    assert fold_items([first, created], {}).refused == []


def test_a_side_schema_is_looked_for_first_and_has_a_plain_name() -> None:
    settings = _settings()

    assert beside(settings, "may").database_url.endswith("/none?sslmode=disable&search_path=%22may%22%2Cpublic")
    for name in _bad_names():
        with pytest.raises(RecoveryError, match="no name for a side schema"):
            beside(settings, name)


def _bad_names() -> Iterator[str]:
    yield from ("public", "pg_x", "A", "a-b", "a;drop", "", "1a", "x" * 64)


def _deletion(*, last_offset: int) -> Deletion:
    return Deletion(assessment_id="a", partition=0, last_offset=last_offset, position=10, deleted_at=NOW)


def _settings() -> Settings:
    return Settings(_env_file=None, database_url="postgresql://127.0.0.1:1/none?sslmode=disable")  # type: ignore[call-arg]


def test_what_is_advised_can_be_copied_to_a_shell_whatever_an_assessment_is_called() -> None:
    findings = Findings(1, lambda _: None)
    for name in ("a1", "$(reboot) 'x'"):
        findings.add(Store.POSTGRES, 0, name, [Field("/version", 2, 1)])

    (told,) = advice(findings)

    assert shlex.split(told[told.index("--") : told.index(" (")]) == [
        "--assessment",
        "a1",
        "--assessment",
        "$(reboot) 'x'",
    ]
