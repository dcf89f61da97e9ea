"""Canonical JSON: one text for one value, whoever writes it, and whatever JSONB made of it meanwhile (RFC 8785, JCS).

Members are sorted by the UTF-16 units of their names, numbers are written as ECMAScript does, strings with the fewest
escapes. One departure: a whole number beyond 2**53 keeps all its digits, where RFC 8785 would round it to a double; two
such numbers that differ must not have one hash. 1, 1.0 and 1e0 are one number, and have one text.
"""

from __future__ import annotations

import math
from operator import is_not
from typing import Any

import orjson

# From here on ECMAScript writes whole numbers with an exponent, and below that numbers smaller than one.
_EXPONENT_FROM = 21
_EXPONENT_BELOW = -6

# Whole numbers below have the same digits whether they are doubles or not.
_EXACT = 2**53

_MAY_HAVE_FLOATS = frozenset({float, dict, list, tuple})

# The first byte, in UTF-8, of the characters that UTF-16 sorts before some that have a smaller code.
_BEYOND_16_BITS = tuple(bytes([first]) for first in range(0xF0, 0xF5))


def canonical(value: dict[str, Any]) -> bytes:
    """Write a JSON object as RFC 8785 does, but for whole numbers beyond 2**53; times in UTC with a Z.

    Raises:
        ValueError: a number is not finite.
    """
    # orjson departs from RFC 8785 in two things: it writes 1.0 and 1e16, and it sorts names by code.
    text = orjson.dumps(_members(value), option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
    if text.isascii() or not any(first in text for first in _BEYOND_16_BITS):
        return text
    return _write(value).encode()


def _members(value: dict[str, Any]) -> dict[str, Any]:
    """An object whose floats are replaced by what is to be written; the same one where there is none."""
    changed = value
    for name, item in value.items():
        if type(item) in _MAY_HAVE_FLOATS and (new := _item(item)) is not item:
            changed = dict(value) if changed is value else changed
            changed[name] = new
    return changed


def _item(item: Any) -> Any:
    kind = type(item)
    if kind is dict:
        return _members(item)
    if kind is float:
        return int(item) if item.is_integer() and abs(item) < _EXACT else orjson.Fragment(_number(item))
    if kind is list or kind is tuple:
        new = [_item(each) for each in item]
        return new if any(map(is_not, new, item)) else item
    return item


def _write(value: Any) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=_utf_16)
        return "{" + ",".join(f"{_write(name)}:{_write(value[name])}" for name in names) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()


def _utf_16(name: str) -> bytes:
    return name.encode("utf-16-be")


def _number(value: float) -> str:
    """A double as ECMAScript's Number.prototype.toString has it."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    if value == 0:
        return "0"
    # The shortest digits that lead back to the double: repr and ECMAScript agree on those, not on how to write them.
    text = repr(value)
    if "e" not in text and not text.endswith(".0"):
        return text
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    shift = int(exponent or 0) + len(whole)
    digits = whole + ("" if fraction == "0" else fraction)
    shift -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    return ("-" if value < 0 else "") + _place_point(digits, shift)


def _place_point(digits: str, shift: int) -> str:
    """0.<digits> times ten to the power of `shift`."""
    count = len(digits)
    if count <= shift <= _EXPONENT_FROM:
        return digits + "0" * (shift - count)
    if 0 < shift <= _EXPONENT_FROM:
        return f"{digits[:shift]}.{digits[shift:]}"
    if _EXPONENT_BELOW < shift <= 0:
        return "0." + "0" * -shift + digits
    return f"{digits[0]}{'.' if count > 1 else ''}{digits[1:]}e{shift - 1:+d}"
