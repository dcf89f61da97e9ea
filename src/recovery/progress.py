"""How a recovery tells that it goes on."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears how much there is to do, and how much of it is done."""

    def expect(self, total: int) -> None:
        """There is so much more to do."""

    def passed(self, count: int) -> None:
        """So much of it is done."""
