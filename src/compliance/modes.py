"""How a server may be told to behave."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """How a server behaves, for tests of whoever calls it."""

    NORMAL = "normal"
    SLOW = "slow"
    FAILING = "failing"
    HANGING = "hanging"
