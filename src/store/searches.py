"""Full-text search: what is looked for, where it is found, and what of it to show."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..models.assessment import AssessmentRecord
from ..models.filters import SearchQuery
from .lists import like_literal
from .postgres import Connection, record_from_row
from .queries import QUERIES
from .search import prefix_query, search_texts, words

# The cost of a search must not grow with history: all of the newest assessments that match are ranked, and so many of
# the others.
_NEWEST = 2000
MOST_RANKED = 500

# An index of trigrams finds no shorter part of a word.
_SHORTEST_PART = 3

# How many words of the vocabulary may stand in for one that nothing was found with.
_STAND_INS = 8

_CONTEXT = 60
"""Characters that a highlight shows on both sides."""


@dataclass(frozen=True, slots=True)
class Found:
    """One assessment that was found, and where."""

    assessment: AssessmentRecord
    highlights: dict[str, str]
    """By field, the text around what was found, as HTML with the place in `<mark>`."""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Some of what was found, best first."""

    found: Sequence[Found]
    total: int
    total_is_exact: bool
    next_offset: int | None


async def search(connection: Connection, query: SearchQuery, owner: str | None, *, offset: int) -> SearchPage:
    """Look for words and parts of them; where there is nothing, for words that are spelt almost so."""
    wanted = words(query.q)
    part = query.q.lower() if len(query.q) >= _SHORTEST_PART else ""
    looked = [prefix_query(wanted), like_literal(part), owner, MOST_RANKED, _NEWEST]
    if wanted and not await connection.fetchval(QUERIES["is_found"], *looked[:3]):
        choices = await _stand_ins(connection, wanted)
        wanted = [word for words_ in choices for word in words_]
        looked[:2] = _choice_query(choices), ""
    rows = await connection.fetch(QUERIES["search"], *looked, query.limit, offset)
    records = await connection.fetch(QUERIES["load_states"], [row["assessment_id"] for row in rows])
    by_id = {row["assessment_id"]: record_from_row(row) for row in records}
    shown = re.compile("|".join(_patterns(wanted, part)) or "(?!)", re.IGNORECASE)
    total = rows[0]["total"] if rows else 0
    more = offset + len(rows) < total
    return SearchPage(
        [Found(state, _highlights(state, shown)) for row in rows if (state := by_id.get(row["assessment_id"]))],
        total,
        total < MOST_RANKED,
        offset + len(rows) if more else None,
    )


async def _stand_ins(connection: Connection, wanted: Sequence[str]) -> list[list[str]]:
    """For each word itself and the words of the vocabulary that are most like it."""
    rows = await connection.fetch(QUERIES["nearest_words"], list(wanted), _STAND_INS)
    return [[word, *(row["word"] for row in rows if row["wanted"] == word)] for word in wanted]


def _choice_query(choices: Sequence[Sequence[str]]) -> str:
    return " & ".join("(" + " | ".join(f"{word}:*" for word in words_) + ")" for words_ in choices)


def _patterns(wanted: Sequence[str], part: str) -> list[str]:
    """Regular expressions of what is shown: words that begin so, and the text itself wherever it stands."""
    starts = sorted({re.escape(word) for word in wanted}, key=len, reverse=True)
    return [*([re.escape(part)] if part else []), *(rf"(?<![^\W_]){word}[^\W_]*" for word in starts)]


def _highlights(record: AssessmentRecord, shown: re.Pattern[str]) -> dict[str, str]:
    found = {}
    for text in search_texts(record):
        if match := shown.search(text.text):
            start, end = max(0, match.start() - _CONTEXT), match.end() + _CONTEXT
            found[text.field] = _marked(text.text[start:end], shown)
    return found


def _marked(text: str, shown: re.Pattern[str]) -> str:
    """HTML of a text, with what was found in `<mark>`."""
    pieces, position = [], 0
    for match in shown.finditer(text):
        pieces += [html.escape(text[position : match.start()]), f"<mark>{html.escape(match[0])}</mark>"]
        position = match.end()
    return "".join([*pieces, html.escape(text[position:])])
