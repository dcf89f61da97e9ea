"""The position of a reader in the feed of all events: an offset for each partition, and its text.

Partitions commit beside each other, so that no single number orders their events. The text goes out as `id:` and comes
back as `Last-Event-ID`; clients keep it and never look inside.
"""

from __future__ import annotations

import re

Position = tuple[int, ...]
"""The next offset of each partition, by its number; nothing was read of those beyond its end."""

# The letter in front keeps the version of an assessment, which is the id of other streams, from passing as a position.
_TEXT = re.compile(r"p((?:\.[0-9a-f]{1,15}){0,1000})")


def position_text(position: Position) -> str:
    """A position as the id of an event."""
    return "p" + "".join([f".{offset:x}" for offset in position])


def position_from_text(text: str) -> Position:
    """Read what `position_text` wrote.

    Raises:
        ValueError: it is something else.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:100]!r} is no position in the feed")
    return tuple(int(offset, 16) for offset in match[1].split(".")[1:])


def offset_at(position: Position, partition: int) -> int:
    """The next offset of a partition."""
    return position[partition] if partition < len(position) else 0


def moved(position: Position, partition: int, offset: int) -> Position:
    """The position after a partition was read up to an offset."""
    wide = position + (0,) * (partition + 1 - len(position))
    return (*wide[:partition], offset, *wide[partition + 1 :])


def covers(position: Position, other: Position) -> bool:
    """Whether everything before `other` is before `position` too."""
    return all(offset_at(position, partition) >= offset for partition, offset in enumerate(other))


def distance(position: Position, end: Position) -> int:
    """How many offsets lie between."""
    return sum(max(0, offset - offset_at(position, partition)) for partition, offset in enumerate(end))
