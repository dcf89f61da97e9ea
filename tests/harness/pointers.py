"""Changes as a reader of the API applies them, by JSON Pointers (RFC 6901)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any


def applied(state: Any, changes: Iterable[Mapping[str, Any]]) -> Any:
    """A state with changes made to it; fail where it is not the one that they were told of."""
    whole = {"": copy.deepcopy(state)}
    for change in changes:
        *path, last = ["", *(part.replace("~1", "/").replace("~0", "~") for part in change["field"].split("/")[1:])]
        parent: Any = whole
        for part in path:
            parent = parent[part]
        assert (last in parent) is ("from" in change), change
        assert "from" not in change or parent[last] == change["from"], change
        if "to" in change:
            parent[last] = copy.deepcopy(change["to"])
        else:
            del parent[last]
    return whole[""]
