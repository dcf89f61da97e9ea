"""The judge of the executor: each attempt that it started came to one end, by what its server said of that attempt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from ..executor.sending import USER
from .compliance import Key, Said
from .world import World

UNDER_WAY = """
SELECT (SELECT count(*) FROM executions) + (
    SELECT count(*) FROM assessment_states AS states
    JOIN assessment_audit_trail AS trail
        ON trail.assessment_id = states.assessment_id AND trail.new_version = states.version
    WHERE states.state = 'pending' AND trail.action <> 'imported'
)
"""
"""Attempts that did not come to an end; what is pending is about to be one."""

_ENDS = {"completed", "failed", "cancelled"}


class Attempts:
    """The attempts of a run, as the audit trail has them."""

    def __init__(self, world: World, said: Said) -> None:
        self._said = said
        self._retries: Counter[str] = Counter()
        self._ends: Counter[Key] = Counter()
        self._cancelled: set[Key] = set()
        self.started: set[Key] = set()
        """Those that the executor started."""
        self.found = [words for row in world.tables["assessment_audit_trail"] for words in self._judge(row)]
        """What is wrong with single changes."""
        self._pending = [
            key for key, state in world.states.items() if state.state == "pending" and _is_ours(world, key)
        ]

    def _judge(self, row: Any) -> Iterator[str]:
        """Take the next change, and say what is wrong with it."""
        key, action = Key(row["assessment_id"], self._retries[row["assessment_id"]]), row["action"]
        event = orjson.loads(row["details"])
        if action == "imported":
            self._retries[key.assessment] = event.get("retryCount", 0)
        elif action == "retried":
            self._retries[key.assessment] += 1
        elif action in _ENDS:
            self._ends[key] += 1
            if action == "cancelled":
                self._cancelled.add(key)
        if event.get("userId") != USER:
            return
        if action == "started":
            self.started.add(key)
        elif key not in self.started:
            yield f"the executor made {_named(key)} {action}, and did not start it"
        elif action == "completed" and (note := event["result"].get("note")) not in self._said.results[key]:
            yield f"{_named(key)} is completed with {note!r}: its server never said so"
        elif action == "failed" and event["error"].startswith("failed:") and key not in self._said.failures:
            yield f"{_named(key)} has failed with {event['error']!r}: its server never said so"

    def all_that_is_wrong(self) -> Iterator[str]:
        """Every violation."""
        yield from self.found
        for key in self.started:
            if self._ends[key] != 1:
                yield f"{_named(key)} was started by the executor, and ended {self._ends[key]} times"
        for key in self._said.orders:
            if key not in self.started:
                yield f"a server was given {_named(key)}, which the executor never started"
        for key in self.started & self._cancelled & self._said.orders.keys():
            over = key in self._said.failures or self._said.results[key]
            if not over and key not in self._said.forgotten:
                yield f"{_named(key)} was cancelled, and its server was never told"
        for assessment in self._pending:
            yield f"{assessment} is pending, and the executor never took it up"


def _is_ours(world: World, assessment: str) -> bool:
    """Whether it is not as it came from the old system."""
    return world.states[assessment].version > 1 or assessment not in world.imported


def _named(key: Key) -> str:
    return f"attempt {key.attempt} of {key.assessment}"
