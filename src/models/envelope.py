"""Commands as CloudEvents 1.0 over Kafka, in structured and binary mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import orjson
from pydantic import ValidationError

from .base import MAX_ID_LENGTH, RESERVED_IDS, JsonObject
from .commands import (
    COMMAND_DATA,
    CREATING,
    MAX_USER_AGENT_LENGTH,
    Command,
    CommandHeader,
    CommandType,
    content_of,
    digest_of,
)
from .errors import NotACommandError, Rejection
from .imports import Import
from .sealed import MEMBER, CommandCipher, Fingerprint, UnreadableError, sealed_part
from .storable import is_suspect, unstorable

SOURCE = "/assessmentstore"
"""`ce_source` of everything that the store emits."""

STRUCTURED = "application/cloudevents+json"
JSON = "application/json"

MAX_COMMAND_BYTES = 1024 * 1024
"""The largest command that is taken, and the largest body over HTTP."""

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""The largest record on the topics: a command of the largest size, whatever its JSON grows to."""

CLIENT_IP = "clientip"
USER_AGENT = "useragent"
"""The extension attributes that tell where the caller of a command was, and what he used."""

_IDS = ("assessmentId", "id")
"""Under either name a create may tell its id in its data."""

_TYPES: dict[str, CommandType] = {kind.value: kind for kind in CommandType}

# An IPv6 address with an IPv4 one in it, and the name of a zone.
_LONGEST_ADDRESS = 64

Headers = Iterable[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCommand:
    """A well-formed command whose data is wrong."""

    header: CommandHeader
    rejection: Rejection


def decode_command(
    key: bytes | None, value: bytes | None, headers: Headers, cipher: CommandCipher | None = None
) -> Command | RefusedCommand:
    """Read a Kafka record as a command.

    Args:
        key: of the record.
        value: of the record.
        headers: of the record.
        cipher: opens encrypted data, and takes the fingerprint.

    Raises:
        NotACommandError: the bytes are not a command at all.
    """
    attributes, data = _open(value, {name.lower(): content for name, content in headers})
    if _is_encrypted(data):
        data = _opened(key, attributes, data, cipher)
        value = orjson.dumps(data)
    header = _header(key, attributes, data, cipher)
    rejection = _storable(header, value or b"", data)
    if rejection is not None:
        return RefusedCommand(header=header, rejection=rejection)
    try:
        expected = _expected_version(attributes.get("expectedversion"))
        parsed = COMMAND_DATA[header.type].model_validate(data)
    except ValidationError as error:
        return RefusedCommand(header=header, rejection=Rejection.from_validation(error))
    except ValueError as error:
        return RefusedCommand(header=header, rejection=Rejection.invalid(str(error)))
    if header.type in CREATING:
        named = parsed.request if isinstance(parsed, Import) else parsed
        wrong = _wrong_id(header.assessment_id, getattr(named, "assessment_id", None))
        if wrong is not None:
            return RefusedCommand(header=header, rejection=wrong)
    return Command(header=header, data=parsed, expected_version=expected)


def _wrong_id(assessment_id: str, named: str | None) -> Rejection | None:
    """Why no assessment can be created with this id, if it cannot."""
    if assessment_id in RESERVED_IDS:
        words = f"{assessment_id} is reserved, since it means something else in the paths of the API: take another id"
        return Rejection.invalid(words, errors=[{"pointer": "/assessmentId", "message": words}])
    if named not in (None, assessment_id):
        return Rejection.invalid(f"assessmentId differs from the subject {assessment_id}")
    return None


def _open(value: bytes | None, headers: Mapping[str, bytes | None]) -> tuple[JsonObject, Any]:
    """The attributes and the data of a record, in whichever mode it came."""
    if is_binary(headers):
        return _binary_attributes(headers), {} if not value else _parse(value)
    if not value:
        raise NotACommandError("the record has no value")
    event = _parse(value)
    if not isinstance(event, dict):
        raise NotACommandError("the value is not a JSON object")
    if "data_base64" in event:
        raise NotACommandError("data_base64 is not taken: send JSON as data")
    data = event.pop("data", None)
    return event, {} if data is None else data


def _is_encrypted(data: Any) -> bool:
    """Whether data is a cipher text and nothing else: that is no data of any command."""
    return isinstance(data, dict) and MEMBER in data and len(data) == 1 and sealed_part(data) is not None


def _opened(key: bytes | None, attributes: JsonObject, data: JsonObject, cipher: CommandCipher | None) -> JsonObject:
    if cipher is None:
        raise NotACommandError("its data is encrypted, and no key is configured")
    try:
        return cipher.open(_subject(key, attributes), data)
    except UnreadableError as error:
        raise NotACommandError(f"its data cannot be opened: {error}") from error


def is_binary(headers: Mapping[str, bytes | None]) -> bool:
    """Whether the attributes of a record stand in its headers, whose names are in lower case."""
    if not any(name.startswith("ce_") for name in headers):
        return False
    content_type = (headers.get("content-type") or b"").decode("utf-8", "replace").lower()
    return not content_type.startswith("application/cloudevents")


def _binary_attributes(headers: Mapping[str, bytes | None]) -> JsonObject:
    try:
        return {
            name[3:]: content.decode() for name, content in headers.items() if name.startswith("ce_") and content
        } | {name: content.decode() for name, content in headers.items() if name == "traceparent" and content}
    except UnicodeDecodeError as error:
        raise NotACommandError("a ce_ header is not UTF-8") from error


def _parse(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise NotACommandError(f"the value is not JSON: {error}") from error


def _header(key: bytes | None, attributes: JsonObject, data: Any, cipher: CommandCipher | None) -> CommandHeader:
    if attributes.get("specversion") != "1.0":
        raise NotACommandError("specversion is not 1.0: the value is not a CloudEvents 1.0 event")
    name = _text(attributes, "type")
    kind = _TYPES.get(name)
    if kind is None:
        raise NotACommandError(f"the type {name[:100]!r} is not one of the seven commands")
    command_id = _text(attributes, "id")
    if len(command_id) > MAX_ID_LENGTH:
        raise NotACommandError(f"the id has {len(command_id)} characters; the limit is {MAX_ID_LENGTH}")
    assessment_id = _subject(key, attributes)
    user_id = _optional_text(attributes, "userid")
    return CommandHeader(
        id=command_id,
        type=kind,
        assessment_id=assessment_id,
        user_id=user_id,
        ip_address=_optional_text(attributes, CLIENT_IP),
        user_agent=_optional_text(attributes, USER_AGENT),
        traceparent=_optional_text(attributes, "traceparent"),
        reply_to=_optional_text(attributes, "replyto"),
        fingerprint=_fingerprint(cipher, kind, assessment_id, user_id, data),
    )


def _fingerprint(
    cipher: CommandCipher | None, kind: CommandType, assessment_id: str, user_id: str | None, data: Any
) -> bytes:
    digest = digest_of if cipher is None else cipher.fingerprint
    try:
        own = digest(content_of(kind, assessment_id, user_id, data))
    except (TypeError, orjson.JSONEncodeError) as error:
        raise NotACommandError(f"the data cannot be written as JSON again: {error}") from error
    if kind is not CommandType.CREATE or not isinstance(data, dict):
        return own
    found = Fingerprint(own)
    found.former = _OtherForms(own, digest, assessment_id, user_id, data)
    return found


class _OtherForms:
    """The fingerprints of a create written otherwise: it may tell its id once more, as it has to over HTTP.

    They are made when they are asked for, which only repeats are.
    """

    def __init__(
        self, own: bytes, digest: Callable[[bytes], bytes], assessment_id: str, user_id: str | None, data: JsonObject
    ) -> None:
        self._own = own
        self._digest = digest
        self._id = assessment_id
        self._user_id = user_id
        self._data = data

    def __contains__(self, stored: object) -> bool:
        return any(stored == found or stored in getattr(found, "former", ()) for found in (self._own, *self._others()))

    def _others(self) -> Iterator[bytes]:
        rest = {name: value for name, value in self._data.items() if name not in _IDS or value != self._id}
        for member in ({}, *({name: self._id} for name in _IDS)):
            yield self._digest(content_of(CommandType.CREATE, self._id, self._user_id, rest | member))


def _subject(key: bytes | None, attributes: JsonObject) -> str:
    """The assessment id: the record key, which has to be the subject where there is one."""
    if not key:
        raise NotACommandError("the record has no key: it has to be the assessment id")
    try:
        name = key.decode()
    except UnicodeDecodeError as error:
        raise NotACommandError("the record key is not UTF-8") from error
    if "\x00" in name:
        raise NotACommandError("the record key has a null byte")
    if (_optional_text(attributes, "subject") or name) != name:
        raise NotACommandError("the subject differs from the record key: both have to be the assessment id")
    return name


def _text(attributes: JsonObject, name: str) -> str:
    value = _optional_text(attributes, name)
    if value is None:
        raise NotACommandError(f"the attribute {name} is missing or empty")
    return value


def _optional_text(attributes: JsonObject, name: str) -> str | None:
    value = attributes.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise NotACommandError(f"the attribute {name} is not a text")
    if "\x00" in value:
        raise NotACommandError(f"the attribute {name} has a null byte")
    return value


def _expected_version(value: Any) -> int | None:
    """`expectedversion` as a number; CloudEvents integers are 32 bits, and texts in binary mode."""
    if value is None or value == "":
        return None
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 0 < int(text) < 2**31:
        raise ValueError("expectedversion has to be a whole number from 1 to 2147483647")
    return int(text)


def _storable(header: CommandHeader, value: bytes, data: Any) -> Rejection | None:
    """Why Postgres could not keep this command, if it could not."""
    if len(value) > MAX_COMMAND_BYTES:
        return Rejection.invalid(f"the command has {len(value)} bytes; the limit is {MAX_COMMAND_BYTES}")
    if len(header.assessment_id) > MAX_ID_LENGTH:
        length = len(header.assessment_id)
        return Rejection.invalid(f"the assessment id has {length} characters; the limit is {MAX_ID_LENGTH}")
    if header.user_id is not None and len(header.user_id) > MAX_ID_LENGTH:
        return Rejection.invalid(f"the userid has {len(header.user_id)} characters; the limit is {MAX_ID_LENGTH}")
    if header.ip_address is not None and not is_ip_address(header.ip_address):
        return Rejection.invalid(f"the {CLIENT_IP} {header.ip_address[:_LONGEST_ADDRESS]!r} is not an IP address")
    if header.user_agent is not None and len(header.user_agent) > MAX_USER_AGENT_LENGTH:
        length = len(header.user_agent)
        return Rejection.invalid(f"the {USER_AGENT} has {length} characters; the limit is {MAX_USER_AGENT_LENGTH}")
    if not isinstance(data, dict):
        return Rejection.invalid("the data has to be a JSON object")
    reason = unstorable(data) if is_suspect(value) else None
    return None if reason is None else Rejection.invalid(reason)


@lru_cache(maxsize=4096)
def is_ip_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address, and one of a sensible length: a zone has none of its own."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return len(text) <= _LONGEST_ADDRESS


def encode_command(
    *,
    command_id: str,
    command_type: CommandType,
    assessment_id: str,
    source: str,
    time: datetime,
    data: JsonObject,
    **extensions: str | int | None,
) -> bytes:
    """Write a command in structured mode.

    The extensions are `userid`, `clientip`, `useragent`, `expectedversion`, `traceparent`, `replyto`.
    """
    event = {
        "specversion": "1.0",
        "id": command_id,
        "type": command_type,
        "source": source,
        "subject": assessment_id,
        "time": time,
        "datacontenttype": JSON,
        **{name: value for name, value in extensions.items() if value is not None},
        "data": data,
    }
    return orjson.dumps(event)
