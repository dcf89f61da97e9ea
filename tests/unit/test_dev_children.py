"""Children of `make run` and of chaos runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from assessmentstore.dev.children import Child


def test_one_that_has_just_ended_by_itself_can_still_be_killed(tmp_path: Path) -> None:
    """Until the loop has heard of it there is no return code."""
    with subprocess.Popen(["true"], start_new_session=True) as ended:
        ended.wait()
    process: Any = SimpleNamespace(pid=ended.pid, returncode=None)

    Child(name="worker", log=tmp_path / "worker.log", process=process).kill()
