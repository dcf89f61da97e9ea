"""The SQL by name: `QUERIES["load_states"]`; the texts stand in `sql/*.sql`, one file for each part of the store."""

from __future__ import annotations

import re
from importlib.resources import files

_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def _load() -> dict[str, str]:
    queries: dict[str, str] = {}
    for file in (files(__package__) / "sql").iterdir():
        if file.name.endswith(".sql"):
            _, *parts = _HEADING.split(file.read_text())
            queries |= zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True)
    return queries


QUERIES = _load()
