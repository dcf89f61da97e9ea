from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psutil
import pytest
from bench import fold, memory, report, stored, workers
from bench.contenders import BARE, PER_MESSAGE, QUIX, WORKER, Running, limited
from bench.measure import Latency, Throughput
from bench.report import PACE, Result
from bench.steps import Steps
from bench.targets import Verdict, judge
from bench.workload import commands
from tests.harness.waiting import eventually

from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.commands import Command
from assessmentstore.models.envelope import decode_command
from assessmentstore.models.errors import Rejection
from assessmentstore.models.machine import decide, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
STEPS = Steps(commands=1000, batches=4, seconds={"commit": 0.4, "publish": 0.1})


def throughput(
    contender: str = WORKER.name, *, rate: float = 1000, memory: int = 100, busy: float = 0.5, commands: int = 1000
) -> Throughput:
    cpu = {"contender": 0.5, "kafka": 0.25}
    steps = STEPS if contender == WORKER.name else Steps()
    return Throughput(contender, commands, commands / rate, cpu, memory << 20, 80 << 20, busy, steps)


def latency(contender: str = WORKER.name, *, pace: int = PACE, milliseconds: float = 10) -> Latency:
    return Latency(contender, pace, [milliseconds] * 100, 1 << 20, 0.3, 0.1, STEPS)


@pytest.mark.parametrize(
    ("relation", "value", "met"),
    [
        (">=", 1.0, True),
        (">=", 0.999, False),
        (">", 1.0, False),
        (">", 1.001, True),
        ("<", 1.0, False),
        ("<", 0.999, True),
        ("<=", 1.0, True),
        ("<=", 1.001, False),
    ],
)
def test_a_target_is_met_or_missed_by_the_figure_itself(relation: str, value: float, met: bool) -> None:
    verdict = Verdict("a / b", value, relation, 1.0)

    assert verdict.met is met
    assert str(verdict).endswith("met" if met else "MISSED")


def test_only_a_check_fails_where_a_target_is_missed() -> None:
    missed = [Verdict("a", 2, ">=", 1), Verdict("b", 0, ">=", 1)]

    assert judge(missed, check=True) == 1
    assert judge(missed, check=False) == 0
    assert judge(missed[:1], check=True) == 0


def test_the_worker_is_held_to_a_ratio_with_each_of_the_others() -> None:
    rates = {WORKER.name: 800, PER_MESSAGE.name: 100, BARE.name: 1000, QUIX.name: 800}

    result = Result([{name: throughput(name, rate=rate) for name, rate in rates.items()}])

    met = {verdict.what: verdict.met for verdict in result.verdicts}
    assert met == {"worker / per-message": True, "worker / bare": True, "worker / quix": False}
    assert not result.met


def test_what_was_left_out_is_not_judged() -> None:
    assert Result([{WORKER.name: throughput()}]).verdicts == []
    assert Result([{BARE.name: throughput(BARE.name)}]).verdicts == []


def test_latency_is_judged_at_its_pace_and_of_the_worker_only() -> None:
    result = Result([], [latency(milliseconds=20), latency(pace=500), latency(BARE.name)])

    told = [(verdict.what, verdict.met) for verdict in result.verdicts]
    assert told == [("p50 at 1,000 commands/s", False), ("p99 at 1,000 commands/s", True)]


def test_latency_alone_is_reported_too() -> None:
    result = Result([], [latency()])

    assert "p50 at 1,000 commands/s: 10.00 ms, target < 15 ms: met" in report.text(result)
    assert report.as_json(result)["met"] is True


def test_a_whole_result_is_reported_to_people_and_to_programs() -> None:
    result = Result([{name: throughput(name) for name in (WORKER.name, QUIX.name)}], [latency()])

    text, told = report.text(result), orjson.loads(orjson.dumps(report.as_json(result)))

    assert "worker / quix: 1.00, target > 1: MISSED" in text
    assert "Where a batch's time goes: 4 batches of 250 commands" in text
    assert [target["met"] for target in told["targets"]] == [False, True, True]
    assert told["medians"] == {"worker": 1000, "quix": 1000}


def test_two_workers_are_compared_with_one_and_with_what_the_machine_has() -> None:
    busy, verdict = workers.report({1: [throughput(busy=0.95)], 2: [throughput(rate=1200, busy=1.0)]}, cores=2)
    idle, _ = workers.report({1: [throughput(busy=0.3)], 2: [throughput(rate=1200)]}, cores=8)

    assert verdict.value == pytest.approx(1.2)
    assert not verdict.met
    assert "95% of the cores are busy already" in busy
    assert "busy already" not in idle


async def test_a_limited_process_runs_and_stands_still_in_turns(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    status, seen = psutil.Process(process.pid).status, set()

    async def both_seen() -> bool:
        seen.add(status() == psutil.STATUS_STOPPED)
        return seen == {True, False}

    async def runs() -> bool:
        return status() != psutil.STATUS_STOPPED

    try:
        async with limited([Running(process, 0, tmp_path)], 0.25):
            await eventually(both_seen, "the process to stop and to go on")
        await eventually(runs, "the process to go on for good")
    finally:
        process.kill()
        await process.wait()


def test_a_full_store_is_compared_with_an_empty_one() -> None:
    empty = stored.Measured(0, [throughput(rate=1000)], [1.0, 2.0, 3.0])
    full = stored.Measured(50_000, [throughput(rate=800)], [1.0, 2.0, 3.0])

    told, verdict = stored.report(empty, full)

    assert verdict.value == pytest.approx(1.25)
    assert not verdict.met
    assert "50,000" in told


def test_memory_has_a_bound_where_the_last_backlog_takes_little_more_than_the_one_before() -> None:
    bounded = [throughput(memory=each, commands=1000 * each) for each in (100, 200, 210)]

    _, [verdict] = memory.report(bounded)
    _, none = memory.report(bounded[:1])

    assert verdict.value == pytest.approx(1.05)
    assert verdict.met
    assert none == []


def test_the_yardsticks_emit_the_events_that_the_product_emits() -> None:
    states: dict[str, fold.State] = {}
    records: dict[str, AssessmentRecord] = {}
    for message in commands(40, name="same"):
        given = orjson.loads(message.value)
        key = given["subject"]
        before = states.get(key)
        states[key], extra = fold.change(before, given, NOW)
        own = fold.event(given, before, states[key], extra, NOW.isoformat())

        command = decode_command(message.key, message.value, [])
        assert isinstance(command, Command)
        event = decide(records.get(key), command, NOW)
        assert not isinstance(event, Rejection)
        records[key] = evolve(records.get(key), event)

        assert _timeless(own) == _timeless(orjson.loads(event.to_json()))


def _timeless(event: dict[str, object]) -> dict[str, object]:
    """Two ways to write a moment are no difference."""
    request = event.get("request")
    if isinstance(request, dict):
        request = request | {"timestamp": None}
    return event | {"occurredAt": None, "request": request}
