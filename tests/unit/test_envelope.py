"""CloudEvents in: what is a command, what is refused, and what is no command at all."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.models.base import RESERVED_IDS
from assessmentstore.models.commands import Cancel, Command, CommandType, Complete, Create, ReportProgress
from assessmentstore.models.envelope import MAX_COMMAND_BYTES, Headers, RefusedCommand, decode_command
from assessmentstore.models.errors import ErrorCode, NotACommandError
from assessmentstore.models.sealed import is_same_content

CREATE = {"assessmentType": "compliance", "options": {"deepScan": True}, "priority": 7}


def structured(**changes: Any) -> bytes:
    event = {
        "specversion": "1.0",
        "id": "c1",
        "type": "assessment.progress",
        "source": "/test",
        "subject": "a1",
        "data": {"progress": 50},
    }
    return orjson.dumps({name: value for name, value in (event | changes).items() if value is not ...})


def binary(**changes: str | None) -> Headers:
    attributes = {"specversion": "1.0", "id": "c1", "type": "assessment.progress", "source": "/test"} | changes
    return [(f"ce_{name}", value.encode()) for name, value in attributes.items() if value is not None]


def command(key: bytes | None, value: bytes | None, headers: Headers = ()) -> Command:
    decoded = decode_command(key, value, headers)
    assert isinstance(decoded, Command), decoded
    return decoded


def refusal(key: bytes | None, value: bytes | None, headers: Headers = ()) -> str:
    decoded = decode_command(key, value, headers)
    assert isinstance(decoded, RefusedCommand), decoded
    assert decoded.rejection.code is ErrorCode.VALIDATION_ERROR
    return decoded.rejection.message


def test_a_structured_command_needs_no_header() -> None:
    decoded = command(b"a1", structured(userid="bob", expectedversion=3, replyto="web1"))

    assert decoded.data == ReportProgress(progress=50)
    assert decoded.expected_version == 3
    assert (decoded.header.user_id, decoded.header.reply_to) == ("bob", "web1")


@pytest.mark.parametrize("name", sorted(RESERVED_IDS))
def test_a_word_of_the_api_is_no_id_to_create(name: str) -> None:
    created = structured(type="assessment.create", subject=name, data=CREATE)

    assert refusal(name.encode(), created).startswith(f"{name} is reserved")
    assert command(name.encode(), structured(subject=name)).header.assessment_id == name, (
        "there is none: it is not found"
    )


def test_a_structured_command_may_say_so_in_its_content_type() -> None:
    header = ("Content-Type", b"application/cloudevents+json; charset=utf-8")

    assert command(b"a1", structured(), [header]).header.id == "c1"


def test_a_binary_command_has_its_attributes_in_headers() -> None:
    headers = [*binary(userid="bob", expectedversion="3"), ("traceparent", b"00-1-2-01")]

    decoded = command(b"a1", b'{"progress": 50}', headers)

    assert decoded.data == ReportProgress(progress=50)
    assert decoded.expected_version == 3
    assert (decoded.header.user_id, decoded.header.traceparent) == ("bob", "00-1-2-01")


def test_where_the_caller_was_and_what_he_used_travel_in_both_modes() -> None:
    told = {"clientip": "2001:db8::1", "useragent": "curl/8.5 (ü)"}

    for decoded in (command(b"a1", structured(**told)), command(b"a1", b'{"progress": 50}', binary(**told))):
        assert (decoded.header.ip_address, decoded.header.user_agent) == ("2001:db8::1", "curl/8.5 (ü)")


def test_a_repeat_from_elsewhere_is_the_same_command() -> None:
    one = command(b"a1", structured(clientip="10.0.0.1", useragent="curl"))

    assert one.header.fingerprint == command(b"a1", structured(clientip="10.9.9.9")).header.fingerprint
    assert one.header.fingerprint == command(b"a1", structured()).header.fingerprint


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"clientip": "localhost"}, "the clientip 'localhost' is not an IP address"),
        ({"clientip": "fe80::1%" + "e" * 100}, "is not an IP address"),
        ({"useragent": "x" * 501}, "the useragent has 501 characters; the limit is 500"),
    ],
)
def test_what_cannot_be_where_a_caller_is_is_refused(told: dict[str, str], words: str) -> None:
    assert words in refusal(b"a1", structured(**told))


def test_the_same_command_has_the_same_fingerprint_in_both_modes() -> None:
    one = command(b"a1", structured(userid="bob"))
    other = command(b"a1", b'{"progress":50}', binary(userid="bob"))

    assert one.header.fingerprint == other.header.fingerprint


def test_a_create_may_name_its_assessment_once_more_or_not() -> None:
    """Over HTTP the id stands in the request, over Kafka it is the subject."""
    named: tuple[dict[str, str], ...] = ({}, {"assessmentId": "a1"}, {"id": "a1"})
    made = [
        command(b"a1", structured(type="assessment.create", data=CREATE | names)).header.fingerprint for names in named
    ]
    another = command(b"a1", structured(type="assessment.create", data=CREATE | {"priority": 8}))

    assert all(is_same_content(bytes(stored), found) for stored in made for found in made)
    assert not any(is_same_content(bytes(another.header.fingerprint), found) for found in made)
    assert len({bytes(stored) for stored in made}) == 3, "what is stored of older commands stays as it was"


def test_another_content_has_another_fingerprint() -> None:
    one = command(b"a1", structured())
    other = command(b"a1", structured(data={"progress": 51}))

    assert one.header.fingerprint != other.header.fingerprint


def test_the_subject_may_be_left_out() -> None:
    assert command(b"a1", structured(subject=...)).header.assessment_id == "a1"


@pytest.mark.parametrize("empty", [b"", None])
def test_a_binary_start_needs_no_value(empty: bytes | None) -> None:
    assert command(b"a1", empty, binary(type="assessment.start")).header.type is CommandType.START


def test_data_may_be_left_out_where_nothing_is_asked() -> None:
    assert command(b"a1", structured(type="assessment.cancel", data=...)).data == Cancel()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"a1", b"not json", "not JSON"),
        (b"a1", b"\xff\xfe", "not JSON"),
        (b"a1", b"[]", "not a JSON object"),
        (b"a1", b'"text"', "not a JSON object"),
        (b"a1", None, "no value"),
        (b"a1", b"", "no value"),
        (b"a1", b'{"a":' * 2000 + b"1" + b"}" * 2000, "not JSON"),
        (b"a1", b'{"id":"\\ud800"}', "not JSON"),
        (b"a1", structured(specversion=...), "specversion"),
        (b"a1", structured(specversion="0.3"), "specversion"),
        (b"a1", structured(type="assessment.explode"), "not one of the seven commands"),
        (b"a1", structured(type=7), "type is not a text"),
        (b"a1", structured(id=""), "id is missing"),
        (b"a1", structured(id=7), "id is not a text"),
        (b"a1", structured(id="x" * 256), "limit is 255"),
        (b"a1", structured(id="c\x001"), "null byte"),
        (b"a1", structured(data_base64="e30="), "data_base64"),
        (b"a1", structured(subject="a2"), "differs from the record key"),
        (None, structured(), "no key"),
        (b"", structured(), "no key"),
        (b"\xff", structured(), "not UTF-8"),
        (b"a\x001", structured(subject=...), "null byte"),
    ],
)
def test_what_is_no_command_says_why(key: bytes | None, value: bytes | None, reason: str) -> None:
    with pytest.raises(NotACommandError, match=reason):
        decode_command(key, value, [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": {"progress": 101}}, "Progress must be between 0 and 100"),
        ({"data": {"progress": -1}}, "Progress must be between 0 and 100"),
        ({"data": {"progress": "50"}}, "/progress: "),
        ({"data": {"progress": 50.5}}, "/progress: "),
        ({"data": {"progress": True}}, "/progress: "),
        ({"data": {}}, "/progress: "),
        ({"data": []}, "JSON object"),
        ({"data": "x"}, "JSON object"),
        ({"data": {"progress": 50, "message": "a\x00b"}}, "null byte"),
        ({"data": {"progress": 50, "message": 7}}, "/message: "),
        ({"type": "assessment.fail", "data": {"error": ""}}, "/error: "),
        ({"type": "assessment.complete", "data": {"result": {"overallScore": 101}}}, "/result/overallScore: "),
        ({"type": "assessment.complete", "data": {"result": None}}, "/result: "),
        ({"type": "assessment.create", "data": {"options": {}}}, "Assessment type is required"),
        ({"type": "assessment.create", "data": {"assessmentType": "health"}}, "Assessment options are required"),
        ({"type": "assessment.create", "data": CREATE | {"assessmentType": ""}}, "Assessment type is required"),
        ({"type": "assessment.create", "data": CREATE | {"assessmentType": None}}, "Assessment type is required"),
        ({"type": "assessment.create", "data": CREATE | {"options": None}}, "Assessment options are required"),
        ({"type": "assessment.create", "data": CREATE | {"assessmentType": "tax"}}, "/assessmentType: "),
        ({"type": "assessment.create", "data": CREATE | {"priority": 11}}, "/priority: "),
        ({"type": "assessment.create", "data": CREATE | {"progress": 200}}, "Progress must be between 0 and 100"),
        ({"type": "assessment.create", "data": CREATE | {"id": ""}}, "/assessmentId: "),
        ({"type": "assessment.create", "data": CREATE | {"id": "other"}}, "differs from the subject"),
        ({"type": "assessment.create", "data": CREATE | {"id": "a1", "assessmentId": "a2"}}, "give one of them"),
        ({"expectedversion": "x"}, "expectedversion"),
        ({"expectedversion": "\N{ARABIC-INDIC DIGIT THREE}"}, "expectedversion"),
        ({"expectedversion": 0}, "expectedversion"),
        ({"expectedversion": True}, "expectedversion"),
        ({"expectedversion": 2**31}, "expectedversion"),
        ({"userid": "u" * 256}, "limit is 255"),
    ],
)
def test_a_command_with_wrong_data_is_refused_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal(b"a1", structured(**changes))


@pytest.mark.parametrize("written", [b"50.0", b"5e1", b"500E-1"])
def test_a_whole_number_may_be_written_with_a_fraction_of_nothing(written: bytes) -> None:
    """JSON Schema's `integer`, which is published, has 50.0 in it; Python and others write a computed 50 so."""
    progress = command(b"a1", structured().replace(b"50", written))
    create = command(b"a1", structured(type="assessment.create", data=CREATE).replace(b"7", b"7.0"))

    assert repr(progress.data) == repr(ReportProgress(progress=50))
    assert orjson.dumps(create.data.to_wire()["priority"]) == b"7"


def test_an_id_that_the_column_cannot_hold_is_refused() -> None:
    assert "300 characters" in refusal(b"a" * 300, structured(subject=...))


def test_a_command_that_is_too_large_is_refused() -> None:
    assert "the limit is" in refusal(b"a1", structured(data={"progress": 1, "message": "x" * MAX_COMMAND_BYTES}))


@pytest.mark.parametrize("number", [b"1e400", b"123456789012345678901234567890", b"-9223372036854775809"])
def test_numbers_that_would_not_be_kept_as_they_are_do_not_get_in(number: bytes) -> None:
    value = structured(type="assessment.create", data=CREATE | {"metadata": {"n": 17}}).replace(b"17", number)

    try:
        assert "out of the range" in refusal(b"a1", value)
    except NotACommandError as error:
        assert "not JSON" in str(error)


def test_data_that_is_nested_too_deep_is_refused() -> None:
    nested: Any = 1
    for _ in range(100):
        nested = [nested]

    assert "nested deeper" in refusal(
        b"a1", structured(type="assessment.create", data=CREATE | {"metadata": {"n": nested}})
    )


def test_a_null_byte_that_is_only_written_about_is_kept() -> None:
    decoded = command(b"a1", structured(data={"progress": 50, "message": r"a literal \u0000 in a text"}))

    assert isinstance(decoded.data, ReportProgress)
    assert decoded.data.message == r"a literal \u0000 in a text"


def test_members_of_the_callers_own_are_kept() -> None:
    decoded = command(b"a1", structured(type="assessment.create", data=CREATE | {"ticket": {"n": [1]}}))

    assert isinstance(decoded.data, Create)
    assert decoded.data.to_wire() == CREATE | {"ticket": {"n": [1]}, "timeout": 300}


def test_numbers_and_texts_are_kept_as_they_were_written() -> None:
    result = {
        "overallScore": 97,
        "timestamp": "2026-01-02T03:04:05+00:00",
        "metadata": {"a": 1, "b": 1.0},
        "serverStatuses": [{"responseTime": 3}],
    }
    decoded = command(b"a1", structured(type="assessment.complete", data={"result": result}))

    assert isinstance(decoded.data, Complete)
    kept = decoded.data.result.to_wire()
    assert orjson.dumps(kept, option=orjson.OPT_SORT_KEYS) == orjson.dumps(result, option=orjson.OPT_SORT_KEYS)


@given(st.binary(max_size=200), st.binary(max_size=20) | st.none())
def test_no_bytes_break_the_decoder(value: bytes, key: bytes | None) -> None:
    try:
        decode_command(key, value, [])
    except NotACommandError as error:
        assert str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from([kind.value for kind in CommandType]),
    st.dictionaries(
        st.sampled_from(["progress", "message", "error", "reason", "result", "options", "assessmentType", "id", "x"]),
        JSON,
    ),
)
def test_no_data_breaks_the_decoder(kind: str, data: dict[str, Any]) -> None:
    try:
        value = structured(type=kind, data=data)
    except (TypeError, orjson.JSONEncodeError):
        return

    try:
        assert isinstance(decode_command(b"a1", value, []), Command | RefusedCommand)
    except NotACommandError as error:
        assert str(error)
