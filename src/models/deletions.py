"""Deletions by retention: told on a topic of their own, so that nothing that was deleted comes back by a replay."""

from __future__ import annotations

from datetime import datetime

from .base import WireModel


class Deletion(WireModel):
    """An assessment was deleted; its id may be used again after that."""

    assessment_id: str
    partition: int
    """Of the commands topic."""
    last_offset: int
    """Of the last command that changed it: what it had at this offset and below is gone."""
    position: int
    """Every command below was applied when it was deleted; whoever has the id anew comes at this offset or after."""
    deleted_at: datetime
    rows: tuple[tuple[int, str], ...] = ()
    """Of each audit row the offset of its command, and its hash: proofs of other rows need them."""
