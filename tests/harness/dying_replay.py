"""Run `assessmentstore replay`, which dies in the middle: it commits little at a time, so that there is a middle.

Usage: python dying_replay.py ARGUMENT...
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from typing import Any

from assessmentstore.agents import publisher
from assessmentstore.recovery import rebuild, reseed

_ITEMS = 20


def _die_in(owner: Any, name: str, count: int) -> None:
    """Die, as with kill -9, when a method is called for so many times."""
    original, left = getattr(owner, name), count

    async def call(self: Any, *arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await original(self, *arguments)

    setattr(owner, name, call)


if __name__ == "__main__":
    rebuild._ITEMS = reseed._EVENTS = _ITEMS
    _die_in(rebuild.PartitionRebuild, "_write", 8)
    _die_in(publisher.Publisher, "publish", 10)
    sys.argv = ["assessmentstore", "replay", *sys.argv[1:]]
    runpy.run_module("assessmentstore", run_name="__main__", alter_sys=True)
