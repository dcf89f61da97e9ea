"""What schemathesis cannot know of itself: what there is, and that nobody waits for long here for what is not."""

from __future__ import annotations

import os
from itertools import cycle
from typing import Any

import schemathesis

_IDS = cycle(os.environ["KNOWN_IDS"].split(","))
_TOKEN = os.environ["KNOWN_TOKEN"]
_TURNS = cycle((True, True, False))

_LONGEST_WAIT = 100
"""Milliseconds."""


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Let most requests be about an assessment that is there, and none about commands that are not."""
    if "id" in (case.path_parameters or {}) and len(str(case.path_parameters["id"])) <= 255 and next(_TURNS):
        case.path_parameters["id"] = next(_IDS)
    query, headers = case.query or {}, case.headers or {}
    if case.path.endswith("/wait") and _is_more(query.get("timeout", _LONGEST_WAIT + 1), _LONGEST_WAIT):
        case.query = {**query, "timeout": _LONGEST_WAIT}
    if _is_more(query.get("minVersion"), 1):
        case.query = {**query, "minVersion": 1}
    if str(headers.get("Consistency-Token", "")).startswith("p1."):
        case.headers["Consistency-Token"] = _TOKEN


def _is_more(value: object, limit: int) -> bool:
    """Whether a number is valid, and too large for a quick test."""
    return isinstance(value, int | str) and str(value).isdigit() and limit < int(value) < 2**31
