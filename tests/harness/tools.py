"""The programs that check deploy/: what `make tools` put into build/tools, else what is on PATH."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def find_tool(name: str) -> str | None:
    """Where a program is; nothing where it is missing."""
    return shutil.which(name, path=ROOT / "build" / "tools") or shutil.which(name)


def run_tool(name: str, *arguments: str, folder: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder; where it is missing the test is skipped."""
    program = find_tool(name)
    if program is None:
        pytest.skip(f"{name} is not here: `make tools` says why")
    return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
