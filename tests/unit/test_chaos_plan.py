"""A plan comes from its seed alone, and holds what it should."""

from __future__ import annotations

from itertools import pairwise

import pytest

from assessmentstore.agents.crash_points import CrashPoint, CrashPoints
from assessmentstore.chaos.plan import PARTS, SEALED, SERVICES, WEBS, WORKERS, make_plan, plan_faults
from assessmentstore.chaos.sabotages import BY_NAME, SABOTAGES, breakers_by_module


def test_the_same_seed_makes_the_same_plan_and_another_makes_another() -> None:
    assert make_plan(7, 60) == make_plan(7, 60)
    assert make_plan(7, 60) != make_plan(8, 60)


def test_a_longer_run_begins_as_a_shorter_one_does() -> None:
    short, long = list(plan_faults(7, 60)), list(plan_faults(7, 600))

    assert long[: len(short)] == short


@pytest.mark.parametrize("seed", range(5))
def test_nobody_meets_a_fault_before_he_is_over_the_last_one(seed: int) -> None:
    for target in (*WORKERS, *WEBS, *SERVICES):
        faults = [fault for fault in plan_faults(seed, 600) if fault.target == target]

        assert all(later.at > earlier.at + earlier.seconds for earlier, later in pairwise(faults))


def test_a_run_of_some_minutes_has_every_sort_of_fault_and_of_question() -> None:
    plan = make_plan(1, 400)
    ops = [op for life in plan.lives for step in life.steps for op in step.ops]

    faults = {(fault.kind, fault.target.partition("-")[0]) for fault in plan.faults}
    assert {kind for kind, target in faults if target == "worker"} == {
        *("kill", "stop", "restart", "crash", "freeze", "skew", "join")
    }
    assert {kind for kind, target in faults if target == "web"} == {"kill", "stop", "restart", "skew"}
    for service in SERVICES:
        assert {kind for kind, target in faults if target == service} - {"flush"} == {"kill", "stop", "restart", "slow"}
    assert ("flush", "redis") in faults
    assert {op.do for op in ops} == {"command", "read", "list", "wait", "stream", "junk"}
    assert {op.door for op in ops if op.do == "command"} == {"http", "async", "kafka", "kafka-binary"}
    assert any(op.borrowed for op in ops)


def test_several_faults_are_at_work_at_once() -> None:
    faults = list(plan_faults(1, 600))

    assert any(later.at < earlier.at + earlier.seconds for earlier, later in pairwise(faults))


def test_every_crash_point_has_its_turn_and_those_of_the_sabotages_exist() -> None:
    planned = {fault.detail for seed in range(20) for fault in plan_faults(seed, 600) if fault.kind == "crash"}
    armed = {fault.detail for sabotage in SABOTAGES for fault in sabotage.faults if fault.kind in ("crash", "freeze")}

    assert {CrashPoint(point.partition(":")[0]) for point in planned} == set(CrashPoint)
    assert all(CrashPoints(point) for point in planned | armed)


def test_there_are_more_than_ten_sabotages_and_each_has_a_way_to_break_something() -> None:
    names = {name for module in breakers_by_module() for name in module}

    assert len(BY_NAME) == len(SABOTAGES) > 10
    for sabotage in SABOTAGES:
        assert sabotage.name in names
        for kind in sabotage.where.split(" and "):
            assert sabotage.broken(kind) == sabotage.name


def test_even_seeds_have_keys_and_every_run_has_the_other_parts_with_their_faults() -> None:
    assert set(make_plan(2, 60).parts) == set(PARTS)
    assert set(make_plan(3, 60).parts) == set(PARTS) - {SEALED}
    assert {fault.target for fault in make_plan(2, 60).faults} >= set(PARTS)
    assert [fault.at for fault in make_plan(2, 60).faults] == sorted(fault.at for fault in make_plan(2, 60).faults)


def test_commands_may_be_meant_for_one_attempt_and_some_for_another() -> None:
    ops = [op for life in make_plan(1, 400).lives for step in life.steps for op in step.ops if op.do == "command"]

    assert {op.data["attempt"] for op in ops if "attempt" in op.data} >= {0, 1}
