"""What the tasks of a test wait for, when it has failed in the middle of them."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any


def describe_tasks() -> str:
    """The stacks of all tasks that have not ended, of the loop that is set; nothing where none is."""
    try:
        tasks = asyncio.all_tasks(asyncio.get_event_loop())
    except RuntimeError:
        return ""
    return "\n".join(map(_describe, sorted(tasks, key=lambda task: task.get_name())))


def _describe(task: asyncio.Task[Any]) -> str:
    stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in _frames(task.get_coro()))
    return f"{task.get_name()}:\n{''.join(stack.format())}"


def _frames(awaited: Any) -> Iterator[FrameType]:
    """From a coroutine to what it waits for, as far as that is Python; a task itself tells its outermost frame only."""
    while awaited is not None:
        for kind in ("cr", "gi", "ag"):
            if (frame := getattr(awaited, f"{kind}_frame", None)) is not None:
                yield frame
                awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            return
