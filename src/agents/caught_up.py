"""Which partitions have applied all that was on the topic a moment ago: Postgres is the present for these alone.

A timer that looks at a state while progress of it waits on the topic would fire for nothing, and fill the rejections
after every outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

# The marks of transactions take offsets on the topic and are no records: a lane that had nothing to do for so long has
# everything, however far behind the end it seems to be.
_QUIET_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a lane stands."""

    flow: int
    """Another one once the lane had to begin anew."""
    applied: int
    """The offset below which every command is applied."""
    is_idle: bool
    """Whether all that was fetched is applied."""
    end: int | None
    """The offset after the last command on the topic, as far as the last fetch told."""


@dataclass(frozen=True, slots=True)
class _Mark:
    flow: int
    applied: int
    end: int
    at: float


class CaughtUp:
    """Remembers where each topic ended, and tells who has come there."""

    def __init__(self) -> None:
        self._marks: dict[int, _Mark] = {}

    def among(self, positions: Mapping[int, Position]) -> set[int]:
        """The partitions that have applied what was there when they were marked; new ones are marked now."""
        self._marks = {
            key: mark for key, mark in self._marks.items() if key in positions and positions[key].flow == mark.flow
        }
        for partition in positions.keys() - self._marks.keys():
            self.mark(partition, positions[partition])
        return {key for key, mark in self._marks.items() if _has_reached(mark, positions[key])}

    def mark(self, partition: int, position: Position, *, at_least: int = 0) -> None:
        """Remember where a topic ends now, be it further than the last fetch told."""
        if position.end is not None:
            end = max(position.end, at_least)
            self._marks[partition] = _Mark(position.flow, position.applied, end, _clock())


def _has_reached(mark: _Mark, position: Position) -> bool:
    stands_still = position.is_idle and position.applied == mark.applied
    return position.applied >= mark.end or (stands_still and _clock() - mark.at >= _QUIET_SECONDS)


def _clock() -> float:
    return asyncio.get_running_loop().time()
