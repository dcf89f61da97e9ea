"""The formats that the schemas name: jsonschema checks none of them by itself."""

from __future__ import annotations

import re
from datetime import date, datetime

from jsonschema import FormatChecker

FORMATS = FormatChecker(formats=())

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    """RFC 3339."""
    if not isinstance(value, str):
        return True
    # Python 3.11 reads six digits of a second at the most.
    return bool(_TIME.fullmatch(value)) and bool(datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value)))


@FORMATS.checks("date", raises=ValueError)
def _is_date(value: object) -> bool:
    return not isinstance(value, str) or bool(date.fromisoformat(value))


@FORMATS.checks("uri-reference")
def _is_reference(value: object) -> bool:
    return not isinstance(value, str) or re.fullmatch(r"[!-~]*", value) is not None
