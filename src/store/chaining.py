"""Audit rows as they are chained to those before: pure, and the same for a command and for a replay of its event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..models.chain import entry_hash, entry_of_event
from .changes import BatchChanges


class Head(NamedTuple):
    """The end of an assessment's chain."""

    stored: bytes | None
    """What stands in its state: nothing before its first hashed row."""
    link: bytes | None
    """What the next row names as its predecessor: nothing where it is the first."""

    @classmethod
    def of(cls, stored: bytes | None) -> Head:
        """The head of a chain whose last row has its hash."""
        return cls(stored, stored)


class Link(NamedTuple):
    """What a row has beside its content."""

    previous_hash: bytes | None
    row_hash: bytes


def chain(changes: BatchChanges, partition: int, heads: Mapping[str, Head]) -> tuple[list[Link], dict[str, bytes]]:
    """Chain the rows of a batch's accepted commands, each to the one before of its assessment.

    Args:
        changes: of the batch.
        partition: of its commands.
        heads: of the assessments that were there before.

    Returns:
        The link of each accepted command, and the last hash of each assessment.
    """
    last: dict[str, bytes | None] = {
        key: None if before is None else heads[key].link for key, before in changes.before.items()
    }
    links: list[Link] = []
    for item in changes.accepted:
        key = item.event.assessment_id
        entry = entry_of_event(
            item.event, item.details, item.header, partition=partition, offset=item.offset, previous=last[key]
        )
        link = Link(last[key], entry_hash(entry))
        last[key] = link.row_hash
        links.append(link)
    return links, {key: head for key, head in last.items() if head is not None}
