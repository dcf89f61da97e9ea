"""Full-text search: what is looked for, where it is found, and what of it to show."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg
import orjson

from ..models.assessment import AssessmentRecord
from ..models.filters import SearchQuery
from .lists import like_literal
from .postgres import Connection, record_from_row
from .queries import QUERIES
from .search import beginnings_query, search_texts, whole_words_query, words

# The cost of a search must not grow with history. What many assessments have is looked for among the newest only; what
# few have is looked for among all of them, up to a bound: by whole words first, which the index finds at once; where
# those are few by beginnings and parts, for which it goes through all that begin so.
_NEWEST = 2000
_MANY = 100
MOST_RANKED = 500

# The index of words reads all that have one, 4 million a second; where one in twenty of a million has it, going through
# assessments until enough are found costs as much, and does not cost more as they become more.
_COMMON = 50_000

# How many words of the vocabulary may stand in for a beginning.
_MOST_ENDINGS = 32

# An index of trigrams finds no shorter part of a word.
_SHORTEST_PART = 3
_INDEXED_PART = 12

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
class _Wanted:
    """What is looked for."""

    words: list[list[str]]
    """All of these, each in one of several spellings."""
    part: str
    """Of an id or a server, as a pattern of LIKE."""
    part_begin: str
    """Its first letters."""
    owner: str | None
    assessment_id: str


@dataclass(frozen=True, slots=True)
class _Hits:
    ids: list[str]
    total: int
    are_all: bool


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Some of what was found, best first."""

    found: Sequence[Found]
    total: int
    total_is_exact: bool
    next_offset: int | None


async def search(connection: Connection, query: SearchQuery, owner: str | None, *, offset: int) -> SearchPage:
    """Look for words and parts of them; where there is nothing, for words that are spelt almost so."""
    part = query.q.lower() if len(query.q) >= _SHORTEST_PART else ""
    spelt, part_begin = [[word] for word in words(query.q)], like_literal(part[:_INDEXED_PART])
    wanted = _Wanted(spelt, like_literal(part), part_begin, owner, query.q)
    hits = await _hits(connection, wanted, query.limit, offset)
    if not hits.total and wanted.words:
        wanted = replace(wanted, words=await _stand_ins(connection, wanted.words), part="")
        hits = await _hits(connection, wanted, query.limit, offset)
    records = await connection.fetch(QUERIES["load_states"], hits.ids)
    by_id = {row["assessment_id"]: record_from_row(row) for row in records}
    spellings = [word for spelt in wanted.words for word in spelt]
    looked_for = [text for text in {*spellings, part} if text]
    shown = re.compile("|".join(_patterns(spellings, part)) or "(?!)", re.IGNORECASE)
    end = offset + len(hits.ids)
    return SearchPage(
        [Found(state, _highlights(state, looked_for, shown)) for key in hits.ids if (state := by_id.get(key))],
        hits.total,
        hits.are_all,
        end if hits.ids and end < hits.total else None,
    )


async def _hits(connection: Connection, wanted: _Wanted, limit: int, offset: int) -> _Hits:
    """A page of ids, best first, and how many there are."""
    begun = beginnings_query(wanted.words)
    what, page = (wanted.part, wanted.owner), (limit, offset, wanted.assessment_id)
    rows = await connection.fetch(QUERIES["search_newest"], begun, *what, _NEWEST, MOST_RANKED, *page)
    are_all = _total(rows) < MOST_RANKED and await _are_few(connection, wanted.owner)
    if _total(rows) < _MANY and not are_all:
        whole = whole_words_query(await _with_endings(connection, wanted.words))
        order = "ORDER BY assessment_id" if await _are_common(connection, whole, wanted.owner) else ""
        by_words = QUERIES["search_words"].format(order=order)
        rows = await connection.fetch(by_words, whole, *what, MOST_RANKED, *page)
        if _total(rows) < _MANY:
            rows = await connection.fetch(QUERIES["search_all"], begun, *what, MOST_RANKED, *page, wanted.part_begin)
            are_all = True
    if not rows and offset:
        # There is no row that could tell the total: the page before the first one does.
        return replace(await _hits(connection, wanted, 1, 0), ids=[])
    total = _total(rows)
    return _Hits([row["assessment_id"] for row in rows], total, are_all and total < MOST_RANKED)


async def _are_few(connection: Connection, owner: str | None) -> bool:
    """Whether the newest are all there are."""
    known: int = await connection.fetchval(QUERIES["searched"], owner, _NEWEST)
    return known < _NEWEST


async def _are_common(connection: Connection, words: str, owner: str | None) -> bool:
    (plan,) = orjson.loads(await connection.fetchval(QUERIES["how_many_have"], words, owner))
    return bool(plan["Plan"]["Plan Rows"] > _COMMON)


def _total(rows: Sequence[asyncpg.Record]) -> int:
    return rows[0]["total"] if rows else 0


async def _with_endings(connection: Connection, wanted: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each word its spellings and the words of the vocabulary that begin like the first of them."""
    patterns = [f"{like_literal(spelt[0])}%" for spelt in wanted]
    rows = await connection.fetch(QUERIES["words_that_begin"], patterns, _MOST_ENDINGS)
    found = [[row["word"] for row in rows if row["number"] == number] for number in range(1, len(wanted) + 1)]
    # A word twice would be looked for twice.
    return [[*dict.fromkeys([*spelt, *endings])] for spelt, endings in zip(wanted, found, strict=True)]


async def _stand_ins(connection: Connection, wanted: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each word itself and the words of the vocabulary that are most like it."""
    first = [spelt[0] for spelt in wanted]
    rows = await connection.fetch(QUERIES["nearest_words"], first, _STAND_INS)
    return [[word, *(row["word"] for row in rows if row["wanted"] == word)] for word in first]


def _patterns(wanted: Sequence[str], part: str) -> list[str]:
    """Regular expressions of what is shown: words that begin so, and the text itself wherever it stands."""
    starts = sorted({re.escape(word) for word in wanted}, key=len, reverse=True)
    return [*([re.escape(part)] if part else []), *(rf"(?<![^\W_]){word}[^\W_]*" for word in starts)]


def _highlights(record: AssessmentRecord, looked_for: Sequence[str], shown: re.Pattern[str]) -> dict[str, str]:
    found = {}
    for text in search_texts(record):
        lower = text.text.lower()
        # Most fields have nothing to show: the pattern would be half of what a page of highlights costs.
        if any(sought in lower for sought in looked_for) and (match := shown.search(text.text)):
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
