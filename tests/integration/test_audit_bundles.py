"""A bundle is believed as it was exported, and in no other way."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.harness.audit import Records, open_records
from tests.harness.installation import Installation

from assessmentstore.chaos.messages import command
from assessmentstore.models.base import JsonObject
from assessmentstore.models.bundles import (
    Verdict,
    read_bundle,
    seal_of,
    sealed_message,
    verify_bundle,
    verify_checkpoints,
)
from assessmentstore.models.canonical import canonical
from assessmentstore.models.chain import entry_hash
from assessmentstore.store.signing import PublicKeys, SigningKey

CHANGES = 500

Change = Callable[[JsonObject, random.Random], list[int]]
"""Changes a bundle, and says which of its rows may be named for it, from 1."""


@pytest.fixture
async def records(installation: Installation) -> Any:
    """Several assessments, one of them `a`: five rows in a first checkpoint, one in the second, one in none."""
    async with open_records(installation.settings) as opened:
        await opened.live("a", *(f"other-{number}" for number in range(9)))
        await opened.checkpoint()
        await opened.author.apply(command("again", "retry", "a"))
        await opened.live("late")
        await opened.checkpoint()
        await opened.author.apply(command("cancel", "cancel", "a", {"reason": "enough"}))
        yield opened


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each single value stands within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*path, name)
        yield from _paths(item, (*path, name))


def _another(value: Any, dice: random.Random) -> Any:
    """A value that is not this one."""
    if isinstance(value, bool) or value is None:
        return dice.choice([not value, "x", 0, []])
    if isinstance(value, int | float):
        return dice.choice([value + 1, value - 1, str(value), None])
    if isinstance(value, str):
        place = dice.randrange(len(value) + 1)
        return dice.choice([value[:place] + dice.choice("0fx") + value[place:], value[1:] if value else "y", None])
    return dice.choice([None, "z", [value]])


def _mutate(bundle: JsonObject, dice: random.Random) -> list[int]:
    """One member of one row, at whichever depth."""
    place = dice.randrange(len(bundle["rows"]))
    row = bundle["rows"][place]
    *path, last = dice.choice(list(_paths(row)))
    inner = row
    for step in path:
        inner = inner[step]
    inner[last] = _another(inner[last], dice)
    return [place + 1]


def _forget(bundle: JsonObject, dice: random.Random) -> list[int]:
    """One member of a row's entry or of its event."""
    place = dice.randrange(len(bundle["rows"]))
    entry = bundle["rows"][place]["entry"]
    inner = dice.choice([entry, entry["details"]])
    del inner[dice.choice(list(inner))]
    return [place + 1]


def _drop(bundle: JsonObject, dice: random.Random) -> list[int]:
    """A row from the middle: the next one misses it."""
    place = dice.randrange(len(bundle["rows"]) - 1)
    del bundle["rows"][place]
    return [place + 1]


def _swap(bundle: JsonObject, dice: random.Random) -> list[int]:
    rows = bundle["rows"]
    one, other = sorted(dice.sample(range(len(rows)), 2))
    rows[one], rows[other] = rows[other], rows[one]
    return [one + 1, other + 1]


def _swap_contents(bundle: JsonObject, dice: random.Random) -> list[int]:
    """What two rows say, each under the other's version, time and command."""
    one, other = dice.sample(bundle["rows"], 2)
    one["entry"]["details"], other["entry"]["details"] = other["entry"]["details"], one["entry"]["details"]
    return [one["entry"]["newVersion"], other["entry"]["newVersion"]]


def _back_date(bundle: JsonObject, dice: random.Random) -> list[int]:
    """A row and its event, in harmony, a year earlier."""
    entry = dice.choice(bundle["rows"])["entry"]
    entry["createdAt"] = entry["details"]["occurredAt"] = f"{int(entry['createdAt'][:4]) - 1}{entry['createdAt'][4:]}"
    return [entry["newVersion"]]


def _truncate(bundle: JsonObject, dice: random.Random) -> list[int]:
    """Rows off the end; half of the time with the state in harmony."""
    rows = bundle["rows"]
    del rows[dice.randrange(1, len(rows)) :]
    if dice.random() < 0.5:
        last = rows[-1]
        bundle["state"] = {"version": last["entry"]["newVersion"], "auditHash": last["hash"]}
    return [len(rows)]


def _rewrite(bundle: JsonObject, dice: random.Random) -> list[int]:
    """A row, and all hashes from there on, and the state: whatever can be done without the key."""
    rows = bundle["rows"]
    place = dice.randrange(len(rows))
    rows[place]["entry"]["userId"] = rows[place]["entry"]["details"]["userId"] = "mallory"
    link = rows[place]["entry"]["previousHash"]
    for row in rows[place:]:
        row["entry"]["previousHash"] = link
        link = row["hash"] = entry_hash(row["entry"]).hex()
    bundle["state"]["auditHash"] = link
    # Rows that no checkpoint covers are vouched for by the seal alone, which names the last one.
    return [place + 1] if rows[place]["proof"] else [len(rows)]


def _insert(bundle: JsonObject, dice: random.Random) -> list[int]:
    """A row twice."""
    rows = bundle["rows"]
    place = dice.randrange(len(rows))
    copied = dice.randrange(len(rows) + 1)
    rows.insert(copied, copy.deepcopy(rows[place]))
    return [copied + 1, copied + 2]


def _strip(bundle: JsonObject, dice: random.Random) -> list[int]:
    """A row's place in the chain, as if it were older than the hashes."""
    row = dice.choice(bundle["rows"])
    row["hash"] = None
    del row["entry"]["previousHash"]
    return [row["entry"]["newVersion"], row["entry"]["newVersion"] + 1]


def _unprove(bundle: JsonObject, dice: random.Random) -> list[int]:
    row = dice.choice([row for row in bundle["rows"] if row["proof"]])
    row["proof"] = None
    return [row["entry"]["newVersion"]]


KINDS: list[Change] = [
    *(_mutate, _mutate, _mutate, _mutate, _forget, _drop, _swap, _swap_contents, _back_date, _truncate, _rewrite),
    *(_insert, _strip, _unprove),
]


def _names(verdict: Verdict, place: int) -> bool:
    return any(fault.startswith((f"row {place} ", f"row {place}:")) for fault in verdict.faults)


async def test_an_untouched_bundle_is_believed_and_500_changes_of_it_are_not(records: Records) -> None:
    bundle = await records.bundle("a")
    keys = PublicKeys.parse([records.key.public])
    verdict = verify_bundle(copy.deepcopy(bundle), keys.verify)
    assert (verdict.faults, verdict.rows, verdict.covered) == ([], 7, 6)
    assert verdict.remarks == ["1 of 7 rows are in no signed checkpoint (yet)"]

    believed, nameless = [], []
    for seed in range(CHANGES):
        dice = random.Random(seed)
        changed = copy.deepcopy(bundle)
        kind = KINDS[seed % len(KINDS)]
        places = kind(changed, dice)
        verdict = verify_bundle(changed, keys.verify)
        if not verdict.faults:
            believed.append((seed, kind.__name__))
        elif not any(_names(verdict, place) for place in places):
            nameless.append((seed, kind.__name__, places, verdict.faults))

    assert believed == []
    assert nameless == [], "\n".join(map(str, nameless))


async def test_what_stands_twice_is_not_what_was_signed_and_other_layout_is(records: Records) -> None:
    """Of two members with one name, a reader that takes the first would see what nobody signed."""
    verify = PublicKeys.parse([records.key.public]).verify
    written = canonical(await records.bundle("a"))
    assert verify_bundle(read_bundle(written), verify).faults == []
    assert verify_bundle(read_bundle(json.dumps(json.loads(written), indent=2).encode()), verify).faults == []

    in_entry = written.replace(b'"newState":"processing"', b'"newState":"failed","newState":"processing"', 1)
    in_event = written.replace(b'"state":"processing"', b'"state":"failed","state":"processing"', 1)
    whole = written.replace(b'"rows":[', b'"rows":[],"rows":[', 1)

    for changed, member in ((in_entry, "newState"), (in_event, "state")):
        faults = verify_bundle(read_bundle(changed), verify).faults
        assert faults[0] == f"row 2 (a version 2): its member {member} stands twice"
    assert "rows stands twice" in verify_bundle(read_bundle(whole), verify).faults[0]


async def test_a_row_that_is_nested_without_end_is_named(records: Records) -> None:
    verify = PublicKeys.parse([records.key.public]).verify
    written = canonical(await records.bundle("a"))

    deep = written.replace(b'"traceparent":null', b'"traceparent":' + b"[" * 900 + b"]" * 900, 1)

    assert "row 1 (a version 1) is not made as one" in verify_bundle(read_bundle(deep), verify).faults[0]


async def test_without_a_seal_only_the_end_is_in_doubt(records: Records) -> None:
    """The chain and the proofs do not rest on the seal."""
    bundle = await records.bundle("a", sealed=False)
    keys = PublicKeys.parse([records.key.public])
    assert verify_bundle(copy.deepcopy(bundle), keys.verify, unsealed=True).faults == []
    assert "no seal" in verify_bundle(copy.deepcopy(bundle), keys.verify).faults[0]

    for change in (_mutate, _forget, _drop, _swap, _swap_contents, _back_date, _insert, _strip, _unprove):
        for seed in range(20):
            changed = copy.deepcopy(bundle)
            change(changed, random.Random(seed))
            assert verify_bundle(changed, keys.verify, unsealed=True).faults, (change.__name__, seed)


async def test_only_a_trusted_key_signs_and_seals(records: Records) -> None:
    bundle, other = await records.bundle("a"), SigningKey.generate()
    strangers = PublicKeys.parse([other.public])
    assert any(
        "not signed by a key that is trusted" in fault for fault in verify_bundle(bundle, strangers.verify).faults
    )

    bundle["rows"] = bundle["rows"][:6]
    bundle["state"] = {"version": 6, "auditHash": bundle["rows"][-1]["hash"]}
    bundle["seal"] = seal_of(records.key.id, other.sign(sealed_message(bundle)))

    faults = verify_bundle(bundle, PublicKeys.parse([records.key.public]).verify).faults
    assert len(faults) == 1
    assert "row 6 (a version 6): this is not what was sealed" in faults[0]


async def test_a_list_of_checkpoints_is_believed_whole_and_in_no_other_way(records: Records) -> None:
    verify = PublicKeys.parse([records.key.public]).verify
    exported = await records.reader.checkpoints(None, records.key)
    assert verify_checkpoints(copy.deepcopy(exported), verify).faults == []
    partition = max(item["partition"] for item in exported["checkpoints"] if item["sequence"] == 2)
    both = [place for place, item in enumerate(exported["checkpoints"]) if item["partition"] == partition]

    for place in both:
        for member, value in exported["checkpoints"][place].items():
            changed = copy.deepcopy(exported)
            changed["checkpoints"][place][member] = _another(value, random.Random(place))
            assert verify_checkpoints(changed, verify).faults, member
    first_missing = copy.deepcopy(exported)
    del first_missing["checkpoints"][both[0]]
    assert f"partition {partition}: those before it are missing" in verify_checkpoints(first_missing, verify).faults[0]
    assert "there is none" in verify_checkpoints(exported | {"checkpoints": []}, verify).faults[0]
    for count in range(1, len(exported["checkpoints"])):
        (fault,) = verify_checkpoints(exported | {"checkpoints": exported["checkpoints"][:count]}, verify).faults
        assert "this is not what was sealed" in fault


async def test_a_list_without_a_seal_may_end_too_early_and_is_taken_only_where_that_is_known(records: Records) -> None:
    """As versions before this one exported them, and as whoever has no signing key does."""
    verify = PublicKeys.parse([records.key.public]).verify
    bare = await records.reader.checkpoints(None, None)
    older = {name: value for name, value in bare.items() if name != "seal"}

    for exported in (bare, older):
        assert "there is no seal" in verify_checkpoints(exported, verify).faults[0]
        taken = verify_checkpoints(exported, verify, unsealed=True)
        assert not taken.faults
        assert "without a seal" in taken.remarks[0]
