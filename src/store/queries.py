"""The SQL by name: `QUERIES["load_states"]`; the texts stand in `sql/queries.sql`."""

from __future__ import annotations

import re
from importlib.resources import files

_HEADING = re.compile(r"^-- (\w+) --$", re.MULTILINE)


def _load() -> dict[str, str]:
    text = (files(__package__) / "sql" / "queries.sql").read_text()
    _, *parts = _HEADING.split(text)
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))


QUERIES = _load()
