"""Request headers, read strictly: what is malformed is refused, never guessed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from ..models.base import MAX_ID_LENGTH
from ..models.errors import RejectedError, Rejection

_ENTITY_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\U0010ffff]*)"')
_VERSION_TAG = re.compile(r'"([1-9][0-9]{0,9})"')
_BARE_KEY = re.compile(r"[\x21\x23-\x7e][\x20-\x7e]*")
_QUOTED_KEY = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_PROBLEM, _JSON, _TEXT = "application/problem+json", "application/json", "text/plain"


REPLAYED = {"Idempotency-Replayed": "true"}
"""What marks the answer to an earlier request with the same key."""


def entity_tag(version: int) -> str:
    """The strong `ETag` of a version."""
    return f'"{version}"'


def none_match(values: list[str], version: int | str) -> bool:
    """Whether `If-None-Match`, on however many lines, names this version, compared weakly as RFC 9110 has it."""
    header = ",".join(values)
    return header.strip() == "*" or str(version) in _ENTITY_TAG.findall(header)


def expected_version(values: list[str]) -> int | None:
    """The version that `If-Match` insists on; nothing for `*` or without the header.

    Raises:
        RejectedError: it is not one strong tag of a version.
    """
    header = ",".join(values).strip()
    if not values or header == "*":
        return None
    match = _VERSION_TAG.fullmatch(header)
    if match is None:
        raise _invalid(f'If-Match is {header[:100]!r}: send the ETag of one version, like "3", or *')
    return int(match[1])


def idempotency_key(values: list[str]) -> str | None:
    """The key of the `Idempotency-Key` header, bare or as a quoted string.

    Raises:
        RejectedError: there are several, or it is no such key.
    """
    if not values:
        return None
    text = values[0].strip()
    quoted = _QUOTED_KEY.fullmatch(text)
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text
    if len(values) > 1 or not (quoted or _BARE_KEY.fullmatch(text)) or len(key) > MAX_ID_LENGTH:
        limit = f"1 to {MAX_ID_LENGTH} visible ASCII characters"
        raise _invalid(f"Idempotency-Key is not valid: send one key of {limit}, bare or as a quoted string")
    return key


def prefers_async(values: Iterable[str]) -> bool:
    """Whether `Prefer` asks for an answer before the work is done (RFC 7240)."""
    preferences = (part.partition(";")[0].strip().lower() for value in values for part in value.split(","))
    return "respond-async" in preferences


def accepts_problem(values: Iterable[str]) -> bool:
    """Whether `Accept` names RFC 9457 problems, and likes plain JSON no better."""
    return 0 < _liking(values, _PROBLEM) >= _liking(values, _JSON)


def prefers_json(values: Iterable[str]) -> bool:
    """Whether `Accept` names JSON, and likes plain text no better."""
    return 0 < _liking(values, _JSON) >= _liking(values, _TEXT)


def _liking(values: Iterable[str], wanted: str) -> float:
    """The weight that `Accept` gives a media type by its name (RFC 9110); 0 where it does not name it."""
    for part in ",".join(values).lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if media_type == wanted:
            return _weight(parameters)
    return 0.0


def trace_context(header: str | None) -> str:
    """The caller's W3C trace context where it is one, else a new one."""
    if header is not None and _TRACEPARENT.fullmatch(header):
        return header
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def _weight(parameters: list[str]) -> float:
    value = next((item[2:] for item in parameters if item.startswith("q=")), "1")
    return float(value) if re.fullmatch(r"[01](\.\d{0,3})?", value) else 0.0


def _invalid(message: str) -> RejectedError:
    return RejectedError(Rejection.invalid(message))
