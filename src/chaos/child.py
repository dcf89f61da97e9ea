"""Run `assessmentstore` to be broken: it dies with whoever started it, and is sabotaged where that is wanted.

Usage: python -m assessmentstore.chaos.child SABOTAGE ARGUMENT..., where SABOTAGE is a list of names from `sabotages`
with commas between, or -.
"""

from __future__ import annotations

import ctypes
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Apply the sabotage and run the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    names, arguments = sys.argv[1], sys.argv[2:]
    if names != "-":
        from .sabotages import apply  # noqa: PLC0415 - an unbroken worker imports nothing of the kind

        apply(names.split(","))
    sys.argv = ["assessmentstore", *arguments]
    runpy.run_module("assessmentstore", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
