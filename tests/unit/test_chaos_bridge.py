"""The judge of the bridge to an old system acquits, and names every lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from assessmentstore.chaos.old_system import OldSystem
from assessmentstore.chaos.told_bridge import judge_bridge
from assessmentstore.chaos.topics import TopicRecord
from assessmentstore.chaos.world import World

THEIRS = [("x", "e1", "legacy:e1:assessment.created"), ("x", "e2", "legacy:e2:assessment.started")]
OURS = [("own", "c1"), ("own", "c2")]


def record(key: str, value: dict[str, Any]) -> TopicRecord:
    return TopicRecord(0, 0, 0, key.encode(), orjson.dumps(value), ())


def judged(
    tmp_path: Path,
    *,
    commands: Sequence[str] = ("e1", "e2", "e1"),
    told: Sequence[tuple[str, int]] = (("own", 1), ("own", 2)),
) -> str:
    """What is wrong where these became commands, and listeners were told of these versions."""
    old = OldSystem(1, tmp_path, "")
    old.told = [{"assessmentId": key, "eventId": name} for key, name, _ in THEIRS]
    old.notifications = [
        record(key, {"assessmentId": key, "version": version, "eventId": f"{key}:{version}"}) for key, version in told
    ]
    ids = {name: command for _, name, command in THEIRS}
    on_topic = [record("x", {"id": ids[name]}) for name in commands] + [record("own", {"id": name}) for _, name in OURS]
    changes = [("x", number, command) for number, (_, _, command) in enumerate(THEIRS, 1)]
    changes += [(key, number, command) for number, (key, command) in enumerate(OURS, 1)]
    rows = [
        {
            "details": orjson.dumps(
                {"assessmentId": key, "version": version, "commandId": command, "type": "assessment.progress"}
            )
        }
        for key, version, command in changes
    ]
    world = World({0: on_topic}, {}, {}, [], {}, {"assessment_audit_trail": rows}, [], None)
    return "\n".join(judge_bridge(old, world))


def test_everything_may_come_twice(tmp_path: Path) -> None:
    assert judged(tmp_path) == ""
    assert judged(tmp_path, told=[("own", 1), ("own", 2), ("own", 1)]) == ""


def test_an_event_that_became_no_command_or_too_early_is_named(tmp_path: Path) -> None:
    assert "told of e2, which became no command" in judged(tmp_path, commands=["e1"])
    assert "became commands in the order e2, e1" in judged(tmp_path, commands=["e2", "e1"])


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([("own", 1)], "never told of version 2 of own"),
        ([("own", 2), ("own", 1)], "version 1 of own after version 2"),
        ([("own", 1), ("own", 2), ("x", 1)], "version 1 of x, which is no news to them"),
    ],
)
def test_listeners_that_are_told_otherwise_are_named(tmp_path: Path, told: list[tuple[str, int]], words: str) -> None:
    assert words in judged(tmp_path, told=told)
