"""The headers of requests and answers, as the OpenAPI document has them."""

from __future__ import annotations

from typing import Any

from ..models.base import MAX_ID_LENGTH
from ..models.positions import POSITIONS_PATTERN

Header = dict[str, Any]

_TOKEN = f"^{POSITIONS_PATTERN}$"

_ENTITY_TAG = '^"[!#-~]*"$'


def _request(name: str, description: str, **schema: object) -> Header:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}


REQUEST_HEADERS: dict[str, Header] = {
    header["name"]: header
    for header in (
        _request(
            "Idempotency-Key",
            "The same key and body give the same answer, however often and however late they are sent; over Kafka it "
            "is the id of the command. Bare, or as a quoted string.",
            minLength=1,
            maxLength=MAX_ID_LENGTH,
            pattern=r'^([!#-~][ -~]*|"([ !#-\[\]-~]|\\["\\])+")$',
        ),
        _request("Prefer", "With `respond-async` the answer comes as soon as Kafka has the command (RFC 7240)."),
        _request(
            "If-Match",
            "The `ETag` of the version that the command is meant for: 412 where it is another one by then.",
            pattern=r'^("[1-9][0-9]{0,8}"|\*)$',
        ),
        _request("If-None-Match", "An `ETag`: 304 where it is still the present one."),
        _request(
            "Consistency-Token",
            "What the answer to a command carried: the read sees that command's effect, in whichever process.",
            pattern=_TOKEN,
        ),
        _request("Last-Event-ID", "The last event that was seen: the stream goes on after it."),
        _request("traceparent", "W3C Trace Context, passed on with the command and its event."),
    )
}

_RESPONSE_HEADERS: dict[str, Header] = {
    "ETag": {"description": "The version, quoted; of a document, its digest.", "schema": {"pattern": _ENTITY_TAG}},
    "Location": {"description": "The path of the assessment.", "schema": {"format": "uri-reference"}},
    "Retry-After": {"description": "Seconds after which to try again.", "schema": {"pattern": "^[0-9]+$"}},
    "WWW-Authenticate": {"description": "How to say who asks.", "schema": {"const": "Bearer"}},
    "Accept-Encoding": {"description": "How a body may be compressed.", "schema": {"const": "gzip, deflate"}},
    "Vary": {"description": "The answer depends on `Accept`.", "schema": {}},
    "Preference-Applied": {"description": "The preference that was followed.", "schema": {"const": "respond-async"}},
    "Idempotency-Replayed": {
        "description": "The answer is that to an earlier request with the same key.",
        "schema": {"const": "true"},
    },
    "Consistency-Token": {
        "description": "Send it with a read, and that sees the command's effect, in whichever process.",
        "schema": {"pattern": _TOKEN},
    },
}

COMMON_HEADERS: dict[str, Header] = {
    "traceparent": {
        "description": "The W3C Trace Context that the request ran in.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
    },
    "RateLimit": {
        "description": "What is left to the caller: `r` requests at once; the whole burst in `t` seconds.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The burst `q` that is whole again after `w` seconds.",
        "schema": {"type": "string"},
    },
}
"""What answers have, whatever they say; of limits only those of routes that need a token."""


def response_header(name: str) -> Header:
    """A header of an answer, which is always there unless its name ends in a question mark."""
    header = _RESPONSE_HEADERS[name.rstrip("?")]
    schema = {"type": "string", **header["schema"]}
    return {"description": header["description"], "required": not name.endswith("?"), "schema": schema}
