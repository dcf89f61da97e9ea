"""The judge of what is stored: compares everything there is with what the commands topic alone says should be there.

A verdict is a list of violations in words; an empty one is an acquittal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from ..models.assessment import AssessmentRecord
from ..models.events import event_from_json
from ..models.machine import evolve
from .messages import Message
from .model import EVENT_NAMES, Expected, Outcome, State
from .topics import Place, TopicRecord
from .world import World

_MOST_TOLD = 10


def judge_records(world: World, expected: Expected, sent: Mapping[Place, Message] | None = None) -> list[str]:
    """Say all that is wrong with what is stored.

    Args:
        world: what there is.
        expected: what the commands topic comes to.
        sent: what the broker acknowledged, to be found on the topic.
    """
    checks: list[Callable[[World, Expected], Iterable[str]]] = [
        _check_states,
        _check_audit,
        _check_evidence,
        _check_rejections,
        _check_dead_letters,
        _check_events,
        _check_fold,
        _check_redis,
        _check_metrics,
        _check_totals,
        _check_search,
    ]
    found = [violation for check in checks for violation in at_most(check(world, expected))]
    return [*at_most(_check_sent(world, sent or {})), *found]


def at_most(violations: Iterable[str]) -> list[str]:
    """The first of many, and how many more there are."""
    found = list(violations)
    return found if len(found) <= _MOST_TOLD else [*found[:_MOST_TOLD], f"... and {len(found) - _MOST_TOLD} more"]


def _check_sent(world: World, sent: Mapping[Place, Message]) -> Iterable[str]:
    """Nothing that the broker acknowledged is missing: else the harness itself is at fault, or Kafka."""
    there = {(record.partition, record.offset): record for records in world.commands.values() for record in records}
    for place, message in sent.items():
        record = there.get(place)
        if record is None or (record.key or None, record.value) != (message.key or None, message.value):
            yield f"the commands topic lost the record at {place}"


def _check_states(world: World, expected: Expected) -> Iterable[str]:
    yield from _same_keys("assessment_states", world.states, expected.states)
    for key, state in expected.states.items():
        if key in world.states and key not in expected.overruled:
            found = _as_state(world.states[key])
            if found != state:
                yield f"state of {key} is {found}, should be {state}"


def _same_keys(where: str, found: Iterable[Any], expected: Iterable[Any]) -> Iterable[str]:
    difference = Counter(list(found))
    difference.subtract(list(expected))
    for key, count in difference.items():
        if count:
            yield f"{where}: {key!r} is there {abs(count)} times too {'often' if count > 0 else 'few'}"


def _as_state(record: AssessmentRecord) -> State:
    return State(
        id=record.assessment_id,
        state=record.state,
        version=record.version,
        progress=record.progress,
        message=record.message,
        error=record.error_message,
        result=record.result_data,
        retry_count=record.retry_count,
        owner=record.owner,
        started=record.started_at is not None,
        ended=record.completed_at is not None,
    )


def _check_audit(world: World, expected: Expected) -> Iterable[str]:
    rows = world.tables["assessment_audit_trail"]
    accepted = _with_known_version(expected)
    found = [
        (row["command_partition"], row["command_offset"], row["command_id"], row["assessment_id"], row["action"])
        for row in rows
    ]
    yield from _same_keys(
        "audit trail",
        found,
        [
            (item.record.partition, item.record.offset, item.command_id, item.assessment_id, _action(item))
            for item in expected.of("accepted")
        ],
    )
    versions = {row["command_id"]: (row["old_state"], row["new_state"], row["new_version"]) for row in rows}
    for item in accepted:
        should = (item.before and item.before.state, item.after and item.after.state, item.after and item.after.version)
        if versions.get(item.command_id, should) != should:
            yield f"audit row of {item.command_id} says {versions[item.command_id]}, should say {should}"
    yield from _without_gaps("audit trail", [(r["assessment_id"], r["new_version"]) for r in rows], expected.overruled)


def _check_evidence(world: World, _: Expected) -> Iterable[str]:
    """Nobody changed the trail: not even a worker that died."""
    return world.evidence


def _with_known_version(expected: Expected) -> list[Outcome]:
    return [item for item in expected.of("accepted") if item.assessment_id not in expected.overruled]


def _action(item: Outcome) -> str:
    return EVENT_NAMES[item.name].removeprefix("assessment.")


def _without_gaps(where: str, pairs: Iterable[tuple[str, int]], overruled: frozenset[str]) -> Iterable[str]:
    """Of each assessment the versions 1, 2, 3 and so on in this order."""
    last: dict[str, int] = {}
    for key, version in pairs:
        if key not in overruled and version != last.get(key, 0) + 1:
            yield f"{where}: {key} has version {version} after {last.get(key, 0)}"
        last[key] = version


def _check_rejections(world: World, expected: Expected) -> Iterable[str]:
    should = [_rejection_of(item) for item in expected.of("rejected")]
    rows = world.tables["command_rejections"]
    found = [
        (row["command_partition"], row["command_id"], row["assessment_id"], row["command_type"], row["code"])
        for row in rows
    ]
    yield from _same_keys("command_rejections", found, should)
    values = [(record, record.event) for records in world.rejections.values() for record in records]
    told = [
        (record.partition, value["commandId"], value["assessmentId"], value["type"], value["code"])
        for record, value in values
    ]
    if told != should:
        yield from _same_keys("rejections topic", told, should)
        if sorted(told) == sorted(should):
            yield "rejections topic: not in the order of the commands"
    answers = {(row["command_id"], row["code"]): row for row in rows}
    for item, (record, value) in zip(expected.of("rejected"), values, strict=False):
        row = answers.get((value["commandId"], value["code"]))
        if row and (row["message"], json.loads(row["details"])) != (value["message"], value["details"]):
            yield f"rejections topic: {value['commandId']} is told another answer than the one that is kept"
        if item.command_id == value["commandId"] and not item.details.items() <= value["details"].items():
            yield f"rejections topic: {item.command_id} has {value['details']}, should have {item.details}"
        if record.header("ce_subject") != value["assessmentId"]:
            yield f"rejections topic: {value['commandId']} has the subject {record.header('ce_subject')}"


def _rejection_of(item: Outcome) -> tuple[Any, ...]:
    return item.record.partition, item.command_id, item.assessment_id, f"assessment.{item.name}", item.code


def _check_dead_letters(world: World, expected: Expected) -> Iterable[str]:
    should = {(item.record.partition, item.record.offset): item.record for item in expected.of("dead")}
    rows = world.tables["dead_letters"]
    yield from _same_keys("dead_letters", [(row["command_partition"], row["command_offset"]) for row in rows], should)
    told: list[tuple[int, int]] = []
    for letter in world.dead_letters:
        place = (int(letter.header("partition") or -1), int(letter.header("offset") or -1))
        told.append(place)
        if place in should:
            yield from _compare_letter(letter, should[place])
    yield from _same_keys("dead-letters topic", told, should)


def _compare_letter(letter: TopicRecord, record: TopicRecord) -> Iterable[str]:
    place = (record.partition, record.offset)
    if (letter.key, letter.value) != (record.key, record.value):
        yield f"dead letter of {place}: its bytes are not those that came"
    headers = [(name, value or b"") for name, value in record.headers]
    if list(letter.headers[: len(headers)]) != headers:
        yield f"dead letter of {place}: its headers are not those that came"
    if not letter.header("reason") or not (letter.header("topic") or "").endswith("assessment.commands"):
        yield f"dead letter of {place}: no reason or no topic"


def _check_events(world: World, expected: Expected) -> Iterable[str]:
    for partition, outcomes in expected.outcomes.items():
        accepted = [item for item in outcomes if item.what == "accepted"]
        found = [record.event for record in world.events[partition]]
        should = [(item.assessment_id, item.command_id, EVENT_NAMES[item.name]) for item in accepted]
        told = [(event["assessmentId"], event["commandId"], event["type"]) for event in found]
        if told != should:
            yield from _same_keys(f"events of partition {partition}", told, should)
            if sorted(told) == sorted(should):
                yield f"events of partition {partition}: not in the order of the commands"
        versions = [(event["assessmentId"], event["version"]) for event in found]
        yield from _without_gaps(f"events of partition {partition}", versions, expected.overruled)
        for record, event in zip(world.events[partition], found, strict=True):
            yield from _check_event_headers(record, event)


def _check_event_headers(record: TopicRecord, event: Mapping[str, Any]) -> Iterable[str]:
    should = {
        "ce_id": f"{event['assessmentId']}:{event['version']}",
        "ce_type": event["type"],
        "ce_subject": event["assessmentId"],
        "ce_sequence": str(event["version"]),
        "ce_specversion": "1.0",
    }
    found = {name: record.header(name) for name in should}
    if found != should or record.key != event["assessmentId"].encode():
        yield f"event {should['ce_id']} has the headers {found}"


def _check_fold(world: World, expected: Expected) -> Iterable[str]:
    """The fold of an assessment's events is its row, to the last field; and the audit trail holds the same events."""
    details = {
        (row["assessment_id"], row["new_version"]): row["details"] for row in world.tables["assessment_audit_trail"]
    }
    states: dict[str, AssessmentRecord] = {}
    for records in world.events.values():
        for record in records:
            event = event_from_json(record.value or b"")
            if orjson.loads(details.get((event.assessment_id, event.version), "{}")) != orjson.loads(
                record.value or b""
            ):
                yield f"event {event.id} is not what the audit trail holds"
            try:
                states[event.assessment_id] = evolve(states.get(event.assessment_id), event)
            except ValueError as error:
                if event.assessment_id not in expected.overruled:
                    yield f"events cannot be folded: {error}"
    for key, state in states.items():
        if key not in expected.overruled and world.states.get(key) != state:
            yield f"the events of {key} come to {state}, its row is {world.states.get(key)}"


def _check_redis(world: World, expected: Expected) -> Iterable[str]:
    for key, entry in (world.redis or {}).items():
        record = world.states.get(key)
        if record is None:
            yield f"Redis has {key}, which does not exist"
        elif key not in expected.overruled and _cached(entry) != (record.version, record):
            yield f"Redis has version {int(entry[b'v'])} of {key}, Postgres has {record.version}"


def _cached(entry: Mapping[bytes, bytes]) -> tuple[int, AssessmentRecord]:
    return int(entry[b"v"]), AssessmentRecord.from_json(entry[b"d"])


def _check_metrics(world: World, expected: Expected) -> Iterable[str]:
    """At most one processing time for each end, and one for sure where the end is the last word."""
    measured = Counter(row["assessment_id"] for row in world.tables["assessment_metrics"])
    ends = Counter(
        item.assessment_id
        for item in expected.of("accepted")
        if item.before and item.before.started and item.after and item.after.ended
    )
    for key, count in measured.items():
        if count > ends[key]:
            yield f"{key} has {count} processing times, and ended {ends[key]} times"
    for key, state in expected.states.items():
        if state.ended and state.started and not measured[key] and key not in expected.overruled:
            yield f"{key} ended, and has no processing time"


def _check_totals(world: World, expected: Expected) -> Iterable[str]:
    """The counters are the sums of what is stored, for everybody and for each owner."""
    if expected.overruled:
        return
    counted: Counter[tuple[str, str]] = Counter()
    for row in world.tables["assessment_totals"]:
        counted[row["scope"], row["state"]] += row["assessments"]
    stored = Counter((scope, str(state.state)) for state in world.states.values() for scope in {"", state.owner or ""})
    for key in counted.keys() | stored.keys():
        if counted[key] != stored[key]:
            yield f"the counter of {key} says {counted[key]}, {stored[key]} are stored"


def _check_search(world: World, expected: Expected) -> Iterable[str]:
    """Search knows exactly what is stored."""
    known = {row["assessment_id"] for row in world.tables["assessment_search"]}
    for key in (known ^ world.states.keys()) - expected.overruled:
        yield f"{key} is {'known to search only' if key in known else 'unknown to search'}"
