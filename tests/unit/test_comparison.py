"""Copies of an assessment are told apart by what they mean, and caches by what they may still have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.comparison import Digest, compared, differing
from assessmentstore.models.events import AssessmentEvent, Created, Imported, ProgressReported, Started
from assessmentstore.models.machine import evolve
from assessmentstore.models.sealed import MEMBER
from assessmentstore.recovery.scratch import Folded
from assessmentstore.store.encryption import NO_KEYS, KeyRing, generate
from assessmentstore.store.past import fold
from assessmentstore.store.truth import Copy, Truth, Verdict, compare, judge

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REQUEST = {"assessmentType": "health", "options": {}, "priority": 5}


def event(version: int, progress: int = 0) -> AssessmentEvent:
    common: dict[str, Any] = {
        "assessment_id": "a", "version": version, "progress": progress, "message": None, "command_id": f"c{version}",
        "user_id": None, "occurred_at": NOW + timedelta(seconds=version),
    }  # fmt: skip
    if version == 1:
        return Created(**common, state=AssessmentState.PENDING, previous_state=None, request=REQUEST)
    if version == 2:
        return Started(**common, state=AssessmentState.PROCESSING, previous_state=AssessmentState.PENDING)
    processing = AssessmentState.PROCESSING
    return ProgressReported(**common, state=processing, previous_state=processing)


EVENTS = [event(1), event(2), event(3, 30), event(4, 40)]
STATES = fold(EVENTS)


def truth(version: int = 4, *, deleted: bool = False, gone: bool = False) -> Truth:
    """What Postgres says: version n came of the command at offset 10 n, on partition 0."""
    rows: list[Any] = [
        {"new_version": number, "command_partition": 0, "command_offset": 10 * number, "value": each.to_json()}
        for number, each in enumerate(EVENTS[:version], 1)
    ]
    return Truth(deleted=deleted) if gone else Truth(STATES[version - 1], rows=rows, deleted=deleted)


@pytest.mark.parametrize(
    ("version", "position", "wanted"),
    [
        pytest.param(4, 41, Verdict.EQUAL, id="the same"),
        pytest.param(4, 20, Verdict.EQUAL, id="the same, filled in before its position came"),
        pytest.param(3, 40, Verdict.BEHIND, id="the cache has not got further"),
        pytest.param(1, 11, Verdict.BEHIND, id="far behind"),
        pytest.param(3, 41, Verdict.DIFFERENT, id="the cache has passed the last change, and does not have it"),
        pytest.param(1, 31, Verdict.DIFFERENT, id="the cache has passed changes, though not the last"),
    ],
)
def test_a_copy_may_be_as_old_as_the_position_of_its_cache(version: int, position: int, wanted: Verdict) -> None:
    copy = Copy("a", STATES[version - 1].to_json(), {0: position})

    assert judge(copy, truth(), NO_KEYS).verdict is wanted


@pytest.mark.parametrize("position", [20, 41])
def test_a_copy_that_says_something_else_of_its_version_is_different(position: int) -> None:
    for version in (2, 4):
        wrong = STATES[version - 1].model_copy(update={"progress": 77})

        judged = judge(Copy("a", wrong.to_json(), {0: position}), truth(), NO_KEYS)

        assert judged.verdict is Verdict.DIFFERENT
        assert "/progress" in [each.pointer for each in judged.fields]


def test_a_copy_of_the_future_of_nothing_or_of_noise_is_different() -> None:
    good = STATES[3].to_json()
    cases = [
        (Copy("a", good, {0: 21}), truth(2), "/version"),
        (Copy("a", good, {0: 41}), truth(gone=True), ""),
        (Copy("a", b"\x00noise", {0: 41}), truth(), ""),
        (Copy("a", good[:-1] + b',"auditHash":"' + b"ab" * 32 + b'"}', {0: 41}), truth(), "/auditHash"),
        (Copy("a", good, {0: 41}, version=b"3"), truth(), "/v"),
        (Copy("b", good, {0: 41}), truth(gone=True), ""),
    ]

    for copy, says, field in cases:
        judged = judge(copy, says, NO_KEYS)
        assert judged.verdict is Verdict.DIFFERENT
        assert field in [each.pointer for each in judged.fields]


def test_what_is_left_of_a_deleted_assessment_is_no_corruption() -> None:
    old_life = Copy("a", STATES[3].to_json(), {0: 5})

    assert judge(old_life, truth(gone=True, deleted=True), NO_KEYS).verdict is Verdict.LEFT_OVER
    assert judge(old_life, truth(2, deleted=True), NO_KEYS).verdict is Verdict.LEFT_OVER
    assert judge(old_life._replace(positions={0: 21}), truth(2, deleted=True), NO_KEYS).verdict is Verdict.DIFFERENT


def test_a_payload_that_was_encrypted_anew_is_the_same_and_one_that_was_changed_does_not_open() -> None:
    one, two = generate("k1"), generate("k2")
    old, new = KeyRing.parse(one), KeyRing.parse(f"{two},{one}")
    sealed = STATES[0].model_copy(update={"request_data": old.seal("a", REQUEST)})
    rotated = sealed.model_copy(update={"request_data": new.reseal("a", sealed.request_data)})
    broken = rotated.model_copy(
        update={"request_data": {MEMBER: rotated.request_data[MEMBER] | {"data": sealed.request_data[MEMBER]["data"]}}}
    )
    clear = sealed.model_copy(update={"request_data": {"secret": "canary"}})

    assert sealed.request_data != rotated.request_data
    assert compare(sealed, rotated).verdict is Verdict.EQUAL
    judged = judge(Copy("a", broken.to_json(), {0: 11}), Truth(rotated), new)
    assert [(each.pointer, each.expected) for each in judged.fields] == [("/requestData", "a payload that opens")]
    assert judge(Copy("a", sealed.to_json(), {0: 11}), Truth(rotated), KeyRing.parse(two)).verdict is Verdict.EQUAL
    assert "canary" not in str(compare(sealed, clear).fields)


def test_numbers_count_by_their_values() -> None:
    def with_score(score: object) -> AssessmentRecord:
        return STATES[0].model_copy(update={"request_data": {"score": score}})

    assert differing(compared(with_score(1)), compared(with_score(1.0))) == []
    ((pointer, expected, found),) = differing(compared(with_score(1)), compared(with_score(1.5)))
    assert (pointer, expected, found) == ("/requestData/score", 1, 1.5)


def test_a_log_without_a_beginning_or_with_a_gap_says_nothing_until_a_creation() -> None:
    cut = Folded(0, None).then(EVENTS[1])
    gap = Folded(0, STATES[0]).then(EVENTS[2])

    assert (cut.state, gap.state) == (None, None)
    assert cut.then(EVENTS[2]).unknown == cut.unknown != ""
    assert Folded.from_bytes(gap.to_bytes()) == gap
    assert gap.then(EVENTS[0]) == Folded(0, evolve(None, EVENTS[0]))


def test_an_assessment_of_the_old_system_has_its_beginning_on_the_log() -> None:
    imported = Imported(
        assessment_id="a", version=1, state=AssessmentState.FAILED, previous_state=None, progress=0, message=None,
        command_id="c1", user_id=None, occurred_at=NOW, request=REQUEST, result=None, error="x", retry_count=0,
        created_at=NOW, updated_at=NOW, started_at=NOW, completed_at=None, next_retry_at=None, history=(),
    )  # fmt: skip

    assert Folded(0, None).then(imported) == Folded(0, evolve(None, imported))


@given(st.lists(st.binary()), st.randoms())
def test_a_digest_knows_no_order_and_forgets_nothing(texts: list[bytes], chance: Any) -> None:
    shuffled = list(texts)
    chance.shuffle(shuffled)

    def digest(*of: bytes) -> str:
        made = Digest()
        for text in of:
            made.add(text)
        return made.hex()

    assert digest(*texts) == digest(*shuffled)
    assert digest(*texts) != digest(*texts, b"")
