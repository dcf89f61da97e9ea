"""Canonical JSON, trees and keys: laws that need no service."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from assessmentstore.cli import app
from assessmentstore.models.assessment import AssessmentState
from assessmentstore.models.canonical import canonical
from assessmentstore.models.checkpoints import Checkpoint
from assessmentstore.models.events import Imported
from assessmentstore.models.merkle import Frontier, Prover, leaf_hash, node_hash, root_by_path
from assessmentstore.store.signing import KeyFormatError, PublicKeys, SigningKey

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)  # fmt: skip

# What RFC 8785 gives as examples (section 3.2 and appendix B), and a whole number that it would round.
RFC_8785 = [
    (333333333.33333329, "333333333.3333333"),
    (1e30, "1e+30"),
    (4.50, "4.5"),
    (2e-3, "0.002"),
    (0.000000000000000000000000001, "1e-27"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (9007199254740992.0, "9007199254740992"),
    (295147905179352830000.0, "295147905179352830000"),
    (9.999999999999997e22, "9.999999999999997e+22"),
    (1e23, "1e+23"),
    (999999999999999700000.0, "999999999999999700000"),
    (1e21, "1e+21"),
    (333333.3333333333, "333333.3333333333"),
    (-0.0000033333333333333333, "-0.0000033333333333333333"),
    (1424953923781206.2, "1424953923781206.2"),
    (-0.0, "0"),
    (1.0, "1"),
    (2**53 + 1, "9007199254740993"),
    ('\u20ac$\u000f\nA\'B"\\\\"/', '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
]


@pytest.mark.parametrize(("value", "text"), RFC_8785)
def test_values_are_written_as_the_rfc_has_them(value: Any, text: str) -> None:
    assert canonical({"": [value]}).decode() == f'{{"":[{text}]}}'


def test_names_are_sorted_by_their_utf_16_units() -> None:
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]

    written = canonical({name: {name: 1.0} for name in names}).decode()

    assert list(orjson.loads(written)) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@given(st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False, allow_infinity=False) | st.text(), max_size=4))
def test_what_is_written_is_the_same_value_and_written_the_same_again(value: dict[str, Any]) -> None:
    written = canonical(value)

    assert json.loads(written, parse_int=float) == value
    assert canonical(orjson.loads(written)) == written


@given(st.dictionaries(st.text(max_size=3), _JSON, max_size=4), st.datetimes(timezones=st.just(UTC)))
def test_an_event_hashes_the_same_before_it_is_written_and_read_back(data: dict[str, Any], at: datetime) -> None:
    event = Imported(
        assessment_id="a", version=1, state=AssessmentState.FAILED, previous_state=None, progress=0, message=None,
        command_id="c", user_id=None, occurred_at=at, request=data, result=data, error=None, retry_count=0,
        created_at=at, updated_at=at, started_at=None, completed_at=at, next_retry_at=None, history=(data, data),
    )  # fmt: skip

    details = event.to_wire()

    assert canonical(details) == canonical(orjson.loads(event.write(details)))


def _tree_of(leaves: list[bytes]) -> bytes:
    """The tree as RFC 6962 defines it."""
    if len(leaves) < 2:
        return leaf_hash(leaves[0]) if leaves else sha256().digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(_tree_of(leaves[:split]), _tree_of(leaves[split:]))


@given(st.integers(0, 40), st.integers(1, 40))
def test_a_tree_grows_from_its_frontier_and_proves_what_was_added(before: int, added: int) -> None:
    leaves = [number.to_bytes(2) for number in range(before + added)]
    frontier = Frontier().add(leaves[:before])

    grown, prover = frontier.add(leaves[before:]), Prover(frontier, leaves[before:])

    assert grown.root == _tree_of(leaves)
    for index in range(before, len(leaves)):
        path = prover.path(index)
        assert root_by_path(leaves[index], index, len(leaves), path) == grown.root
        assert root_by_path(b"another", index, len(leaves), path) != grown.root
        assert root_by_path(leaves[index], index + 1, len(leaves), path) != grown.root
        assert root_by_path(leaves[index], index, len(leaves), path[:-1]) != grown.root or not path
        assert root_by_path(leaves[index], index, len(leaves), [*path, b"more"]) is None


def test_a_key_is_read_as_pem_as_base64_and_from_its_file(tmp_path: Path) -> None:
    key, file = SigningKey.generate(), tmp_path / "audit.key"
    key.write(file)

    assert file.stat().st_mode & 0o777 == 0o600
    for text in (str(file), file.read_text()):
        assert SigningKey.parse(text).id == key.id
    for text in (f"{file}.pub", key.public):
        assert PublicKeys.parse([text]).verify(key.id, key.sign(b"word"), b"word")
    with pytest.raises(FileExistsError):
        key.write(file)


def test_what_is_no_key_is_not_told_to_a_log() -> None:
    with pytest.raises(KeyFormatError) as caught:
        SigningKey.parse("c2VjcmV0")

    assert "c2VjcmV0" not in str(caught.value)


def test_a_signature_is_good_for_its_checkpoint_alone() -> None:
    key = SigningKey.generate()
    said: dict[str, Any] = {"topic": "t", "partition": 0, "sequence": 1, "count": 1, "root": bytes(32), "end_offset": 1}
    checkpoint = Checkpoint(**said, first_offset=0, created_at="now", previous_hash=None, key_id=key.id)
    signature = key.sign(checkpoint.message)
    other = Checkpoint(**said | {"count": 2}, first_offset=0, created_at="now", previous_hash=None, key_id=key.id)

    keys = PublicKeys.parse([key.public])

    assert keys.verify(key.id, signature, checkpoint.message)
    assert not keys.verify(key.id, signature, other.message)
    assert not PublicKeys.parse([SigningKey.generate().public]).verify(key.id, signature, checkpoint.message)


def test_verify_tells_what_it_cannot_read_with_2(tmp_path: Path) -> None:
    public, file = SigningKey.generate().public, tmp_path / "bundle.json"

    for content in (b"", b"{}", b"[]", b"\xff", b"[" * 990 + b"]" * 990):
        file.write_bytes(content)
        result = CliRunner().invoke(app, ["audit", "verify", str(file), "--public-key", public])
        assert (result.exit_code, f"{file} cannot be checked" in result.stderr) == (2, True)
    result = CliRunner().invoke(app, ["audit", "verify", str(file), "--public-key", "junk"])
    assert (result.exit_code, "The public key cannot be read" in result.stderr) == (2, True)
