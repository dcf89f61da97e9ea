"""Cursors: where a page ended, as a text that callers keep as it is."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import orjson

from ..models.errors import RejectedError, Rejection


def write_cursor(*place: Any) -> str:
    """The text of a place."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def read_cursor(cursor: str) -> list[Any]:
    """The place of a text.

    Raises:
        ValueError: it is no cursor.
    """
    try:
        place = orjson.loads(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (binascii.Error, orjson.JSONDecodeError) as error:
        raise ValueError("it is not one of ours") from error
    if isinstance(place, list):
        return place
    raise ValueError("it names no place")


def instant(value: Any) -> datetime:
    """A time of a place.

    Raises:
        ValueError, TypeError, OverflowError: it is none.
    """
    return datetime.fromisoformat(value).astimezone(UTC)


def assessment_id(value: Any) -> str:
    """An id of a place.

    Raises:
        ValueError: no assessment has it.
    """
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError("no id of an assessment")
    return value


def wrong_cursor(words: str) -> RejectedError:
    """What is said of a cursor that does not go with its query."""
    return RejectedError(Rejection.invalid(f"cursor {words}", parameter="cursor"))
