"""A test that hangs fails, and says where: one process of pytest with this suite's own configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]

_HANGING = """
import asyncio
import pytest

async def answer_that_never_comes():
    await asyncio.Event().wait()

async def test_hangs():
    await asyncio.gather(answer_that_never_comes(), asyncio.sleep(0))

@pytest.fixture
async def never_there():
    await answer_that_never_comes()

async def test_hangs_in_a_fixture(never_there):
    pass

def test_of_the_same_process():
    pass
"""


def test_a_test_that_hangs_fails_with_the_stacks_of_its_tasks_and_the_next_one_runs(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(_HANGING)
    options = ["-c", "pyproject.toml", "-p", "tests.conftest", "-p", "no:cacheprovider", "--timeout", "0.5"]

    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path], cwd=_ROOT, capture_output=True, text=True, check=False
    )

    assert "1 failed, 1 passed, 1 error" in ended.stdout, ended.stdout + ended.stderr
    assert ended.stdout.count("in answer_that_never_comes") == 2
