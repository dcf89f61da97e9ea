"""Steps 1 and 3 of a batch: records become commands, and commands become changes; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, Protocol

from ..models.assessment import AssessmentRecord
from ..models.commands import Command, CommandHeader
from ..models.envelope import RefusedCommand, decode_command
from ..models.errors import NotACommandError, Rejection
from ..models.events import AssessmentEvent
from ..models.machine import decide, evolve
from ..models.retries import NO_RETRIES, RetryPolicy
from ..models.sealed import CommandCipher, is_same_content
from ..store.changes import Accepted, BatchChanges, DeadLetter, Refused


class Record(Protocol):
    """A Kafka record, as aiokafka hands it over."""

    offset: int
    timestamp: int
    """Milliseconds since 1970."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class Decoded(NamedTuple):
    """One record of a batch and what it turned out to be."""

    offset: int
    timestamp: int
    item: Command | RefusedCommand | DeadLetter

    @property
    def header(self) -> CommandHeader | None:
        """The command's attributes, where it is a command."""
        return None if isinstance(self.item, DeadLetter) else self.item.header


def decode(record: Record, cipher: CommandCipher | None = None) -> Decoded:
    """Read a record; whatever is wrong with it, nothing is raised."""
    try:
        item = decode_command(record.key, record.value, record.headers, cipher)
        return Decoded(record.offset, record.timestamp, item)
    except NotACommandError as error:
        return Decoded(record.offset, record.timestamp, dead_letter(record, str(error)))
    except Exception as error:
        return Decoded(record.offset, record.timestamp, dead_letter(record, f"it cannot be decoded: {error!r}"))


def dead_letter(record: Record, reason: str) -> DeadLetter:
    """The record with its bytes, and why it is not a command."""
    return DeadLetter(
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
        reason=_printable(reason),
    )


def _printable(reason: str) -> str:
    return reason.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


@dataclass(slots=True)
class Folded:
    """What a batch comes to."""

    changes: BatchChanges = field(default_factory=BatchChanges)
    replies: list[tuple[CommandHeader, bytes | Rejection | None]] = field(default_factory=list)
    """What those who wait are told: the state as JSON, the refusal, or nothing for a duplicate."""
    refused_ids: set[str] = field(default_factory=set)
    """The assessments that a refusal was decided on."""
    heads: Mapping[str, bytes] = field(default_factory=dict)
    """The hash of the last audit row of each changed assessment, once it is written."""
    duplicates: int = 0
    borrowed: list[CommandHeader] = field(default_factory=list)
    """Duplicates that say something else than the first command with their id."""


def fold(
    batch: Sequence[Decoded],
    states: Mapping[str, AssessmentRecord],
    known: dict[str, bytes],
    now: datetime,
    seal: Callable[[AssessmentEvent], AssessmentEvent] | None = None,
    retries: RetryPolicy = NO_RETRIES,
) -> Folded:
    """Judge a batch command after command, each on what the ones before it left.

    Args:
        batch: in the order of the partition.
        states: of all assessments that the batch names and that exist.
        known: the command ids that have an outcome already, with their fingerprints; those of the batch are added.
        now: the time of the batch.
        seal: encrypts the payload of an event; what comes after it, states too, has the sealed one.
        retries: holds for requests that have no policy of their own.
    """
    folding = _Folding(dict(states), known, now, seal, retries)
    for decoded in batch:
        folding.add(decoded)
    return folding.result


class _Folding:
    def __init__(
        self,
        states: dict[str, AssessmentRecord],
        known: dict[str, bytes],
        now: datetime,
        seal: Callable[[AssessmentEvent], AssessmentEvent] | None,
        retries: RetryPolicy,
    ) -> None:
        self.result = Folded()
        self._states = states
        self._known = known
        self._now = now
        self._seal = seal
        self._retries = retries

    def add(self, decoded: Decoded) -> None:
        item, offset = decoded.item, decoded.offset
        if isinstance(item, DeadLetter):
            self.result.changes.dead_letters.append(replace(item, at=self._now))
        elif item.header.id in self._known:
            self._repeat(item.header)
        elif isinstance(item, RefusedCommand):
            self._refuse(item.header, item.rejection, offset)
        else:
            self._judge(item, offset)

    def _repeat(self, header: CommandHeader) -> None:
        self.result.duplicates += 1
        if not is_same_content(self._known[header.id], header.fingerprint):
            self.result.borrowed.append(header)
        if header.reply_to:
            self.result.replies.append((header, None))

    def _refuse(self, header: CommandHeader, rejection: Rejection, offset: int) -> None:
        self._known.setdefault(header.id, header.fingerprint)
        refused = Refused(header=header, rejection=rejection, at=self._now, offset=offset)
        self.result.changes.refused.append(refused)
        if header.reply_to:
            self.result.replies.append((header, rejection))

    def _judge(self, command: Command, offset: int) -> None:
        header, key = command.header, command.header.assessment_id
        before = self._states.get(key)
        decision = decide(before, command, self._now, self._retries)
        if isinstance(decision, Rejection):
            self.result.refused_ids.add(key)
            self._refuse(header, decision, offset)
            return
        if self._seal is not None:
            decision = self._seal(decision)
        self._known[header.id] = header.fingerprint
        after = self._states[key] = evolve(before, decision)
        changes = self.result.changes
        changes.before.setdefault(key, before)
        changes.after[key] = after
        details = decision.to_wire()
        changes.accepted.append(Accepted(decision, details, decision.write(details), header, offset, after))
        if header.reply_to:
            self.result.replies.append((header, after.to_json()))
