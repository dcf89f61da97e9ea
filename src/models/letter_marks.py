"""What became of a dead letter: told on a topic of its own, so that a replay brings it back with the letter."""

from __future__ import annotations

from datetime import datetime

from .base import WireModel


class LetterMarks(WireModel):
    """All that became of a dead letter by now; what is told later of the same one counts in its stead."""

    partition: int
    """Of the commands topic."""
    offset: int
    redriven_at: datetime | None
    redriven_by: str | None
    redriven_partition: int | None
    """Where it was sent to, with the offset."""
    redriven_offset: int | None
    dropped_at: datetime | None
    dropped_by: str | None
    drop_reason: str | None

    @property
    def place(self) -> str:
        """Where the letter stood on the commands topic."""
        return f"{self.partition}:{self.offset}"

    @property
    def at(self) -> datetime:
        """When the last of it happened."""
        return max(at for at in (self.redriven_at, self.dropped_at) if at is not None)
