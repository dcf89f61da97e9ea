"""Whether both systems agree, as far as the store can tell; and a rollback that waits until the old one knows all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from ..models.base import JsonObject
from ..store.divergences import Divergences
from ..store.legacy_imports import LegacyImports
from ..store.rollout import MigrationFigures, RolloutStore
from .controller import roll_back
from .export import QUARANTINE, Export, Findings, quarantine_words
from .fields import UnreadableError
from .records import differences, parse_record, record_id
from .results import FinalValidationResult, RollbackResult, ValidationResult

_MOST_TOLD = 20
_AT_ONCE = 1000
_POLL_SECONDS = 0.2


def is_complete(found: MigrationFigures) -> bool:
    """Whether the move is done: the store serves everything, has everything, and differs in nothing."""
    state = found.state
    return not state.legacy_mode and state.percentage == 100 and not found.missing and not found.divergent


async def status_of(rollout: RolloutStore, ledger: Divergences) -> JsonObject:
    """How far the move is, what is open, and what was decided last."""
    found = await rollout.read()
    state = found.state
    return {
        **found.to_wire(),
        "wellSince": state.well_since,
        "heldBecause": state.held_because,
        "checkedAt": state.checked_at,
        "openDivergences": await ledger.open_counts(),
        "untold": await rollout.untold(),
        "complete": is_complete(found),
        "history": await rollout.history(_MOST_TOLD),
    }


async def roll_back_and_wait(rollout: RolloutStore, actor: str, reason: str | None, seconds: float) -> RollbackResult:
    """Roll back, and wait until the listeners of the old system are told of all that the store wrote."""
    await roll_back(rollout, actor, reason)
    end = time.monotonic() + seconds
    untold = await rollout.untold()
    while untold and time.monotonic() < end:
        await asyncio.sleep(_POLL_SECONDS)
        untold = await rollout.untold()
    errors = [f"the old system is not told of {untold} commands yet: does a bridge run?"] if untold else []
    warnings = ["no bridge ever told the old system of anything: it reads GET /legacy/events, or knows nothing"]
    return RollbackResult(
        success=not errors,
        errors=errors,
        warnings=warnings if untold is None else [],
        rollback_time=datetime.now(UTC),
        details={"untold": untold},
    )


class Checked(NamedTuple):
    """An export, and what its check found."""

    export: Export
    result: ValidationResult


async def verify(
    rollout: RolloutStore, imports: LegacyImports, ledger: Divergences, checked: Checked | None
) -> FinalValidationResult:
    """Hold everything that is known of the old system against the store.

    Args:
        rollout: how far the move is.
        imports: what is quarantined, and what the store has.
        ledger: what differs.
        checked: the old system as it is now; each record of it is compared, and each id of the store looked for.
    """
    errors, warnings = Findings(), Findings()
    for entry in await ledger.entries(resolved=False, limit=_AT_ONCE):
        found = warnings if entry.kind == "doubled" else errors
        values = f"{entry.legacy_value!r} there, {entry.store_value!r} here"
        found.add(entry.kind, f"{entry.field} of {entry.assessment_id}: {values}")
    for note in await imports.quarantined(_AT_ONCE):
        warnings.add(QUARANTINE, quarantine_words(note.assessment_id, note.origin, note.reason))
    untold = await rollout.untold()
    if untold:
        warnings.add("untold", f"the old system's listeners are not told of {untold} commands yet")
    stats: JsonObject = {"untold": untold, "stored": (await rollout.read()).stored}
    if checked is not None:
        for words in checked.result.errors:
            errors.add("export", words)
        stats |= await _against(checked.export, imports, errors)
    return FinalValidationResult(
        passed=not errors.counts,
        errors=errors.texts(),
        warnings=warnings.texts(),
        stats=stats | errors.counts | warnings.counts,
        recommendations=["Do not roll out before these are understood."] if errors.counts else [],
    )


async def _against(export: Export, imports: LegacyImports, errors: Findings) -> JsonObject:
    """Every record of an export against the store, and every id of the store against the export."""
    compared = 0
    for records in _records(export):
        states = await imports.states(list(records))
        for name, record in records.items():
            compared += 1
            stored = states.get(name)
            if stored is None:
                errors.add("lost", f"{name} is not in the store")
            elif different := differences(record, stored):
                errors.add("different", f"{name}: {', '.join(item.field for item in different)}")
    missing = 0
    async for name in imports.ids():
        if not export.has(name):
            missing += 1
            errors.add("missing-there", f"{name} is in the store, and not in the export")
    return {"compared": compared, "missingThere": missing}


def _records(export: Export) -> Iterator[dict[str, JsonObject]]:
    lines = export.lines()
    while batch := list(islice(lines, _AT_ONCE)):
        found = {}
        for line in batch:
            try:
                record = parse_record(line.raw)
                found[record_id(record)] = record
            except UnreadableError:
                continue  # the check of the file tells of it
        yield found
