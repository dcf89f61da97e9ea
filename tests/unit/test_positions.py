"""Positions as a lattice, and tokens as their text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.models.positions import Positions

offsets = st.integers(0, 2**63 - 1)
applied = st.dictionaries(st.integers(0, 7), offsets)
positions = st.builds(Positions, st.dictionaries(st.integers(0, 2**31 - 1) | st.integers(0, 7), offsets))


@given(positions)
def test_a_token_reads_back_as_what_it_was(some: Positions) -> None:
    assert Positions.parse(some.encode()) == some


@given(positions)
def test_a_token_needs_no_quoting_in_a_header_or_a_url(some: Positions) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]+", some.encode())


@given(positions, positions, positions)
def test_merging_has_neither_order_nor_repetition(one: Positions, two: Positions, three: Positions) -> None:
    assert one.merge(two) == two.merge(one)
    assert one.merge(two).merge(three) == one.merge(two.merge(three))
    assert one.merge(one) == one == one.merge(Positions())


@given(positions, positions, applied)
def test_what_is_fresh_enough_for_both_is_fresh_enough_for_each(
    one: Positions, two: Positions, state: dict[int, int]
) -> None:
    assert one.merge(two).reached_by(state) == (one.reached_by(state) and two.reached_by(state))


@given(positions, applied, applied)
def test_what_is_reached_stays_reached(some: Positions, state: dict[int, int], more: dict[int, int]) -> None:
    later = {key: max(state.get(key, 0), more.get(key, 0)) for key in state.keys() | more.keys()}

    assert all(count <= some.missing(state)[key] for key, count in some.missing(later).items())
    assert some.reached_by(later) or not some.reached_by(state)


@given(st.integers(0, 7), st.integers(0, 2**62))
def test_a_commands_position_is_reached_once_the_next_one_is_due(partition: int, offset: int) -> None:
    some = Positions.after(partition, offset)

    assert some.missing({partition: offset}) == {partition: 1}
    assert some.reached_by({partition: offset + 1})


@pytest.mark.parametrize(
    "junk",
    [
        "", "p1", "p2.0-1", "p1.0", "p1.0-", "p1.-1", "p1.0-1_", "p1.0-1,p1.1-1", "p1.0--1", "p1.0-G", "p1.0-1\n",
        "P1.0-1", "p1.0-A", "p1.ffffffff-1", "p1.0-ffffffffffffffff", "p1." + "0-1_" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused(junk: str) -> None:
    with pytest.raises(ValueError, match="it "):
        Positions.parse(junk)


@given(st.text())
def test_any_text_is_a_token_or_a_value_error(text: str) -> None:
    try:
        some = Positions.parse(text)
    except ValueError:
        return
    assert Positions.parse(some.encode()) == some
