"""Positions in the feed of all events, and their text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.web.feed_positions import (
    Position,
    covers,
    distance,
    moved,
    offset_at,
    position_from_text,
    position_text,
)

positions = st.lists(st.integers(0, 2**59), max_size=12).map(tuple)


@given(positions)
def test_a_position_is_what_its_text_says(position: Position) -> None:
    assert position_from_text(position_text(position)) == position


@pytest.mark.parametrize(
    "text", ["", "4", "p.", "p.g", "p.-1", "p.1 ", "p..1", "P.1", "p" + ".1" * 1001, "p." + "1" * 16]
)
def test_anything_else_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="no position"):
        position_from_text(text)


@given(positions, st.integers(0, 20), st.integers(0, 2**59))
def test_a_move_changes_one_partition(position: Position, partition: int, offset: int) -> None:
    after = moved(position, partition, offset)

    assert offset_at(after, partition) == offset
    assert all(offset_at(after, other) == offset_at(position, other) for other in range(30) if other != partition)


@given(positions, positions)
def test_who_covers_a_position_has_nothing_to_read_up_to_it(position: Position, other: Position) -> None:
    assert covers(position, other) == (distance(position, other) == 0)
    assert covers(position, ())
