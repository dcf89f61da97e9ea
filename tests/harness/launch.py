"""Run `python -m assessmentstore` under test: it dies with the test run, and breaks where a test wants it broken.

Usage: launch.py SABOTAGE ARGUMENT..., where SABOTAGE is a list of names from `sabotage.py` with commas between, or -.
"""

from __future__ import annotations

import ctypes
import runpy
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Apply the sabotage and run the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    names, arguments = sys.argv[1], sys.argv[2:]
    if names != "-":
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from tests.harness.sabotage import SABOTAGES  # noqa: PLC0415 - an unbroken worker imports nothing of ours

        for name in names.split(","):
            SABOTAGES[name]()
    sys.argv = ["assessmentstore", *arguments]
    runpy.run_module("assessmentstore", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
