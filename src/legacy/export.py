"""An export of the old system: JSON lines with assessments and rows of its audit log, checked without holding it all.

A line with `state` or `status` and a request is an assessment; one with an action is a row of the audit log; one of
the type `manifest` says how many there are of each.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ..models.assessment import AssessmentState
from ..models.base import JsonObject
from ..models.machine import TRANSITIONS
from .fields import UnreadableError, has, member, state_of
from .records import former_change, record_id, without_time
from .results import ValidationResult

# Told one by one up to here; the rest is counted.
_MOST_TOLD = 20

_ARROWS = {(source, step.target) for step in TRANSITIONS.values() for source in step.sources}


class Line(NamedTuple):
    """A line of the file."""

    start: int
    end: int
    """The byte after it."""
    raw: bytes


@dataclass(slots=True)
class Findings:
    """What is wrong, counted by what it is and told for the first of each."""

    told: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, words: str) -> None:
        """One more."""
        self.counts[kind] += 1
        if self.counts[kind] <= _MOST_TOLD:
            self.told.append(f"{kind}: {words}")

    def texts(self) -> list[str]:
        """All that is told."""
        rest = [f"{kind}: {count - _MOST_TOLD} more" for kind, count in self.counts.items() if count > _MOST_TOLD]
        return self.told + rest


QUARANTINE = "quarantine"


def quarantine_words(assessment_id: str | None, origin: str, reason: str) -> str:
    """What is told of a line that is put aside."""
    return f"{assessment_id or 'a line'} ({origin}): {reason}"


class Export:
    """One file; what has to be known of all lines at once is on disk, and not in memory."""

    def __init__(self, path: Path) -> None:
        """Take a file; nothing is read yet."""
        self.path = path
        self.digest = b""
        """Of the whole file, once it was checked."""
        self.assessments = 0
        """Lines that are not rows of the audit log."""
        self.bytes = 0
        # An empty name is a file of its own that goes when it is closed.
        self._index = sqlite3.connect("", check_same_thread=False)
        self._index.executescript(
            "CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID;"
            "CREATE TABLE audit (id TEXT, place INTEGER, row BLOB, PRIMARY KEY (id, place)) WITHOUT ROWID;"
        )

    def close(self) -> None:
        """Let the index go."""
        self._index.close()

    def lines(self, position: int = 0) -> Iterator[Line]:
        """The lines that are no rows of the audit log, from a byte on."""
        with self.path.open("rb") as file:
            file.seek(position)
            end = position
            for raw in file:
                start, end = end, end + len(raw)
                text = raw.strip()
                if text and not _is_audit(text):
                    yield Line(start, end, text)

    def has(self, assessment_id: str) -> bool:
        """Whether the export has an assessment; once it was checked."""
        return self._index.execute("SELECT 1 FROM ids WHERE id = ?", (assessment_id,)).fetchone() is not None

    def history(self, assessment_id: str) -> tuple[JsonObject, ...]:
        """The rows of an assessment's audit log, as they stand in the file."""
        rows = self._index.execute("SELECT row FROM audit WHERE id = ? ORDER BY place", (assessment_id,))
        return tuple(orjson.loads(row) for (row,) in rows)

    def check(self, passed: Callable[[int], None] = lambda _: None) -> ValidationResult:
        """Read all of it once: counts, ids that are there twice, transitions, and rows that belong to nothing.

        Args:
            passed: is told of the bytes that are read.
        """
        errors, warnings, states = Findings(), Findings(), Counter[str]()
        digest, manifest, audit = sha256(), None, 0
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                digest.update(raw)
                self.bytes += len(raw)
                passed(len(raw))
                value = _parsed(raw)
                if isinstance(value, dict) and value.get("type") == "manifest":
                    manifest = value
                elif isinstance(value, dict) and is_audit_row(value):
                    audit += 1
                    self._keep_row(value, number, warnings)
                elif raw.strip():
                    self.assessments += 1
                    self._keep_id(value, number, errors, warnings, states)
        self.digest = digest.digest()
        self._index.commit()
        self._check_counts(manifest, audit, errors, warnings)
        self._check_references(errors)
        return ValidationResult(
            passed=not errors.counts,
            errors=errors.texts(),
            warnings=warnings.texts(),
            stats={"assessments": self.assessments, "auditLogs": audit, "byState": dict(states), "bytes": self.bytes}
            | {kind: count for found in (errors, warnings) for kind, count in found.counts.items()},
        )

    def _keep_id(self, value: Any, number: int, errors: Findings, warnings: Findings, states: Counter[str]) -> None:
        if not isinstance(value, dict):
            warnings.add("unreadable", f"line {number} is no JSON object, and will be quarantined")
            return
        try:
            name = record_id(value)
        except UnreadableError as error:
            warnings.add("unreadable", f"line {number}: {error}; it will be quarantined")
            return
        try:
            states[state_of(member(value, "state"))] += 1
        except UnreadableError as error:
            warnings.add("unreadable", f"line {number}: {error}; it will be quarantined")
        try:
            self._index.execute("INSERT INTO ids VALUES (?)", (name,))
        except sqlite3.IntegrityError:
            errors.add("duplicate", f"line {number}: the id {name} is there twice")

    def _keep_row(self, row: JsonObject, number: int, warnings: Findings) -> None:
        try:
            kept = former_change(row)
        except UnreadableError as error:
            warnings.add("audit", f"line {number}: {error}; the row is kept without a time")
            kept = former_change(without_time(row))
        name = row.get("assessmentId") or row.get("assessment_id")
        self._index.execute("INSERT INTO audit VALUES (?, ?, ?)", (str(name), number, orjson.dumps(kept)))
        arrow = row.get("oldState") or row.get("old_state"), row.get("newState") or row.get("new_state")
        if None not in arrow and arrow[0] != arrow[1] and not _is_arrow(*arrow):
            warnings.add("transition", f"line {number}: {name} went from {arrow[0]} to {arrow[1]}")

    def _check_counts(self, manifest: JsonObject | None, audit: int, errors: Findings, warnings: Findings) -> None:
        if not self.assessments:
            errors.add("empty", "there is no assessment in it")
        if manifest is None:
            warnings.add("manifest", "the export does not say how many assessments it should have")
            return
        for name, found in (("assessments", self.assessments), ("auditLogs", audit)):
            wanted = manifest.get(name, found)
            if wanted != found:
                errors.add("count", f"the manifest says {wanted} {name}, and there are {found}")

    def _check_references(self, errors: Findings) -> None:
        query = "SELECT id, count(*) FROM audit WHERE id NOT IN (SELECT id FROM ids) GROUP BY id"
        with closing(self._index.execute(query)) as orphans:
            for name, count in orphans:
                errors.add("reference", f"{count} rows of the audit log are of {name}, which is not in the export")


def is_audit_row(value: JsonObject) -> bool:
    """Whether a line is a row of the audit log."""
    named = any(value.get(name) for name in ("action", "changeAction", "change_action"))
    return named and not has(value, "request")


def _is_audit(raw: bytes) -> bool:
    value = _parsed(raw)
    return isinstance(value, dict) and (value.get("type") == "manifest" or is_audit_row(value))


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _is_arrow(old: Any, new: Any) -> bool:
    try:
        arrow: tuple[AssessmentState, AssessmentState] = state_of(old), state_of(new)
    except UnreadableError:
        return False
    return arrow in _ARROWS
