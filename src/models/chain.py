"""Rows of the audit trail as links of a chain: each has the hash of the one before of its assessment, and its own.

What is hashed is the whole row (`entry`), every column but its serial number, and not the event alone. Rows that were
written before there were hashes have none: theirs is that of the row without the member `previousHash`, so that no row
of a chain can pass for one of those, and the first row after them commits to the last of them.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

import orjson

from .base import JsonObject
from .canonical import canonical
from .commands import CommandHeader
from .events import AssessmentEvent
from .sealed import hashed_form

PREVIOUS = "previousHash"

_EVENT_PREFIX = "assessment."


class Row(Protocol):
    """A row of the audit trail, by the names of its columns."""

    def __getitem__(self, column: str, /) -> Any: ...


def entry_of_event(
    event: AssessmentEvent,
    details: JsonObject,
    header: CommandHeader,
    *,
    partition: int,
    offset: int,
    previous: bytes | None,
) -> JsonObject:
    """The row that an accepted command writes, with the link to the one before.

    Args:
        event: that the command led to.
        details: the members of the event, as they were written.
        header: of the command.
        partition: where the command stood.
        offset: where in the partition.
        previous: the hash of the row before; nothing where it is the first.
    """
    version = details["version"]
    return {
        "action": event.type.removeprefix(_EVENT_PREFIX),
        "assessmentId": details["assessmentId"],
        "commandFingerprint": header.fingerprint.hex(),
        "commandId": details["commandId"],
        "commandOffset": offset,
        "commandPartition": partition,
        "createdAt": details["occurredAt"],
        "details": hashed_form(details),
        "newState": details["state"],
        "newVersion": version,
        "oldState": details["previousState"],
        "oldVersion": version - 1 or None,
        PREVIOUS: _hex(previous),
        "traceparent": header.traceparent,
        "userId": details["userId"],
    }


def entry_of_row(row: Row) -> JsonObject:
    """A row as it is stored, without the link to the one before."""
    return {
        "action": row["action"],
        "assessmentId": row["assessment_id"],
        "commandFingerprint": _hex(row["command_fingerprint"]),
        "commandId": row["command_id"],
        "commandOffset": row["command_offset"],
        "commandPartition": row["command_partition"],
        "createdAt": wire_time(row["created_at"]),
        "details": None if row["details"] is None else hashed_form(orjson.loads(row["details"])),
        "newState": row["new_state"],
        "newVersion": row["new_version"],
        "oldState": row["old_state"],
        "oldVersion": row["old_version"],
        "traceparent": row["traceparent"],
        "userId": row["user_id"],
    }


def chained(entry: JsonObject, previous: bytes | None) -> JsonObject:
    """A row with the link to the one before, or to nothing where it is the first."""
    return entry | {PREVIOUS: _hex(previous)}


def entry_hash(entry: JsonObject) -> bytes:
    """The hash of a row: of a chained one with its link, of one from before the hashes without."""
    return sha256(canonical(entry)).digest()


def row_hash(row: Row) -> bytes:
    """The hash that a stored row should have, by its columns."""
    entry = entry_of_row(row)
    return entry_hash(entry if row["row_hash"] is None else chained(entry, row["previous_hash"]))


def wire_time(at: datetime) -> str:
    """A time in UTC, as it is on the wire."""
    return orjson.dumps(at, option=orjson.OPT_UTC_Z)[1:-1].decode()


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()
