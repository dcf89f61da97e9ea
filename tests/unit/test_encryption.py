from __future__ import annotations

import base64
import itertools
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.chaos.messages import command, request
from assessmentstore.models.chain import entry_hash, entry_of_event
from assessmentstore.models.commands import Command, CommandType
from assessmentstore.models.envelope import RefusedCommand, decode_command, encode_command
from assessmentstore.models.errors import NotACommandError, RejectedError
from assessmentstore.models.events import Created, event_from_json
from assessmentstore.models.machine import decide, evolve
from assessmentstore.models.sealed import MEMBER, UNREADABLE, UnreadableError, is_same_content
from assessmentstore.settings import Settings, SettingsError
from assessmentstore.store.encryption import NO_KEYS, KeyRing, KeyRingError, generate
from assessmentstore.store.search import search_row
from assessmentstore.web.outgoing import Caller, prepare

K1, K2 = generate("k1"), generate("k2")
OLD, NEW, BOTH = KeyRing.parse(K1), KeyRing.parse(K2), KeyRing.parse(f"{K2},{K1}")

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_OBJECTS = st.dictionaries(st.text(), _JSON, max_size=5)
_IDS = st.text(min_size=1)


def created(ring: KeyRing, **members: Any) -> Created:
    parsed = decode_command(b"a1", command("c1", "create", "a1", request(userId="alice", **members)).value, [])
    assert isinstance(parsed, Command)
    event = ring.seal_event(decide(None, parsed, datetime.now(UTC)))  # type: ignore[arg-type]
    assert isinstance(event, Created)
    return event


@given(key=_IDS, value=_OBJECTS)
def test_what_is_sealed_is_opened_and_no_two_cipher_texts_are_alike(key: str, value: Any) -> None:
    one, other = OLD.seal(key, value), OLD.seal(key, value)

    assert OLD.open(key, one) == OLD.open(key, other) == value
    assert {name for name in one[MEMBER] if one[MEMBER][name] == other[MEMBER][name]} == {"keyId"}


@given(key=_IDS, value=_OBJECTS, other=_IDS)
def test_a_value_opens_for_its_assessment_and_with_its_key_alone(key: str, value: Any, other: str) -> None:
    sealed = OLD.seal(key, value)
    impostor = KeyRing.parse(generate("k1"))

    if other != key:
        with pytest.raises(UnreadableError, match="changed"):
            OLD.open(other, sealed)
    with pytest.raises(UnreadableError, match="'k1' is another key"):
        impostor.open(key, sealed)
    with pytest.raises(UnreadableError, match="'k1', which is not configured"):
        NEW.open(key, sealed)
    with pytest.raises(UnreadableError):
        NO_KEYS.open(key, sealed)


@given(value=_OBJECTS, data=st.data())
def test_no_bit_can_be_changed(value: Any, data: st.DataObject) -> None:
    sealed = OLD.seal("a1", value)
    name = data.draw(st.sampled_from(["nonce", "data"]))
    content = bytearray(base64.b64decode(sealed[MEMBER][name]))
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    sealed[MEMBER][name] = base64.b64encode(content).decode()

    with pytest.raises(UnreadableError):
        OLD.open("a1", sealed)


def test_another_sealed_value_cannot_take_a_digest() -> None:
    one, other = OLD.seal("a1", {"n": 1}), OLD.seal("a1", {"n": 2})
    one[MEMBER]["digest"] = other[MEMBER]["digest"]

    with pytest.raises(UnreadableError, match="digest"):
        OLD.open("a1", one)


@given(value=_OBJECTS)
def test_a_rotation_changes_the_key_and_neither_the_value_nor_its_digest(value: Any) -> None:
    sealed = OLD.seal("a1", value, {"priority": 5})
    rotated = BOTH.reseal("a1", sealed)

    assert NEW.open("a1", rotated) == value
    assert rotated["priority"] == 5
    assert (rotated[MEMBER]["keyId"], rotated[MEMBER]["digest"]) == ("k2", sealed[MEMBER]["digest"])
    assert BOTH.reseal("a1", rotated) is rotated


def test_the_hash_of_a_row_outlives_a_rotation_and_is_of_the_payload() -> None:
    event = created(OLD)
    rotated = event.model_copy(update={"request": BOTH.reseal("a1", event.request)})
    other = event.model_copy(update={"request": OLD.seal("a1", request(priority=9), {"priority": 9})})
    header = decode_command(b"a1", command("c1", "start", "a1").value, []).header

    def hashed(it: Created) -> bytes:
        return entry_hash(entry_of_event(it, it.to_wire(), header, partition=0, offset=1, previous=None))

    assert hashed(event) == hashed(rotated) != hashed(other)


def test_what_is_needed_stays_clear_and_search_knows_no_more() -> None:
    event = created(OLD, serverName="Canary", priority=7, metadata={"Canary": "Canary"}, source="installer")
    record = evolve(None, event)
    row = search_row(record)

    assert record.request_data.keys() == {
        MEMBER,
        "assessmentType",
        "options",
        "priority",
        "source",
        "timeout",
        "userId",
    }
    assert (record.owner, record.metadata) == ("alice", None)
    assert "canary" not in f"{record.to_json()!r}{row}".lower()
    assert row.names == "a1"
    assert set(row.document.split()) == {"a1:1A", "compliance:1D", "installer:1D", "alice:1D"}
    assert OLD.open_record(record).metadata == {"Canary": "Canary"}
    assert OLD.open_record(record).request_data["serverName"] == "Canary"
    opened = event_from_json(OLD.open_event(event.to_json().decode()))
    assert isinstance(opened, Created)
    assert opened.request == OLD.open("a1", event.request)


def test_a_value_without_its_key_says_so_and_shows_what_is_clear() -> None:
    record = NEW.open_record(evolve(None, created(OLD, serverName="s")))

    assert record.request_data[UNREADABLE]["keyId"] == "k1"
    assert "not configured" in record.request_data[UNREADABLE]["reason"]
    assert (record.owner, record.request_data["priority"]) == ("alice", 5)
    assert MEMBER not in record.request_data
    assert (NEW.has_keys_of(record), BOTH.open_record(record)) == (True, record)


def test_commands_are_sealed_for_the_topic_and_opened_before_they_are_judged() -> None:
    sent = prepared(OLD, CommandType.CREATE, request(serverName="Canary"))
    clear = prepared(NO_KEYS, CommandType.CREATE, request(serverName="Canary"))
    taken = decode_command(b"a1", sent.value, [], BOTH)

    assert b"Canary" not in sent.value
    assert b"Canary" in clear.value
    assert isinstance(taken, Command)
    assert taken.data.server_name == "Canary"  # type: ignore[union-attr]
    for stored in (sent.header.fingerprint, clear.header.fingerprint):
        assert is_same_content(stored, taken.header.fingerprint)
    assert sent.header.fingerprint not in (clear.header.fingerprint, taken.header.fingerprint)
    assert not is_same_content(
        prepared(OLD, CommandType.CREATE, request()).header.fingerprint, taken.header.fingerprint
    )


def prepared(ring: KeyRing, kind: CommandType, data: Any) -> Any:
    return prepare(
        kind, "a1", data, command_id="c1", caller=Caller("alice", "t", None, None), reply_to=None, keys=ring
    )  # fmt: skip


@pytest.mark.parametrize("ring", [None, NEW])
def test_a_command_that_cannot_be_opened_is_a_dead_letter(ring: KeyRing | None) -> None:
    sent = prepared(OLD, CommandType.COMPLETE, {"result": {}})

    with pytest.raises(NotACommandError, match=r"encrypted|cannot be opened"):
        decode_command(b"a1", sent.value, [], ring)


def test_what_is_sealed_is_judged_like_what_is_clear() -> None:
    def sealed(data: Any) -> bytes:
        return encode_command(
            command_id="c", command_type=CommandType.CREATE, assessment_id="a1", source="/t",
            time=datetime.now(UTC), data=OLD.seal("a1", data),
        )  # fmt: skip

    for wrong in ({"assessmentType": "x"}, request(serverName="a\x00b"), request(serverName="x" * 1024 * 1024)):
        taken = decode_command(b"a1", sealed(wrong), [], OLD)
        assert isinstance(taken, RefusedCommand)
    largest = request(serverName="x" * (1024 * 1024 - 1000))
    assert isinstance(decode_command(b"a1", prepared(OLD, CommandType.CREATE, largest).value, [], OLD), Command)


def test_the_reserved_name_is_refused_where_there_are_keys() -> None:
    with pytest.raises(RejectedError, match="encrypted"):
        prepared(OLD, CommandType.CREATE, request() | {MEMBER: 1})
    assert prepared(NO_KEYS, CommandType.CREATE, request() | {MEMBER: 1})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("k1", "neither id:base64 nor a file"), ("k 1:xx", "key 1"), ("k1:xx!", "no base64"), (f"{K1},{K1}", "twice"),
        ("k1:" + base64.b64encode(bytes(16)).decode(), "16 bytes, not 32"),
        ("@/nowhere", "FileNotFound"), (f"{K1},x", "key 2"),
    ],
    ids=itertools.count(),  # keys are made up anew, and the processes of a run have to agree on names
)  # fmt: skip
def test_keys_that_are_none_are_told_without_their_bytes(text: str, words: str) -> None:
    with pytest.raises(KeyRingError, match=words):
        KeyRing.parse(text)
    with pytest.raises(SettingsError, match="ASSESSMENTSTORE_ENCRYPTION_KEYS: ") as told:
        KeyRing.of(Settings(_env_file=None, encryption_keys=text))  # type: ignore[call-arg, arg-type]
    assert K1.partition(":")[2] not in str(told.value)


def test_keys_come_from_a_file_too_and_are_never_shown(tmp_path: Any) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{K2}\n{K1}\n")

    for text in (f"@{file}", str(file)):
        settings = Settings(_env_file=None, encryption_keys=text)  # type: ignore[call-arg, arg-type]
        ring = KeyRing.of(settings)
        assert (ring.current, ring.open("a", OLD.seal("a", {"n": 1}))) == ("k2", {"n": 1})
    assert K1 not in repr(Settings(_env_file=None, encryption_keys=K1))  # type: ignore[call-arg, arg-type]


def test_a_consumer_gets_an_event_opened_or_an_error_of_that_event_alone() -> None:
    event = created(OLD, serverName="s")

    assert orjson.loads(OLD.open_event_strictly(event.to_json()))["request"]["serverName"] == "s"
    with pytest.raises(UnreadableError):
        NEW.open_event_strictly(event.to_json())
