"""The programs that check deploy/: what `make tools` put into build/tools, else what is on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

_BUILT_WITH_GO = {"helm", "kustomize"}


def find_tool(name: str) -> str | None:
    """Where a program is; nothing where it is missing, which is a failure in CI if it could be there."""
    found = shutil.which(name, path=ROOT / "build" / "tools") or shutil.which(name)
    possible = name not in _BUILT_WITH_GO or shutil.which("go")
    if found is None and possible and os.environ.get("CI"):
        pytest.fail(f"{name} is missing: `make tools` says why")
    return found


def run_tool(name: str, *arguments: str, folder: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder; where it is missing the test is skipped."""
    program = find_tool(name)
    if program is None:
        pytest.skip(f"{name} is not here: `make tools` says why")
    return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
