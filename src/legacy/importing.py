"""The import of an export: in batches, each a set of commands that are the same whenever they are sent.

1. Check     the whole file; with an error nothing is sent
2. Send      1,000 lines as commands; what is none is put aside
3. Await     what became of each; what the store has in another form goes into the ledger
4. Keep      the position: a run that is killed goes on here
5. Verify    every line against what the store has
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, Protocol

import orjson

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.commands import CommandType
from ..models.sealed import is_same_content
from ..store.divergences import Divergence, Divergences
from ..store.encryption import KeyRing
from ..store.legacy_imports import ImportCounts, ImportOutcome, LegacyImports, Quarantined
from .commands import Outgoing, encode, import_id
from .export import QUARANTINE, Export, Findings, Line, quarantine_words
from .fields import UnreadableError
from .records import Difference, differences, import_data, parse_record, record_id
from .results import FinalValidationResult, MigrationResult
from .topic import Sender

logger = logging.getLogger(__name__)

BATCH = 1000
"""Lines that are sent and awaited together."""

_POLL_SECONDS = 0.05

# So long nothing is applied until that is told, and then once more.
_SILENT_SECONDS = 10.0

# The reference's advice for after the move.
_SLOW_MILLISECONDS = 1000.0


class Progress(Protocol):
    """Whoever is told how far it is."""

    def expect(self, total: int) -> None:
        """There is so much more to do."""

    def passed(self, count: int) -> None:
        """So much of it is done."""


class _Taken(NamedTuple):
    """A line that is an assessment."""

    record: JsonObject
    command: Outgoing


class Importer:
    """The import of one export."""

    def __init__(
        self, export: Export, topic: Sender, imports: LegacyImports, ledger: Divergences, keys: KeyRing
    ) -> None:
        self._export = export
        self._topic = topic
        self._imports = imports
        self._ledger = ledger
        self._keys = keys

    async def run(self, progress: Progress) -> MigrationResult:
        """Send what is not sent yet, and return when all is applied.

        Raises:
            UnavailableError: Kafka or Postgres is away; the same run goes on where it was.
        """
        started, export = datetime.now(UTC), self._export
        begun = await self._imports.begin(export.digest, export.path.name, export.assessments)
        progress.expect(export.assessments)
        progress.passed(begun.lines)
        counts = begun.counts
        for lines in _batches(export.lines(begun.position)):
            done = await self._batch(lines)
            await self._imports.advance(export.digest, lines[-1].end, len(lines), done)
            counts = counts.plus(done)
            progress.passed(len(lines))
        await self._imports.finish(export.digest)
        return _result(export.assessments, counts, started)

    async def verify(self, progress: Progress) -> FinalValidationResult:
        """Hold every line against what the store has.

        Raises:
            UnavailableError: Postgres is away.
        """
        check = _Check(self._keys)
        progress.expect(self._export.assessments)
        for lines in _batches(self._export.lines()):
            taken, aside = self._read(lines)
            began = time.perf_counter()
            states = await self._imports.states([item.command.key for item in taken])
            check.slowest = max(check.slowest, (time.perf_counter() - began) * 1000)
            check.look(taken, states, aside)
            progress.passed(len(lines))
        return check.result(self._export.assessments)

    async def _batch(self, lines: Sequence[Line]) -> ImportCounts:
        taken, aside = self._read(lines)
        commands = {import_id(item.command.key): item for item in taken}
        known = await self._imports.outcomes(commands)
        await self._topic.send([item.command for key, item in commands.items() if key not in known])
        outcomes = await self._await(commands)
        different = await self._compare(commands, outcomes)
        await self._imports.quarantine(aside)
        await self._imports.release([item.command.key for item in taken])
        repeated = {key for key in commands if key in known or outcomes[key].code} - different
        return ImportCounts(
            imported=len(commands.keys() - repeated - different),
            # An id that is there twice in one batch is one assessment.
            repeated=len(repeated) + len(taken) - len(commands),
            divergent=len(different),
            quarantined=len(aside),
        )

    def _read(self, lines: Iterable[Line]) -> tuple[list[_Taken], list[Quarantined]]:
        """The lines that are assessments, and those that are to be put aside."""
        taken, aside = [], []
        for line in lines:
            name: str | None = None
            try:
                record = parse_record(line.raw)
                name = record_id(record)
                data = import_data(record, self._export.history(name))
                command = encode(CommandType.IMPORT, name, data, command_id=import_id(name), at=_EPOCH, keys=self._keys)
                taken.append(_Taken(record, command))
            except UnreadableError as error:
                origin = f"{self._export.path.name}, byte {line.start}"
                aside.append(Quarantined(name, origin, str(error), line.raw))
        return taken, aside

    async def _await(self, commands: Mapping[str, _Taken]) -> dict[str, ImportOutcome]:
        """What became of commands, once all of them are applied: workers that are away are waited for."""
        found: dict[str, ImportOutcome] = {}
        told_at = time.monotonic()
        while left := commands.keys() - found.keys():
            fresh = await self._imports.outcomes(left)
            found |= fresh
            if fresh:
                told_at = time.monotonic()
            elif time.monotonic() - told_at > _SILENT_SECONDS:
                told_at = time.monotonic()
                logger.warning(
                    "%d commands wait to be applied, and none was for a while: is a worker running?", len(left)
                )
            if len(found) < len(commands):
                await asyncio.sleep(_POLL_SECONDS)
        return found

    async def _compare(self, commands: Mapping[str, _Taken], outcomes: Mapping[str, ImportOutcome]) -> set[str]:
        """The commands whose assessments the store has in another form; what differs goes into the ledger."""
        doubtful = {key for key, item in commands.items() if _is_doubtful(item.command, outcomes[key])}
        states = await self._imports.states([commands[key].command.key for key in doubtful])
        found: dict[str, list[Divergence]] = {}
        for key in doubtful:
            record, command = commands[key]
            stored = states.get(command.key)
            if stored is None:
                outcome = outcomes[key]
                found[key] = [divergence(command.key, "lost", Difference("assessmentId", command.key, outcome.message))]
            elif different := differences(record, stored):
                found[key] = [divergence(command.key, "import", item) for item in different]
        await self._ledger.add([item for items in found.values() for item in items])
        return set(found)


# The time in the envelope says nothing, and would make the same command another one.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Check:
    """What the final validation found so far."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._errors, self._warnings = Findings(), Findings()
        self.slowest = 0.0
        self._stored = self._moved = 0

    def look(
        self, taken: Sequence[_Taken], states: Mapping[str, AssessmentRecord], aside: Sequence[Quarantined]
    ) -> None:
        """Compare some lines with the store, and tell of those that are put aside."""
        for line in aside:
            self._warnings.add(QUARANTINE, quarantine_words(line.assessment_id, line.origin, line.reason))
        for record, command in taken:
            stored = states.get(command.key)
            if stored is None:
                self._errors.add("lost", f"{command.key} is not in the store")
                continue
            self._stored += 1
            if stored.version > 1:
                # It went on since; what it was then, its history tells.
                self._moved += 1
            elif different := differences(record, stored, times=True):
                fields = ", ".join(item.field for item in different)
                self._errors.add("corrupt", f"{command.key} is not the same: {fields}")

    def result(self, total: int) -> FinalValidationResult:
        """What it comes to."""
        quarantined = self._warnings.counts[QUARANTINE]
        if self._stored + quarantined + self._errors.counts["lost"] != total:
            self._errors.add("count", f"the export has {total} assessments, and {self._stored} were found")
        if self.slowest > _SLOW_MILLISECONDS:
            self._warnings.add("performance", f"reading {BATCH} assessments took {self.slowest:.0f} ms")
        advice = []
        if quarantined:
            advice.append("Correct what is quarantined, and import the corrected lines as a file of their own.")
        if self._errors.counts:
            advice.append("Do not roll out: find out first why these differ.")
        elif not quarantined:
            advice.append("All is the same: the roll-out can begin.")
        return FinalValidationResult(
            passed=not self._errors.counts,
            errors=self._errors.texts(),
            warnings=self._warnings.texts(),
            stats={
                "assessments": total,
                "found": self._stored,
                "changedSince": self._moved,
                "quarantined": quarantined,
                "slowestReadMs": round(self.slowest, 1),
                **self._errors.counts,
            },
            recommendations=advice,
        )


def divergence(assessment_id: str, kind: str, found: Difference) -> Divergence:
    """A difference as an entry of the ledger."""
    return Divergence(
        assessment_id=assessment_id,
        field=found.field,
        kind=kind,
        legacy_value=_text(found.legacy),
        store_value=_text(found.store),
    )


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _is_doubtful(command: Outgoing, outcome: ImportOutcome) -> bool:
    """Whether the store may have the assessment in another form than the command says."""
    fingerprint = command.header.fingerprint if command.header else b""
    return outcome.code is not None or not is_same_content(outcome.fingerprint, fingerprint)


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, BATCH)):
        yield batch


def _result(total: int, counts: ImportCounts, started: datetime) -> MigrationResult:
    errors = [f"{counts.divergent} assessments are in the store in another form: see the ledger"]
    warnings = [f"{counts.quarantined} lines are quarantined"]
    return MigrationResult(
        total_assessments=total,
        migrated_assessments=counts.imported + counts.repeated,
        failed_assessments=counts.divergent + counts.quarantined,
        errors=errors if counts.divergent else [],
        warnings=warnings if counts.quarantined else [],
        start_time=started,
        end_time=datetime.now(UTC),
    )
