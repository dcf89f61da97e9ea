"""What came of many commands as one batch: the same changes that a worker once wrote; no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from ..models.assessment import AssessmentRecord
from ..models.checkpoints import Checkpoint
from ..models.deletions import Deletion
from ..models.letter_marks import LetterMarks
from ..models.machine import evolve
from ..store.changes import Accepted, BatchChanges, DeadLetter, Refused
from .errors import RecoveryError
from .records import LoggedEvent, LogItem


@dataclass(frozen=True, slots=True)
class Until:
    """How far a log is replayed."""

    instant: datetime | None = None
    """What happened later is left out."""
    offsets: Mapping[int, int] = field(default_factory=dict)
    """Of some partitions, the command before which to stop."""

    @property
    def is_end(self) -> bool:
        """Whether it is replayed to its end."""
        return self.instant is None and not self.offsets

    def admits(self, partition: int, item: LogItem) -> bool:
        """Whether an item belongs to what is asked for."""
        before = self.instant is None or item.at is None or item.at <= self.instant
        return before and item.offset < self.offsets.get(partition, item.offset + 1)

    def admits_deletion(self, deletion: Deletion) -> bool:
        """Whether a deletion came before this."""
        before = self.instant is None or deletion.deleted_at <= self.instant
        return before and deletion.position <= self.offsets.get(deletion.partition, deletion.position)

    def admits_marks(self, marks: LetterMarks) -> bool:
        """Whether it was seen to a dead letter before this; it has no place among the commands, but a time."""
        return self.instant is None or marks.at <= self.instant

    def admits_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Whether all rows of a checkpoint, and the checkpoint itself, came before this."""
        before = self.instant is None or datetime.fromisoformat(checkpoint.created_at) <= self.instant
        return before and checkpoint.end_offset <= self.offsets.get(checkpoint.partition, checkpoint.end_offset)


class Deleted:
    """What was deleted: events of it are passed over, as if they had never been."""

    def __init__(self, deletions: Iterable[Deletion]) -> None:
        self._last: dict[str, int] = {}
        for deletion in deletions:
            self._last[deletion.assessment_id] = max(
                deletion.last_offset, self._last.get(deletion.assessment_id, deletion.last_offset)
            )

    def has(self, item: LogItem) -> bool:
        """Whether an item tells of a deleted assessment, and not of a later one with its id."""
        return isinstance(item, LoggedEvent) and item.offset <= self._last.get(item.event.assessment_id, -1)


def touched(items: Iterable[LogItem]) -> set[str]:
    """The assessments that items change."""
    return {item.event.assessment_id for item in items if isinstance(item, LoggedEvent)}


def reborn(items: Iterable[LogItem], states: Collection[str]) -> list[str]:
    """Those that are created, and are there already: they were deleted in between, and nobody told Kafka."""
    created = (item.event for item in items if isinstance(item, LoggedEvent) and item.event.version == 1)
    return [event.assessment_id for event in created if event.assessment_id in states]


def is_rebirth(item: LogItem, seen: Collection[str]) -> bool:
    """Whether an item creates what was seen already: it cannot be in one batch with that."""
    return isinstance(item, LoggedEvent) and item.event.version == 1 and item.event.assessment_id in seen


def fold_items(items: Iterable[LogItem], states: Mapping[str, AssessmentRecord]) -> BatchChanges:
    """The changes of one batch.

    Args:
        items: in the order of their commands.
        states: of the assessments that they change, as they are before.

    Raises:
        RecoveryError: an event does not follow on what is there.
    """
    now, changes = dict(states), BatchChanges()
    refused: dict[str, Refused] = {}
    for item in items:
        if isinstance(item, DeadLetter):
            changes.dead_letters.append(item)
            continue
        # Of an id that was used again, once cleanup had forgotten that it was refused, the last outcome counts.
        refused.pop(item.header.id, None)
        if isinstance(item, LoggedEvent):
            _accept(item, now, changes)
        else:
            refused[item.header.id] = item
    changes.refused.extend(refused.values())
    return changes


def _accept(item: LoggedEvent, states: dict[str, AssessmentRecord], changes: BatchChanges) -> None:
    event = item.event
    before = states.get(event.assessment_id)
    try:
        after = evolve(before, event)
    except ValueError as error:
        raise RecoveryError(
            f"Postgres has something that the log does not explain (command {item.offset}: {error}): this is not the"
            " database of these topics, or was changed by hand; replay into an empty one, or into a side schema"
        ) from error
    states[event.assessment_id] = after
    changes.before.setdefault(event.assessment_id, before)
    changes.after[event.assessment_id] = after
    changes.accepted.append(Accepted(event, orjson.loads(item.value), item.value, item.header, item.offset, after))
