"""What became of every command and every assessment, read back from what is stored: what the told is held against."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..models.assessment import AssessmentRecord
from ..models.events import event_from_json
from ..models.machine import evolve
from .model import Expected
from .topics import Place
from .world import World


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an assessment, and the command that led to it."""

    number: int
    command: str
    place: Place
    state: Mapping[str, Any]
    """As the API answers it."""
    final: bool
    event: str
    """As JSON."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a command was refused, for good."""

    code: str
    place: Place


@dataclass
class Life:
    """One assessment, version after version."""

    versions: list[Version] = field(default_factory=list)

    def at(self, number: int) -> Version | None:
        """One version, where it ever was."""
        return self.versions[number - 1] if 0 < number <= len(self.versions) else None

    def below(self, floor: Mapping[int, int]) -> int:
        """The version that everything below some offsets leads to."""
        if not self.versions:
            return 0
        partition = self.versions[0].place[0]
        places = [version.place for version in self.versions]
        return bisect_left(places, (partition, floor.get(partition, 0)))


@dataclass
class Truth:
    """What is."""

    lives: dict[str, Life]
    accepted: dict[str, tuple[str, Version]]
    """By command id, the assessment and the version."""
    refused: dict[str, Refusal]
    """By command id."""
    places: dict[str, Place]
    """Where the first record with a command id stands."""
    on_topic: set[Place]

    @classmethod
    def of(cls, world: World, expected: Expected) -> Truth:
        """Fold the audit trail; where it cannot be folded, the judge of the records says so."""
        lives: dict[str, Life] = {}
        states: dict[str, AssessmentRecord] = {}
        accepted: dict[str, tuple[str, Version]] = {}
        for row in world.tables["assessment_audit_trail"]:
            event, life = event_from_json(row["details"]), lives.setdefault(row["assessment_id"], Life())
            if event.version != len(life.versions) + 1:
                continue
            state = states[event.assessment_id] = evolve(states.get(event.assessment_id), event)
            version = Version(
                number=event.version,
                command=event.command_id,
                place=(row["command_partition"], row["command_offset"]),
                state=orjson.loads(state.to_json()),
                final=state.is_final,
                event=row["details"],
            )
            life.versions.append(version)
            accepted[event.command_id] = event.assessment_id, version
        refused = {
            row["command_id"]: Refusal(row["code"], (row["command_partition"], row["command_offset"]))
            for row in world.tables["command_rejections"]
        }
        return cls(lives, accepted, refused, _places(expected), _on_topic(world))


def _places(expected: Expected) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for outcomes in expected.outcomes.values():
        for outcome in outcomes:
            if outcome.what != "dead":
                places.setdefault(outcome.command_id, (outcome.record.partition, outcome.record.offset))
    return places


def _on_topic(world: World) -> set[Place]:
    return {(record.partition, record.offset) for records in world.commands.values() for record in records}
