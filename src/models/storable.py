"""What JSON can say and Postgres' `jsonb` cannot keep."""

from __future__ import annotations

import math
from typing import Any

_MAX_DEPTH = 64
_INT64 = 2**63

# Only values that match, or have enough brackets to be nested too deep, are walked: a null byte, or so many digits that
# the number may not survive as one of 64 bits.
_NULL_BYTE = b"\\u0000"
_MANY_DIGITS = b"0" * 19
_MARKS = bytes.maketrans(b"123456789{", b"000000000[")


def is_suspect(written: bytes) -> bool:
    """Whether a written value may be one that cannot be kept, and is worth a closer look."""
    # Passes in C cost a tenth of what a regular expression does.
    marks = written.translate(_MARKS)
    return marks.count(b"[") > _MAX_DEPTH or _MANY_DIGITS in marks or _NULL_BYTE in written


def unstorable(value: Any, depth: int = 0) -> str | None:
    """Why a JSON value cannot be kept in `jsonb` as it is, or nothing."""
    match value:
        case str():
            return "a text has a null byte, which cannot be stored" if "\x00" in value else None
        case dict() | list():
            if depth >= _MAX_DEPTH:
                return f"the data is nested deeper than {_MAX_DEPTH} levels"
            inner = [*value, *value.values()] if isinstance(value, dict) else value
            return next((reason for item in inner if (reason := unstorable(item, depth + 1))), None)
        case bool() | None:
            return None
        case int() if not -_INT64 <= value < _INT64:
            return "a number is out of the range of 64 bits"
        case float() if not math.isfinite(value) or (abs(value) >= _INT64 and value.is_integer()):
            return "a number is out of the range of 64 bits"
        case _:
            return None
