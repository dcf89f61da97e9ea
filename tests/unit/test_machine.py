"""The state machine: only the contract's arrows, judged in the contract's order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.canonical import canonical
from assessmentstore.models.commands import COMMAND_DATA, Command, CommandHeader, CommandType
from assessmentstore.models.errors import ErrorCode, Rejection
from assessmentstore.models.events import AssessmentEvent, event_from_json
from assessmentstore.models.machine import decide, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

# The table of the contract, written out by hand: the one in the code has to agree with it.
ARROWS = {
    ("assessment.create", None): "pending",
    ("assessment.start", "pending"): "processing",
    ("assessment.progress", "processing"): "processing",
    ("assessment.complete", "processing"): "completed",
    ("assessment.fail", "processing"): "failed",
    ("assessment.cancel", "pending"): "cancelled",
    ("assessment.cancel", "processing"): "cancelled",
    ("assessment.retry", "failed"): "pending",
    ("assessment.import", None): "failed",
}
ALLOWED = {
    "pending": ["processing", "cancelled"],
    "processing": ["processing", "completed", "failed", "cancelled"],
    "completed": [],
    "failed": ["pending"],
    "cancelled": [],
}
DATA: dict[str, dict[str, object]] = {
    "assessment.create": {"assessmentType": "health", "options": {}, "metadata": {"a": [1.5, None]}},
    "assessment.start": {},
    "assessment.progress": {"progress": 40, "message": "forty"},
    "assessment.complete": {"result": {"overallScore": 90, "totalServers": 3}},
    "assessment.fail": {"error": "it broke"},
    "assessment.cancel": {"reason": "no longer needed"},
    "assessment.retry": {},
    "assessment.import": {
        "request": {"assessmentType": "health", "options": {}, "userId": "ann", "metadata": {"a": 1}},
        "state": "failed",
        "progress": 70,
        "error": "no route",
        "retryCount": 2,
        "createdAt": "2024-05-01T10:00:00+02:00",
        "updatedAt": "2024-05-01T08:09:00Z",
        "startedAt": "2024-05-01T08:01:00Z",
        "completedAt": "2024-05-01T08:09:00Z",
        "history": [{"action": "assessment_failed", "newState": "failed", "createdAt": "2024-05-01T08:09:00Z"}],
    },
}
_ids = count()


def command(kind: str, *, expected: int | None = None, data: dict[str, object] | None = None) -> Command:
    header = CommandHeader(
        id=f"c{next(_ids)}", type=CommandType(kind), assessment_id="a1", user_id="bob", fingerprint=b""
    )
    parsed = COMMAND_DATA[header.type].model_validate(DATA[kind] if data is None else data)
    return Command(header=header, data=parsed, expected_version=expected)


def record(state: str | None) -> AssessmentRecord | None:
    """A record in a state, reached by the shortest way."""
    ways = {
        None: [],
        "pending": ["create"],
        "processing": ["create", "start"],
        "completed": ["create", "start", "progress", "complete"],
        "failed": ["create", "start", "progress", "fail"],
        "cancelled": ["create", "cancel"],
    }
    current: AssessmentRecord | None = None
    for step in ways[state]:
        current = evolve(current, accepted(current, command(f"assessment.{step}")))
    return current


def accepted(current: AssessmentRecord | None, asked: Command, now: datetime = NOW) -> AssessmentEvent:
    decision = decide(current, asked, now)
    assert not isinstance(decision, Rejection), decision
    return decision


def refused(current: AssessmentRecord | None, asked: Command) -> Rejection:
    decision = decide(current, asked, NOW)
    assert isinstance(decision, Rejection), decision
    return decision


@pytest.mark.parametrize("state", [None, *ALLOWED])
@pytest.mark.parametrize("kind", DATA)
def test_every_command_from_every_state_does_what_the_contract_says(state: str | None, kind: str) -> None:
    current = record(state)

    decision = decide(current, command(kind), NOW)

    target = ARROWS.get((kind, state))
    if target is not None:
        assert not isinstance(decision, Rejection)
        after = evolve(current, decision)
        assert (after.state, after.version) == (target, (current.version if current else 0) + 1)
    elif state is None:
        assert isinstance(decision, Rejection)
        assert decision.code is ErrorCode.NOT_FOUND
    elif kind in ("assessment.create", "assessment.import"):
        assert isinstance(decision, Rejection)
        assert decision.code is ErrorCode.ALREADY_EXISTS
    else:
        assert isinstance(decision, Rejection)
        assert decision.code is ErrorCode.INVALID_STATE_TRANSITION
        assert decision.details["from"] == state
        assert decision.details["allowed"] == ALLOWED[state]


def test_a_wrong_expected_version_is_refused_before_the_state_is_judged() -> None:
    rejection = refused(record("completed"), command("assessment.start", expected=2))

    assert rejection.code is ErrorCode.OPTIMISTIC_LOCK_FAILED
    assert rejection.details == {"expectedVersion": 2, "actualVersion": 4}


def test_the_right_expected_version_is_accepted() -> None:
    assert accepted(record("pending"), command("assessment.start", expected=1)).version == 2


OF_ATTEMPT = sorted(DATA.keys() - {"assessment.create", "assessment.cancel", "assessment.import"})


@pytest.mark.parametrize("kind", OF_ATTEMPT)
@pytest.mark.parametrize("attempt", [0, 2])
def test_a_command_of_another_attempt_is_refused_before_the_state_is_judged(kind: str, attempt: int) -> None:
    second = evolve(record("failed"), accepted(record("failed"), command("assessment.retry")))

    rejection = refused(second, command(kind, data=DATA[kind] | {"attempt": attempt}))

    assert rejection.code is ErrorCode.OPTIMISTIC_LOCK_FAILED
    assert rejection.details == {"attempt": attempt, "actualAttempt": 1}
    assert f"attempt 1, not {attempt}" in rejection.message


@pytest.mark.parametrize("kind", OF_ATTEMPT)
def test_a_command_of_the_present_attempt_is_judged_as_one_without(kind: str) -> None:
    source = next(state for (of, state) in ARROWS if of == kind)

    with_attempt = accepted(record(source), command(kind, data=DATA[kind] | {"attempt": 0}))

    assert with_attempt.state == ARROWS[kind, source]


def test_complete_sets_progress_100_and_the_duration() -> None:
    processing = record("processing")

    done = evolve(processing, accepted(processing, command("assessment.complete"), NOW + timedelta(seconds=2)))

    assert (done.progress, done.completed_at) == (100, NOW + timedelta(seconds=2))
    assert done.result_data == {"overallScore": 90, "totalServers": 3}
    assert done.duration is not None
    assert 1900 < done.duration <= 2000


def test_retry_clears_the_attempt_and_counts_it() -> None:
    failed = record("failed")
    assert failed is not None
    assert failed.error_message == "it broke"

    again = evolve(failed, accepted(failed, command("assessment.retry")))

    cleared = (again.progress, again.error_message, again.result_data, again.completed_at, again.started_at)
    assert cleared == (0, None, None, None, None)
    assert (again.retry_count, again.state) == (1, AssessmentState.PENDING)


def test_progress_without_a_message_keeps_the_last_one_and_may_go_down() -> None:
    current = record("processing")
    current = evolve(current, accepted(current, command("assessment.progress")))

    current = evolve(current, accepted(current, command("assessment.progress", data={"progress": 10})))

    assert (current.progress, current.message) == (10, "forty")


def test_the_owner_is_the_user_of_the_create_command_whatever_its_data_says() -> None:
    asked = command("assessment.create", data=DATA["assessment.create"] | {"userId": "mallory"})

    created = evolve(None, accepted(None, asked))

    assert created.owner == "bob"
    assert created.request_data["assessmentId"] == "a1"


def test_an_event_is_never_dated_before_the_last_one_of_its_assessment() -> None:
    current = record("pending")
    assert current is not None

    event = accepted(current, command("assessment.start"), NOW - timedelta(hours=1))

    assert event.occurred_at > current.updated_at


def test_an_event_that_does_not_follow_is_not_applied() -> None:
    event = accepted(record("processing"), command("assessment.complete"))

    with pytest.raises(ValueError, match="does not follow"):
        evolve(record("pending"), event)


@given(st.lists(st.sampled_from(sorted(DATA)), max_size=30))
def test_whatever_is_asked_only_the_arrows_happen_and_the_events_fold_to_the_state(kinds: list[str]) -> None:
    current: AssessmentRecord | None = None
    events = []
    for kind in kinds:
        decision = decide(current, command(kind), NOW)
        if isinstance(decision, Rejection):
            continue
        before = None if current is None else current.state
        current = evolve(current, decision)
        assert ARROWS[kind, before] == current.state
        events.append(decision)

    folded: AssessmentRecord | None = None
    for event in events:
        folded = evolve(folded, event_from_json(event.to_json()))

    assert folded == current
    if current is not None:
        assert current.version == len(events)
        assert AssessmentRecord.from_json(current.to_json()) == current


def test_an_event_tells_of_its_caller_what_is_known_and_leaves_out_the_rest() -> None:
    asked = command("assessment.create")
    unknown, known = asked, asked._replace(header=asked.header._replace(ip_address="10.0.0.1", user_agent="curl"))

    without, told = accepted(None, unknown), accepted(None, known)

    assert {"ipAddress", "userAgent"}.isdisjoint(without.to_wire())
    assert (told.to_wire()["ipAddress"], told.to_wire()["userAgent"]) == ("10.0.0.1", "curl")
    for event in (without, told):
        assert event_from_json(event.to_json()).to_json() == event.to_json()


@pytest.mark.parametrize("number", [1e19, -1e19, 1e22, -1.7976931348623157e308, 5e-324])
def test_an_event_is_the_same_where_jsonb_wrote_out_all_digits_of_a_number(number: float) -> None:
    request = DATA["assessment.create"] | {"metadata": {"number": number}}
    event = accepted(None, command("assessment.create", data=request))
    told = event.to_json().decode()
    digits = told.replace(f'"number":{orjson.dumps(number).decode()}', f'"number":{Decimal(repr(number)):f}')

    read = event_from_json(digits)

    assert digits != told
    assert read == event
    assert evolve(None, read).to_json()
    assert canonical(orjson.loads(read.to_json())) == canonical(orjson.loads(told))


@pytest.mark.parametrize("value", [b"", b"null", b"{", b"[]", b'{"type":"assessment.created"}', b'"\xff"'])
def test_what_is_no_event_is_a_value_error(value: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        event_from_json(value)


def test_an_import_keeps_the_original_times_and_owner_and_is_where_the_old_system_left_it() -> None:
    event = accepted(None, command("assessment.import"))

    taken = evolve(None, event)

    assert (taken.state, taken.version, taken.progress, taken.retry_count) == ("failed", 1, 70, 2)
    assert (taken.error_message, taken.owner, taken.metadata) == ("no route", "ann", {"a": 1})
    assert taken.created_at == datetime(2024, 5, 1, 8, tzinfo=UTC)
    assert taken.updated_at == taken.completed_at == datetime(2024, 5, 1, 8, 9, tzinfo=UTC)
    assert taken.duration == 8 * 60 * 1000
    assert event.occurred_at == NOW
    assert event_from_json(event.to_json()) == event


def test_what_is_imported_goes_on_where_it_was() -> None:
    taken = evolve(None, accepted(None, command("assessment.import")))

    retried = evolve(taken, accepted(taken, command("assessment.retry")))

    assert (retried.state, retried.version, retried.retry_count) == ("pending", 2, 3)
    assert retried.created_at == taken.created_at


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "done"},
        {"state": "processing"},
        {"state": "completed", "completedAt": None},
        {"updatedAt": "2024-05-01T07:59:59Z"},
        {"result": {"overallScore": 1}},
        {"request": {"options": {}}},
        {"createdAt": "2024-05-01T08:00:00"},
        {"progress": 101},
        {"retryCount": -1},
    ],
)
def test_an_import_of_what_no_assessment_can_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        command("assessment.import", data=DATA["assessment.import"] | wrong)
