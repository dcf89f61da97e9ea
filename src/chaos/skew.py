"""A clock that is wrong: that of one process, which it asks for the time of day.

Changed are `time.time`, which libraries ask too, and `datetime.now` in the modules of this package and in those that
judge tokens. The clocks that only measure how long something takes are left alone, as a wrong time of day leaves them.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime, tzinfo
from typing import Any

_PACKAGES = ("assessmentstore", "jwt")


def skew(seconds: float) -> None:
    """Let the clock be ahead by so many seconds, or behind."""
    right, true_datetime = time.time, datetime

    def wrong() -> float:
        return right() + seconds

    class WrongDatetime(datetime):
        """A datetime whose present is another."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return true_datetime.fromtimestamp(wrong(), tz)

    time.time = wrong
    time.time_ns = lambda: int(wrong() * 1e9)
    _import_all()
    for name, module in list(sys.modules.items()):
        if name.startswith(_PACKAGES) and not _has_types(name) and getattr(module, "datetime", None) is true_datetime:
            module.datetime = WrongDatetime  # type: ignore[attr-defined]


def _import_all() -> None:
    """Import what a worker or a web is made of, so that it can be changed."""
    from .. import bootstrap  # noqa: F401, PLC0415 - not before it is known that the clock is to be wrong


def _has_types(name: str) -> bool:
    """Whether a module needs the class itself: pydantic knows no other."""
    return name.startswith(("assessmentstore.models", "assessmentstore.settings"))
