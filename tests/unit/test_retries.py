"""Retries by policy: how often, after which delays, and what of it stands in events and states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assessmentstore.models.assessment import AssessmentRecord, AssessmentRequest
from assessmentstore.models.commands import COMMAND_DATA, Command, CommandHeader, CommandType
from assessmentstore.models.errors import Rejection
from assessmentstore.models.events import Failed, event_from_json
from assessmentstore.models.machine import decide, evolve
from assessmentstore.models.retries import JITTER, NO_RETRIES, RetryPolicy
from assessmentstore.models.sealed import clear_members
from assessmentstore.settings import Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

POLICIES = st.fixed_dictionaries(
    {
        "max_retries": st.integers(0, 100),
        "initial_delay_seconds": st.floats(0.001, 604_800),
        "backoff_coefficient": st.floats(1, 10),
        "max_delay_seconds": st.floats(0.001, 604_800),
    }
).map(RetryPolicy.model_validate)
IDS = st.text(min_size=1, max_size=40)


def run(
    current: AssessmentRecord | None, kind: str, data: dict[str, Any] | None = None, retries: RetryPolicy = NO_RETRIES
) -> tuple[Any, AssessmentRecord]:
    """The event of a command, and the state after it."""
    header = CommandHeader(id=kind, type=CommandType(f"assessment.{kind}"), assessment_id="a1", fingerprint=b"")
    parsed = COMMAND_DATA[header.type].model_validate(data or {})
    event = decide(current, Command(header=header, data=parsed), NOW, retries)
    assert not isinstance(event, Rejection), event
    return event, evolve(current, event_from_json(event.to_json()))


def failed(policy: dict[str, Any] | None = None, retries: RetryPolicy = NO_RETRIES) -> tuple[Any, AssessmentRecord]:
    """An assessment that failed for the first time."""
    request = {"assessmentType": "health", "options": {}} | ({"retryPolicy": policy} if policy else {})
    _, current = run(None, "create", request)
    _, current = run(current, "start")
    return run(current, "fail", {"error": "it broke"}, retries)


@given(POLICIES, IDS, st.integers(0, 200))
def test_a_delay_is_within_its_bounds_and_the_same_for_whoever_asks(
    policy: RetryPolicy, assessment: str, count: int
) -> None:
    delay = policy.delay(assessment, count)

    assert delay == policy.delay(assessment, count)
    assert (delay is None) == (count >= policy.max_retries)
    if delay is not None:
        longest = min(policy.initial_delay_seconds * policy.backoff_coefficient**count, policy.max_delay_seconds)
        microsecond = 1e-6
        assert longest * (1 - JITTER) - microsecond <= delay.total_seconds() <= longest + microsecond


@given(POLICIES, IDS)
def test_delays_grow_where_the_coefficient_outdoes_chance(policy: RetryPolicy, assessment: str) -> None:
    policy = policy.model_copy(update={"backoff_coefficient": 1 / (1 - JITTER), "max_delay_seconds": 1e300})

    delays = [policy.delay(assessment, count) or timedelta() for count in range(min(policy.max_retries, 20))]

    assert delays == sorted(delays)


def test_what_failed_together_does_not_come_back_together() -> None:
    policy = RetryPolicy(max_retries=1, initial_delay_seconds=100.0)

    delays = [policy.delay(f"a{number}", 0) for number in range(1000)]

    seconds = sorted(delay.total_seconds() for delay in delays if delay)
    assert len(set(seconds)) == 1000
    assert seconds[100] < 80
    assert seconds[900] > 95


@given(POLICIES)
def test_an_assessment_that_always_fails_is_retried_as_often_as_the_policy_says(policy: RetryPolicy) -> None:
    policy = policy.model_copy(update={"max_retries": policy.max_retries % 8})
    event, current = failed(policy.to_wire())
    tries = 0
    while event.next_retry_at is not None:
        assert NOW < event.next_retry_at == current.next_retry_at
        tries += 1
        _, current = run(current, "retry")
        assert (current.next_retry_at, current.retry_count) == (None, tries)
        _, current = run(current, "start")
        event, current = run(current, "fail", {"error": "it broke"})

    assert tries == policy.max_retries
    assert current.next_retry_at is None


def test_without_a_policy_a_failed_assessment_stays_failed_and_its_event_says_nothing_new() -> None:
    event, current = failed()

    assert isinstance(event, Failed)
    assert b"nextRetryAt" not in event.to_json()
    assert current.next_retry_at is None


def test_the_policy_of_a_request_comes_before_that_of_the_installation() -> None:
    installation = RetryPolicy(max_retries=2)

    assert failed(retries=installation)[1].next_retry_at is not None
    assert failed({"maxRetries": 0}, installation)[1].next_retry_at is None
    assert failed({"maxRetries": 1}, NO_RETRIES)[1].next_retry_at is not None


def test_what_an_older_request_kept_under_that_name_is_no_policy() -> None:
    _, current = run(None, "create", {"assessmentType": "health", "options": {}})
    _, current = run(current, "start")
    current = current.model_copy(update={"request_data": current.request_data | {"retryPolicy": "as you like"}})

    _, current = run(current, "fail", {"error": "it broke"})

    assert current.next_retry_at is None


def test_a_policy_is_clear_where_its_request_is_sealed_and_has_nothing_of_the_callers_own() -> None:
    policy = {"maxRetries": 3, "initialDelaySeconds": 5, "own": "a secret"}
    request = AssessmentRequest.model_validate({"assessmentType": "health", "options": {}, "retryPolicy": policy})

    clear = clear_members(request.to_wire())

    assert clear["retryPolicy"] == {"maxRetries": 3, "initialDelaySeconds": 5}
    assert RetryPolicy.of(clear) == request.retry_policy


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"maxRetries": -1},
        {"maxRetries": 101},
        {"maxRetries": "3"},
        {"maxRetries": 1, "initialDelaySeconds": 0},
        {"maxRetries": 1, "maxDelaySeconds": 604_801},
        {"maxRetries": 1, "backoffCoefficient": 0.5},
        {"maxRetries": 1, "backoffCoefficient": True},
    ],
)
def test_a_policy_out_of_its_bounds_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AssessmentRequest.model_validate({"assessmentType": "health", "options": {}, "retryPolicy": policy})


def test_the_settings_make_the_policy_of_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSESSMENTSTORE_RETRY_MAX", "4")
    monkeypatch.setenv("ASSESSMENTSTORE_RETRY_INITIAL_DELAY", "1.5")

    policy = Settings.load(_env_file=None).retry_policy

    assert (policy.max_retries, policy.initial_delay_seconds, policy.max_delay_seconds) == (4, 1.5, 3600)
