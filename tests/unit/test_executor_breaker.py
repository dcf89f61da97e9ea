"""The breaker, against a clock of the test's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.executor.breaker import Breaker

FAILURES = 5
LONGEST_PAUSE = 30.0
SPREAD = 0.25


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(Clock())
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failed()
        breaker.succeeded()

    assert breaker.is_closed
    assert not opened(Clock()).is_closed


def test_what_cannot_go_better_opens_it_at_once() -> None:
    breaker = Breaker(Clock())
    breaker.failed(for_good=True)

    assert not breaker.admits


def test_after_the_pause_one_call_is_tried_and_closes_it_or_not() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += breaker.pause

    assert breaker.admits
    with breaker.passing():
        assert not breaker.admits
        breaker.failed()
    assert not breaker.admits

    clock.now += breaker.pause
    with breaker.passing():
        breaker.succeeded()
    assert breaker.is_closed


def test_a_trial_that_is_broken_off_leaves_it_to_the_next() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += breaker.pause
    with breaker.passing():
        pass

    assert breaker.admits
    assert not breaker.is_closed


def test_failures_of_calls_that_were_under_way_do_not_make_the_pause_longer() -> None:
    clock = Clock()
    breaker = opened(clock)
    pause = breaker.pause
    for _ in range(10):
        breaker.failed()

    assert breaker.pause == pause


@given(st.lists(st.sampled_from(["failed", "succeeded", "wait", "trial failed"]), max_size=60))
def test_it_is_never_shut_for_longer_than_the_longest_pause_and_a_success_closes_it(
    steps: list[str],
) -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for step in steps:
        if step == "wait":
            clock.now += 1
        elif step == "succeeded":
            breaker.succeeded()
        elif step == "failed":
            breaker.failed()
        elif breaker.admits:
            with breaker.passing():
                breaker.failed()
        assert 0 <= breaker.pause <= LONGEST_PAUSE + SPREAD
        assert breaker.admits == (breaker.pause == 0)

    clock.now += LONGEST_PAUSE + SPREAD
    assert breaker.admits
    breaker.succeeded()
    assert breaker.is_closed
