"""All that rests, made readable for the judge; and whether it was unreadable for everybody else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from ..models.assessment import AssessmentRecord
from ..models.sealed import MEMBER, PAYLOADS, sealed_part
from ..store.encryption import KeyRing
from .topics import TopicRecord
from .world import World

_MARK = f'"{MEMBER}"'.encode()


def opened(world: World, keys: KeyRing) -> World:
    """The same world with its payloads clear; one that cannot be opened says so in its place."""
    trail = [{**row, "details": keys.open_event(row["details"])} for row in world.tables["assessment_audit_trail"]]
    return replace(
        world,
        commands={key: [_open_command(record, keys) for record in records] for key, records in world.commands.items()},
        events={key: [_open_event(record, keys) for record in records] for key, records in world.events.items()},
        states={key: keys.open_record(record) for key, record in world.states.items()},
        tables={**world.tables, "assessment_audit_trail": trail},
        redis=world.redis and {key: _open_entry(entry, keys) for key, entry in world.redis.items()},
    )


def _open_command(record: TopicRecord, keys: KeyRing) -> TopicRecord:
    """A command as its sender had it; what is no command stays as it is."""
    if _MARK not in (record.value or b""):
        return record
    value, assessment = orjson.loads(record.value or b""), (record.key or b"").decode()
    if any(name.startswith("ce_") for name, _ in record.headers):
        clear = keys.readable(assessment, value)
    else:
        clear = value | {"data": keys.readable(assessment, value["data"])}
    return replace(record, value=orjson.dumps(clear))


def _open_event(record: TopicRecord, keys: KeyRing) -> TopicRecord:
    return replace(record, value=keys.open_event((record.value or b"").decode()).encode())


def _open_entry(entry: Mapping[bytes, bytes], keys: KeyRing) -> dict[bytes, bytes]:
    return {**entry, b"d": keys.open_record(AssessmentRecord.from_json(entry[b"d"])).to_json()}


def check_sealed(world: World, keys: KeyRing) -> Iterator[str]:
    """Every payload that rests is encrypted and can be opened; in Postgres, under the present key.

    Args:
        world: as it rests, after everything was encrypted anew.
        keys: of the run, the present one first.
    """
    for key, record in world.states.items():
        yield from _check(keys, "Postgres", key, _of_record(record), _CURRENT)
    for row in world.tables["assessment_audit_trail"]:
        yield from _check(keys, "the audit trail", row["assessment_id"], _of_event(row["details"]), _CURRENT)
    for records in world.events.values():
        for event in records:
            yield from _check(
                keys, "the events topic", (event.key or b"").decode(), _of_event(event.value or b""), _ANY
            )
    for key, entry in (world.redis or {}).items():
        yield from _check(keys, "Redis", key, _of_record(AssessmentRecord.from_json(entry[b"d"])), _ANY)


_CURRENT = frozenset({"current"})
_ANY = frozenset({"current", "old"})


def _of_record(record: AssessmentRecord) -> dict[str, Any]:
    return {"request": record.request_data, "result": record.result_data}


def _of_event(text: str | bytes) -> dict[str, Any]:
    event = orjson.loads(text)
    return {name: event.get(name) for name in PAYLOADS}


def _check(keys: KeyRing, where: str, key: str, payloads: Mapping[str, Any], allowed: frozenset[str]) -> Iterator[str]:
    for name, payload in payloads.items():
        part = sealed_part(payload)
        standing = part and keys.standing(part["keyId"])
        if payload is not None and part is None:
            yield f"{where} has the {name} of {key} in clear"
        elif part is not None and standing not in allowed:
            yield f"{where} has the {name} of {key} under the key {part['keyId']}, which is {standing}"
