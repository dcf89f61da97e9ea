"""The judge of the bridge: each event of the old system became a command, and its listeners know all else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import orjson

from ..models.base import JsonObject
from .old_system import OldSystem
from .world import World

_THEIRS = "legacy:"
"""How ids of commands begin that the old system asked for."""


def judge_bridge(old: OldSystem, world: World) -> Iterator[str]:
    """Say all that is wrong with what the bridge did; everything may be done twice under the same id."""
    yield from _check_commands(old, world)
    yield from _check_notifications(old, world)


def _check_commands(old: OldSystem, world: World) -> Iterator[str]:
    """Each event is a command, those of an assessment in their order."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for event in old.told:
        if event["eventId"] not in wanted[event["assessmentId"]]:
            wanted[event["assessmentId"]].append(event["eventId"])
    found: dict[str, list[str]] = defaultdict(list)
    for record in (record for records in world.commands.values() for record in records):
        name, key = _event_of(record.value or b""), (record.key or b"").decode("utf-8", "replace")
        if name and name not in found[key]:
            found[key].append(name)
    for key, names in wanted.items():
        for missing in [name for name in names if name not in found[key]]:
            yield f"the old system told of {missing}, which became no command"
        if sorted(found[key]) == sorted(names) and found[key] != names:
            yield f"what the old system told of {key} became commands in the order {', '.join(found[key])}"


def _event_of(value: bytes) -> str | None:
    """The id of the event that a command was made of."""
    try:
        name = str(orjson.loads(value)["id"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return name.split(":")[1] if name.startswith(_THEIRS) else None


def _check_notifications(old: OldSystem, world: World) -> Iterator[str]:
    """Its listeners are told of everything but what it told itself, those of an assessment in order."""
    own = {(event["assessmentId"], event["version"]) for event in _events(world) if _is_ours(event)}
    seen: set[tuple[str, int]] = set()
    last: dict[str, int] = defaultdict(int)
    for told in (orjson.loads(record.value or b"") for record in old.notifications):
        key, version = told["assessmentId"], told["version"]
        if (key, version) not in own:
            yield f"the old system's listeners were told of version {version} of {key}, which is no news to them"
        if told["eventId"] != f"{key}:{version}":
            yield f"the old system's listeners were told of version {version} of {key} as {told['eventId']}"
        if (key, version) not in seen and version < last[key]:
            yield f"the old system's listeners were told version {version} of {key} after version {last[key]}"
        seen.add((key, version))
        last[key] = max(last[key], version)
    for key, version in sorted(own - seen):
        yield f"the old system's listeners were never told of version {version} of {key}"


def _events(world: World) -> Iterator[JsonObject]:
    return (orjson.loads(row["details"]) for row in world.tables["assessment_audit_trail"])


def _is_ours(event: JsonObject) -> bool:
    return event["type"] != "assessment.imported" and not str(event["commandId"]).startswith(_THEIRS)
