"""Several writes in one statement: what a batch costs is mostly the round trips to Postgres, and not the rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from .postgres import Connection
from .queries import QUERIES
from .rows import columns

_PARAMETER = re.compile(r"\$(\d+)")


class Write(NamedTuple):
    """An INSERT, UPDATE or DELETE by its name, with its parameters."""

    query: str
    parameters: Sequence[Any]


def write_rows(query: str, rows: Iterable[Sequence[Any]]) -> list[Write]:
    """A write whose parameters are the columns of rows, if there are any."""
    parameters = columns(rows)
    return [Write(query, parameters)] if parameters else []


async def write_together(connection: Connection, writes: Sequence[Write]) -> dict[str, int]:
    """Run writes as one statement, in their order, and count the rows that each wrote.

    None of them sees what another one writes, and no two may write the same row (PostgreSQL documentation, 7.8.4).
    """
    if not writes:
        return {}
    statement = _together(tuple(write.query for write in writes))
    parameters = [value for write in writes for value in write.parameters]
    (counts,) = await connection.fetch(statement, *parameters)
    return dict(counts)


@cache
def _together(names: tuple[str, ...]) -> str:
    """One query of several: each is a part of its own, and its parameters follow those of the ones before."""
    parts, taken = [], 0
    for name in names:
        query, count = _shifted(QUERIES[name], taken)
        parts.append(f"{name} AS (\n{query}\nRETURNING 1\n)")
        taken += count
    counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in names)
    return f"WITH {', '.join(parts)}\nSELECT {counts}"


def _shifted(query: str, by: int) -> tuple[str, int]:
    """A query with its parameters numbered from there on, and how many it has."""
    count = max(int(number) for number in _PARAMETER.findall(query))
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + by}", query), count
