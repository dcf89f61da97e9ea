"""A batch folded at once comes to the same as its commands one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.agents.fold import Decoded, Folded, decode, fold
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.machine import evolve

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class FakeRecord:
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes | None]] = field(default_factory=list)


DATA: list[tuple[str, dict[str, object]]] = [
    ("assessment.create", {"assessmentType": "health", "options": {}}),
    ("assessment.create", {"options": {}}),
    ("assessment.start", {}),
    ("assessment.progress", {"progress": 10}),
    ("assessment.progress", {"progress": 200}),
    ("assessment.complete", {"result": {}}),
    ("assessment.fail", {"error": "x"}),
    ("assessment.cancel", {}),
    ("assessment.retry", {}),
]


def record_of(offset: int, what: int, assessment: int, command: int, version: int | None) -> FakeRecord:
    kind, data = DATA[what]
    event = {
        "specversion": "1.0",
        "id": f"c{command}",
        "type": kind,
        "source": "/test",
        "data": data,
        "expectedversion": version,
        "replyto": "web",
    }
    return FakeRecord(offset, f"a{assessment}".encode(), orjson.dumps(event))


junk = st.builds(FakeRecord, st.just(0), st.binary(max_size=3), st.binary(max_size=9))
commands = st.builds(
    record_of,
    st.just(0),
    st.integers(0, len(DATA) - 1),
    st.integers(1, 3),
    # Few ids, so that duplicates and borrowed ids are common.
    st.integers(1, 12),
    st.none() | st.integers(1, 4),
)


def batch_of(records: Sequence[FakeRecord]) -> list[Decoded]:
    for offset, record in enumerate(records):
        record.offset = offset
    return [decode(record) for record in records]


class World:
    """What stays between batches: states and known commands, as Postgres keeps them."""

    def __init__(self) -> None:
        self.states: dict[str, AssessmentRecord] = {}
        self.known: dict[str, bytes] = {}
        self.results: list[Folded] = []

    def apply(self, batch: Sequence[Decoded]) -> Folded:
        folded = fold(batch, self.states, self.known, NOW)
        self.states |= folded.changes.after
        for accepted in folded.changes.accepted:
            self.known[accepted.header.id] = accepted.header.fingerprint
        for refused in folded.changes.refused:
            self.known[refused.header.id] = refused.header.fingerprint
        self.results.append(folded)
        return folded


@given(st.lists(commands | junk, max_size=40))
def test_a_batch_of_n_equals_n_batches_of_one(records: list[FakeRecord]) -> None:
    batch = batch_of(records)
    at_once, one_by_one = World(), World()

    at_once.apply(batch)
    for decoded in batch:
        one_by_one.apply([decoded])

    assert at_once.states == one_by_one.states
    assert at_once.known == one_by_one.known
    whole, pieces = at_once.results[0], one_by_one.results
    assert whole.changes.accepted == [item for piece in pieces for item in piece.changes.accepted]
    assert whole.changes.refused == [item for piece in pieces for item in piece.changes.refused]
    assert whole.changes.dead_letters == [item for piece in pieces for item in piece.changes.dead_letters]
    assert whole.replies == [reply for piece in pieces for reply in piece.replies]
    assert whole.duplicates == sum(piece.duplicates for piece in pieces)


@given(st.lists(commands | junk, max_size=40))
def test_every_record_ends_in_exactly_one_place(records: list[FakeRecord]) -> None:
    folded = World().apply(batch_of(records))

    changes = folded.changes
    places = len(changes.accepted) + len(changes.refused) + len(changes.dead_letters) + folded.duplicates
    assert places == len(records)


@given(st.lists(commands, max_size=40))
def test_the_events_fold_to_the_states_and_versions_have_no_gap(records: list[FakeRecord]) -> None:
    world = World()
    accepted = world.apply(batch_of(records)).changes.accepted

    folded: dict[str, AssessmentRecord] = {}
    for item in accepted:
        key = item.event.assessment_id
        folded[key] = evolve(folded.get(key), item.event)

    assert folded == world.states


def test_a_duplicate_of_an_accepted_command_has_no_effect() -> None:
    create = record_of(0, 0, 1, 1, None)
    start = record_of(0, 2, 1, 2, None)

    folded = World().apply(batch_of([create, start, start, create]))

    assert [item.event.version for item in folded.changes.accepted] == [1, 2]
    assert folded.changes.refused == []
    assert folded.duplicates == 2
    assert [outcome is None for _, outcome in folded.replies] == [False, False, True, True]


def test_an_id_that_is_borrowed_for_another_content_has_no_effect_and_is_told() -> None:
    folded = World().apply(batch_of([record_of(0, 0, 1, 1, None), record_of(1, 2, 1, 1, None)]))

    assert [item.event.version for item in folded.changes.accepted] == [1]
    assert folded.changes.refused == []
    assert [header.id for header in folded.borrowed] == ["c1"]


def test_a_dead_letter_keeps_key_value_and_headers() -> None:
    record = FakeRecord(7, b"\xff", b"\x00junk", headers=[("h", b"\x01"), ("n", None)])

    letter = decode(record).item

    assert (letter.offset, letter.key, letter.value, letter.headers) == (  # type: ignore[union-attr]
        7,
        b"\xff",
        b"\x00junk",
        [("h", b"\x01"), ("n", None)],
    )
