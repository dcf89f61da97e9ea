"""Bundles: all that is needed to check one assessment's audit trail elsewhere, and the check itself; no I/O.

A bundle has the rows, a proof for each that a checkpoint covers, those checkpoints and the newest one, what the state
says the trail ends with, and a seal over all of it. A row is vouched for by its own hash, by the next row, by the state
at the end, by a signed checkpoint, and by the seal.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from .base import JsonObject
from .canonical import canonical
from .chain import PREVIOUS, entry_hash
from .checkpoints import Checkpoint, Verifier
from .merkle import root_by_path

BUNDLE = "assessmentstore.audit-bundle.1"
CHECKPOINTS = "assessmentstore.audit-checkpoints.1"

# No seal can pass for the signature of a checkpoint.
_SEALED_AS = b"assessmentstore audit bundle 1\n"

_MEMBERS = {"kind", "assessmentId", "exportedAt", "state", "rows", "checkpoints", "seal"}
_LIST_MEMBERS = {"kind", "exportedAt", "checkpoints", "seal"}
_ROW_MEMBERS = {"entry", "hash", "proof"}


class _Twice(str):
    """Stands beside a member that is there twice: its type tells it from a member that somebody named so.

    Of such a member one reader takes the first and another the last: neither may pass for what was signed.
    """

    __slots__ = ()


class NotABundleError(ValueError):
    """The file is none of ours; the message says why."""


@dataclass(slots=True)
class Verdict:
    """What a check came to."""

    faults: list[str] = field(default_factory=list)
    """What is wrong, each with the row that it is wrong of."""
    remarks: list[str] = field(default_factory=list)
    """What is not wrong, and should be known."""
    rows: int = 0
    """How many were looked at."""
    covered: int = 0
    """Those that a signed checkpoint vouches for."""


def sealed_message(bundle: Mapping[str, Any]) -> bytes:
    """What the seal of a bundle, or of a list of checkpoints, signs: everything else in it."""
    return _SEALED_AS + canonical({name: value for name, value in bundle.items() if name != "seal"})


def seal_of(key_id: str, signature: bytes) -> JsonObject:
    """The seal as JSON."""
    return {"keyId": key_id, "signature": base64.b64encode(signature).decode()}


def read_bundle(data: bytes) -> JsonObject:
    """Read a file.

    Raises:
        NotABundleError: it is neither a bundle nor a list of checkpoints.
    """
    repeated: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> JsonObject:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = {name for name in names if names.count(name) > 1}
            repeated.extend(twice)
            found |= dict.fromkeys(_Twice(f"{name} stands twice") for name in twice)
        return found

    try:
        # Numbers are read as the store reads them; the other reader knows what stands twice.
        found = orjson.loads(data)
        as_written = json.loads(data, object_pairs_hook=members)
    except (ValueError, RecursionError) as error:
        raise NotABundleError(f"it is no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("kind") not in (BUNDLE, CHECKPOINTS):
        raise NotABundleError(f'it has no "kind" of {BUNDLE} or {CHECKPOINTS}')
    return as_written if repeated else found


def _repeated(value: Any) -> Iterator[str]:
    """The members that stand twice, as `read_bundle` left word of them."""
    if isinstance(value, dict):
        yield from (f"its member {name}" for name in value if isinstance(name, _Twice))
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _repeated(item)


def verify_bundle(bundle: JsonObject, verify: Verifier, *, unsealed: bool = False) -> Verdict:
    """Check a bundle against the keys that are trusted.

    Args:
        bundle: as `read_bundle` returned it.
        verify: signatures.
        unsealed: whether one without a seal is taken, whose last rows may be missing.
    """
    verdict = Verdict()
    with _ill_made(verdict, "the bundle"):
        _check_members(bundle, _MEMBERS, "the bundle")
        rows: list[JsonObject] = bundle["rows"]
        verdict.rows = len(rows)
        _check_chain(bundle, rows, verdict)
        checkpoints = _checkpoints(bundle["checkpoints"], verify, verdict)
        _check_proofs(rows, checkpoints, verdict)
        last = _name(len(rows), rows[-1]) if rows else "row 1"
        _check_seal(bundle, verify, verdict, last=last, unsealed=unsealed)
    return verdict


@contextmanager
def _ill_made(verdict: Verdict, what: str) -> Iterator[None]:
    """What has not the shape of what it should be was changed too."""
    try:
        yield
    # What is nested without end is deeper than any row: of a request, 64 levels are taken.
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        verdict.faults.append(f"{what} is not made as one: {error!r}")


def verify_checkpoints(exported: JsonObject, verify: Verifier, *, unsealed: bool = False) -> Verdict:
    """Check a list of checkpoints: each signed, of each partition one after the other, and none cut off the end.

    Args:
        exported: as `read_bundle` returned it.
        verify: signatures.
        unsealed: whether one without a seal is taken, whose newest checkpoints may be missing.
    """
    verdict = Verdict()
    with _ill_made(verdict, "the list"):
        # Versions before this one made lists without a seal.
        _check_members({"seal": None} | exported, _LIST_MEMBERS, "the list")
        found = _checkpoints(exported["checkpoints"], verify, verdict, whole=True)
        verdict.rows = verdict.covered = len(found)
        if not found:
            verdict.faults.append("checkpoint 1: there is none, so that the list proves nothing")
        partition, sequence = max(found, default=(0, 1))
        last = f"checkpoint {sequence} of partition {partition}"
        _check_seal(exported, verify, verdict, last=last, unsealed=unsealed)
    return verdict


def name_of(entry: Mapping[str, Any]) -> str:
    """A row by what people look for it with."""
    return f"{entry['assessmentId']} version {entry['newVersion']}"


def _name(place: int, row: Any) -> str:
    """A row by where it stands in the bundle, and by what it says of itself."""
    try:
        return f"row {place} ({name_of(row['entry'])})"
    except (LookupError, TypeError):
        return f"row {place}"


def _check_members(found: Any, wanted: set[str], what: str) -> None:
    if not isinstance(found, dict) or found.keys() != wanted:
        strange = found.keys() ^ wanted if isinstance(found, dict) else found
        raise ValueError(f"{what} should have exactly the members {sorted(wanted)}; look at {strange}")


def _check_chain(bundle: JsonObject, rows: Sequence[JsonObject], verdict: Verdict) -> None:
    """Each row has its hash, and the one before; the last is what the state ends with."""
    link, before, chained = None, 0, False
    for place, row in enumerate(rows, 1):
        name = _name(place, row)
        with _ill_made(verdict, name):
            verdict.faults += (f"{name}: {fault}" for fault in _repeated(row))
            _check_members(row, _ROW_MEMBERS, "a row")
            entry = row["entry"]
            own = entry_hash(entry).hex()
            verdict.faults += (f"{name}: {fault}" for fault in _check_row(row, own, bundle["assessmentId"], before))
            if PREVIOUS in entry:
                if entry[PREVIOUS] != link:
                    verdict.faults.append(f"{name}: the row before has the hash {link}, not {entry[PREVIOUS]}")
                chained = True
            if PREVIOUS in entry or not chained:
                link = own
            before = entry["newVersion"]
    end, state = link if chained else None, bundle["state"]
    if not rows:
        verdict.faults.append("row 1: there is none")
    elif state["auditHash"] != end:
        verdict.faults.append(
            f"{_name(len(rows), rows[-1])}: the rows end here with the hash {end}, the state (version"
            f" {state['version']}) says {state['auditHash']}: later rows are missing, or some were added"
        )


def _check_row(row: JsonObject, own: str, assessment_id: str, before: int) -> Iterator[str]:
    """A row by itself."""
    entry = row["entry"]
    if row["hash"] != (own if PREVIOUS in entry else None):
        yield f"its content has the hash {own}, it says {row['hash']}"
    if entry["assessmentId"] != assessment_id:
        yield f"it is of another assessment than {assessment_id}"
    if entry["newVersion"] <= before:
        yield f"it stands after version {before}"
    yield from _check_content(entry, entry["details"])


def _check_content(entry: JsonObject, event: Any) -> Iterator[str]:
    """The event says the same as the columns beside it."""
    if not isinstance(event, dict):
        return
    told = {
        "assessmentId": "assessmentId",
        "version": "newVersion",
        "state": "newState",
        "previousState": "oldState",
        "commandId": "commandId",
        "userId": "userId",
        "occurredAt": "createdAt",
    }
    for member, column in told.items():
        if member in event and event[member] != entry[column]:
            yield f"its {column} is {entry[column]!r}, its event says {event[member]!r}"


def _checkpoints(
    documents: Sequence[JsonObject], verify: Verifier, verdict: Verdict, *, whole: bool = False
) -> dict[tuple[int, int], Checkpoint]:
    """The checkpoints by partition and sequence, those alone that are signed and follow on each other."""
    found: dict[tuple[int, int], Checkpoint] = {}
    topics = set()
    last: Checkpoint | None = None
    for document in documents:
        checkpoint = Checkpoint.from_wire(document)
        name = f"checkpoint {checkpoint.sequence} of partition {checkpoint.partition}"
        topics.add(checkpoint.topic)
        if not verify(checkpoint.key_id, checkpoint.signature, checkpoint.message):
            verdict.faults.append(f"{name}: it is not signed by a key that is trusted (it names {checkpoint.key_id})")
            continue
        verdict.faults += _check_order(name, last, checkpoint, whole=whole)
        last = found[checkpoint.partition, checkpoint.sequence] = checkpoint
    if len(topics) > 1:
        verdict.faults.append(f"the checkpoints are of several installations: {sorted(topics)}")
    return found


def _check_order(name: str, last: Checkpoint | None, this: Checkpoint, *, whole: bool) -> Iterator[str]:
    if last is None or last.partition != this.partition:
        if whole and this.sequence != 1:
            yield f"{name}: those before it are missing"
        return
    if whole and this.sequence != last.sequence + 1:
        yield f"{name}: it stands after checkpoint {last.sequence}"
    if this.sequence == last.sequence + 1 and this.previous_hash != last.hash:
        yield f"{name}: the checkpoint before is another than the one that it names"
    if this.sequence <= last.sequence or this.count <= last.count or this.end_offset <= last.end_offset:
        yield f"{name}: it does not go beyond checkpoint {last.sequence}"


def _check_proofs(rows: Sequence[JsonObject], checkpoints: dict[tuple[int, int], Checkpoint], verdict: Verdict) -> None:
    ends: dict[int, int] = {}
    for checkpoint in checkpoints.values():
        ends[checkpoint.partition] = max(ends.get(checkpoint.partition, 0), checkpoint.end_offset)
    chained = [place for place, row in enumerate(rows, 1) if PREVIOUS in row["entry"]]
    for place, row in enumerate(rows, 1):
        name = _name(place, row)
        with _ill_made(verdict, f"{name}: its proof"):
            entry, proof = row["entry"], row["proof"]
            fault = _fault_of_proof(entry, proof, checkpoints, ends)
            if fault:
                verdict.faults.append(f"{name}: {fault}")
            elif proof is not None:
                verdict.covered += 1
            elif PREVIOUS not in entry and not (chained and place < chained[0]):
                verdict.remarks.append(f"{name}: it is older than the hashes, and nothing vouches for it")
    uncovered = len(rows) - verdict.covered
    if uncovered and not verdict.faults:
        verdict.remarks.append(f"{uncovered} of {len(rows)} rows are in no signed checkpoint (yet)")


def _fault_of_proof(
    entry: JsonObject,
    proof: JsonObject | None,
    checkpoints: dict[tuple[int, int], Checkpoint],
    ends: dict[int, int],
) -> str | None:
    """Why a row is not in the tree of the checkpoint that its proof names, or nothing."""
    partition, offset = entry["commandPartition"], entry["commandOffset"]
    if proof is None:
        covered = partition is not None and offset < ends.get(partition, 0)
        return "a checkpoint covers it, and there is no proof of that" if covered else None
    _check_members(proof, {"checkpoint", "index", "path"}, "its proof")
    checkpoint = checkpoints.get((partition, proof["checkpoint"]))
    if checkpoint is None:
        return f"checkpoint {proof['checkpoint']} of its partition is not there, or not signed"
    if not checkpoint.first_offset <= offset < checkpoint.end_offset:
        return f"its offset {offset} is not one that checkpoint {checkpoint.sequence} added"
    path = [bytes.fromhex(node) for node in proof["path"]]
    if root_by_path(entry_hash(entry), proof["index"], checkpoint.count, path) != checkpoint.root:
        return f"it is not the row {proof['index']} that checkpoint {checkpoint.sequence} was signed over"
    return None


def _check_seal(exported: JsonObject, verify: Verifier, verdict: Verdict, *, last: str, unsealed: bool) -> None:
    """The end is where it was when this was exported."""
    seal = exported.get("seal")
    if seal is None and unsealed:
        verdict.remarks.append(f"{last}: without a seal nothing says that this is the last one")
    elif seal is None:
        verdict.faults.append(f"{last}: there is no seal, so that what came after it may have been cut off")
    else:
        _check_members(seal, {"keyId", "signature"}, "the seal")
        signature = base64.b64decode(seal["signature"], validate=True)
        if seal_of(seal["keyId"], signature) != seal:
            verdict.faults.append(f"{last}: the seal is written in another way than seals are")
        elif not verify(seal["keyId"], signature, sealed_message(exported)):
            verdict.faults.append(f"{last}: this is not what was sealed, or not by a key that is trusted")
