"""A request to end, in whichever way it comes: Ctrl-C, a job that is cancelled, a terminal that is closed."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType


def end_as_by_ctrl_c() -> None:
    """From now on SIGTERM and SIGHUP do what Ctrl-C does, so that they leave behind no more than that.

    What is ignored, as after `nohup`, stays so. Servers put handlers of their own in the place of these.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.raise_signal(signal.SIGINT)
        return
    # A shell has it so for what runs in the background.
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _raise()
    else:
        # Not just here: Python ignores what is raised in some places, as in the hooks of a fork.
        loop.call_soon_threadsafe(_raise)


def _raise() -> None:
    raise KeyboardInterrupt
