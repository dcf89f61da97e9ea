"""Cursors: where a page ended, as a text that callers keep as it is."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson


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
