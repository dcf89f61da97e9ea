"""What the store emits as CloudEvents 1.0 in binary mode: the headers of events and rejections.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

from datetime import datetime

from .commands import CommandHeader
from .envelope import JSON, SOURCE
from .events import AssessmentEvent, EventType

COMMAND_OFFSET = "ce_commandoffset"
COMMAND_FINGERPRINT = "ce_commandfingerprint"

# Shared by all: a tuple less is an object less for the garbage collector to look at.
_SPECVERSION = ("ce_specversion", b"1.0")
_SOURCE = ("ce_source", SOURCE.encode())
_CONTENT_TYPE = ("content-type", JSON.encode())
_EVENT_TYPES = {kind: ("ce_type", kind.encode()) for kind in EventType}
_REJECTED = ("ce_type", b"assessment.rejected")


def event_headers(
    event: AssessmentEvent, traceparent: str | None, offset: int, fingerprint: bytes | None
) -> list[tuple[str, bytes]]:
    """The headers of an event in binary mode.

    Args:
        event: what is told.
        traceparent: of its command.
        offset: of its command, on the partition of the commands topic that has the event's number.
        fingerprint: of its command.
    """
    headers = [
        _SPECVERSION,
        ("ce_id", event.id.encode()),
        _EVENT_TYPES[event.type],
        _SOURCE,
        ("ce_subject", event.assessment_id.encode()),
        ("ce_time", event.occurred_at.isoformat().encode()),
        _CONTENT_TYPE,
        ("ce_sequence", b"%d" % event.version),
        (COMMAND_OFFSET, b"%d" % offset),
    ]
    _add_optional(headers, traceparent, fingerprint)
    return headers


def _add_optional(headers: list[tuple[str, bytes]], traceparent: str | None, fingerprint: bytes | None) -> None:
    if fingerprint is not None:
        headers.append((COMMAND_FINGERPRINT, fingerprint.hex().encode()))
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))


def rejection_headers(header: CommandHeader, at: datetime, offset: int) -> list[tuple[str, bytes]]:
    """The headers of a rejection in binary mode, with the offset of the refused command."""
    headers = [
        _SPECVERSION,
        ("ce_id", f"{header.id}:rejected".encode()),
        _REJECTED,
        _SOURCE,
        ("ce_subject", header.assessment_id.encode()),
        ("ce_time", at.isoformat().encode()),
        _CONTENT_TYPE,
        (COMMAND_OFFSET, b"%d" % offset),
    ]
    _add_optional(headers, header.traceparent, header.fingerprint)
    return headers
