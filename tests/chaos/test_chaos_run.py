"""`assessmentstore chaos`: a short run under faults is acquitted, and the judge notices what is broken on purpose."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from assessmentstore.chaos.history import read_history
from assessmentstore.chaos.lives import SHORT
from assessmentstore.chaos.plan import make_plan
from assessmentstore.chaos.prove import Proof, prove, run_and_report
from assessmentstore.chaos.run import Stage, open_stage
from assessmentstore.services import NAMES, found
from assessmentstore.settings import Settings

pytestmark = pytest.mark.timeout(900)

# Some faults of every sort are more than a short run has; other seeds, and those with keys, are for `make soak`.
_SEED, _SECONDS = 3, 20.0

# The others are for `make soak`, too.
_CHEAP = ("no-resume", "answer-with-now")


_LOOKED_AT = (
    "commands told to be applied",
    "states told",
    "lists told",
    "attempts of the executor",
    "messages that webhooks were told",
    "records that the audit service took",
    "events of the old system",
    "notifications of the old system",
    "assessments that were imported",
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def stage(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Services that the runs of this module may kill."""
    opened = open_stage(tmp_path_factory.mktemp("chaos"))
    yield runner.run(opened.__aenter__())
    runner.run(opened.__aexit__(None, None, None))


def test_a_short_run_ends_without_a_violation_and_leaves_a_report(runner: asyncio.Runner, stage: Stage) -> None:
    folder, said = stage.folder / "run", list[str]()

    verdict = runner.run(run_and_report(stage, make_plan(_SEED, _SECONDS, SHORT), folder, say=said.append))

    assert verdict.innocent, "\n".join(violation.words for violation in verdict.violations)
    assert len(verdict.happened) == len(verdict.plan.faults) > 0
    assert min(verdict.checked[what] for what in _LOOKED_AT) > 0
    assert len(read_history(folder / "history.jsonl")) == sum(verdict.told.values())
    assert json.loads((folder / "verdict.json").read_text())["innocent"] is True
    _assert_needs_nothing_else((folder / "report.html").read_text())


def _assert_needs_nothing_else(page: str) -> None:
    assert "Nothing is wrong" in page
    assert "<svg" in page
    assert not [word for word in ("http://", "https://", "<script", "<link", "url(") if word in page]


@pytest.mark.parametrize("name", _CHEAP)
def test_the_judge_notices_what_is_broken_on_purpose(runner: asyncio.Runner, stage: Stage, name: str) -> None:
    proofs: list[Proof] = []

    right = runner.run(prove(stage, [name], 1, say=lambda _: None, tell=proofs.append))

    assert right
    assert [proof.verdict.innocent for proof in proofs] == [False]


def test_a_run_that_is_told_to_end_takes_along_all_that_it_started(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # Postgres may run as another user
    # Whoever runs the tests in the background of a shell ignores Ctrl-C, and the run would too.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "assessmentstore", "chaos", "run"]
    command += ["--minutes", "5", "--out", str(tmp_path)]
    started = list[psutil.Process]()
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            assert any(line.endswith("workers and webs\n") for line in process.stderr)
            started = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            _, said = process.communicate()
        assert process.returncode == 130, said
        (folder,) = (path.parent for path in tmp_path.glob("*/services"))
        services = found(Settings.model_construct(data_dir=folder))
        _, alive = psutil.wait_procs(started, timeout=10)
    finally:
        for each in started:
            with suppress(psutil.NoSuchProcess):
                each.kill()

    assert len(started) >= len(NAMES)
    assert (services, alive) == (None, [])
