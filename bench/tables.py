"""Tables of plain text."""

from __future__ import annotations

MEBI = 1024 * 1024


def row(first: object, *others: object) -> str:
    """A line of a table; titles and figures alike."""
    return f"  {first!s:<14}" + "".join(f"{other!s:>14}" for other in others)
