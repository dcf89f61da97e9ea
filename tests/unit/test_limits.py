"""The law of the rate limit, and what is told of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.web.limits import Allowance, LocalCounts, Rate

RATES = st.builds(Rate, st.floats(0.1, 20), st.integers(1, 6))
GAPS = st.lists(st.floats(0, 0.3), min_size=1, max_size=40)


@given(RATES, GAPS)
def test_no_span_of_time_lets_more_through_than_the_burst_and_the_rate(rate: Rate, gaps: list[float]) -> None:
    counts, now, granted = LocalCounts(), 1000.0, []
    for gap in gaps:
        now += gap
        if counts.take("ann", rate, now).granted:
            granted.append(now)

    for first, start in enumerate(granted):
        for last, end in enumerate(granted[first:], first):
            assert last - first + 1 <= rate.burst + (end - start) * rate.per_second + 1e-3


@given(RATES, GAPS)
def test_whoever_waits_as_he_is_told_is_let_through(rate: Rate, gaps: list[float]) -> None:
    counts, now = LocalCounts(), 1000.0
    for gap in gaps:
        now += gap
        allowance = counts.take("ann", rate, now)
        if not allowance.granted:
            now += allowance.retry_after
            assert counts.take("ann", rate, now).granted


@given(RATES)
def test_a_burst_is_let_through_at_once_and_what_remains_is_told(rate: Rate) -> None:
    counts = LocalCounts()

    told = [counts.take("ann", rate, 1000.0) for _ in range(rate.burst + 1)]

    assert [allowance.granted for allowance in told] == [True] * rate.burst + [False]
    assert [allowance.remaining for allowance in told] == [*range(rate.burst - 1, -1, -1), 0]
    assert counts.take("bob", rate, 1000.0).granted


@pytest.mark.parametrize(("whole_in", "remaining", "resets"), [(0.0, 20, 1), (0.5, 15, 1), (1.95, 0, 2)])
def test_the_fields_tell_quota_window_and_rest(whole_in: float, remaining: int, resets: int) -> None:
    headers = Allowance(Rate(10, 20), True, whole_in).headers()

    assert headers == {"RateLimit-Policy": '"user";q=20;w=2', "RateLimit": f'"user";r={remaining};t={resets}'}
