"""What a partition has to tell the world, as Kafka records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition

from ..models.checkpoints import Checkpoint
from ..models.emitted import event_headers, rejection_headers
from ..models.errors import RejectedCommand
from ..settings import Settings
from ..store.changes import DeadLetter, Outbox, Refused

KafkaRecord = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
"""Key, value and headers."""


class Publication(NamedTuple):
    """Records that become visible together with a watermark, or not at all."""

    of: TopicPartition
    """What the watermark is of."""
    watermark: int
    records: Sequence[tuple[TopicPartition, Iterable[KafkaRecord]]]


def outbox_publication(settings: Settings, partition: int, outbox: Outbox, position: int) -> Publication:
    """What commands of a partition come to, up to a position."""
    events: list[KafkaRecord] = [
        (event.assessment_id.encode(), value, event_headers(event, traceparent, offset, fingerprint))
        for event, value, traceparent, offset, fingerprint in outbox.events
    ]
    letters = [dead_letter_record(settings, partition, letter) for letter in outbox.dead_letters]
    return Publication(
        TopicPartition(settings.commands_topic, partition),
        position,
        [
            (TopicPartition(settings.events_topic, partition), events),
            (TopicPartition(settings.rejections_topic, partition), map(rejection_record, outbox.rejections)),
            (TopicPartition(settings.dead_letters_topic, 0), letters),
        ],
    )


def checkpoints_publication(settings: Settings, partition: int, checkpoints: Sequence[Checkpoint]) -> Publication:
    """Checkpoints of a partition that follow each other."""
    place = TopicPartition(settings.checkpoints_topic, partition)
    return Publication(place, checkpoints[-1].sequence + 1, [(place, map(_checkpoint_record, checkpoints))])


def dead_letter_record(settings: Settings, partition: int, letter: DeadLetter) -> KafkaRecord:
    """A dead letter of a partition, byte for byte, with where it stood and why it is none."""
    told = {
        "topic": settings.commands_topic,
        "partition": partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "time": "" if letter.at is None else letter.at.isoformat(),
    }
    # The headers as they came, null values as empty ones: aiokafka can write no null. Which those are is told.
    headers = [(name, value or b"") for name, value in letter.headers]
    if nulls := [str(place) for place, (_, value) in enumerate(letter.headers) if value is None]:
        told["null-headers"] = ",".join(nulls)
    return letter.key, letter.value, headers + [(name, str(value).encode()) for name, value in told.items()]


def rejection_record(refused: Refused) -> KafkaRecord:
    """A refused command."""
    header = refused.header
    record = RejectedCommand.of(header, refused.rejection, at=refused.at)
    return header.assessment_id.encode(), record.to_json(), rejection_headers(header, refused.at, refused.offset)


def _checkpoint_record(checkpoint: Checkpoint) -> KafkaRecord:
    key = f"{checkpoint.partition}:{checkpoint.sequence}".encode()
    return key, checkpoint.to_json(), [("content-type", b"application/json")]
