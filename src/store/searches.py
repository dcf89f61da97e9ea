"""Full-text search: what is looked for, where it is found, and what of it to show."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from ..models.assessment import AssessmentRecord
from ..models.filters import SearchQuery
from .cursors import assessment_id, instant, read_cursor, write_cursor, wrong_cursor
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

# A page may have a thousand assessments, and a result may have a megabyte; as it is stored it may be packed.
_MOST_BYTES = 4 * 1024 * 1024

_SEARCH = "search"
"""What tells a cursor of a search from one of a list."""

# What is found is ordered by so many numbers: see `search_rank`.
_RANKS = 3

_CONTEXT = 60
"""Characters that a highlight shows on both sides."""


def _paged(found: str, are_all: str) -> str:
    page = QUERIES["search_page"].format(are_all=are_all)
    return f"{found}\n{page}"


_IN_NEWEST = _paged(QUERIES["search_newest"], QUERIES["newest_are_all"])
_RARE_WORDS = _paged(QUERIES["search_words"].format(order=""), "false")
_COMMON_WORDS = _paged(QUERIES["search_words"].format(order="ORDER BY assessment_id"), "false")
_IN_ALL = _paged(QUERIES["search_all"], "true")


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
    page: tuple[int, int]
    """Its limit and its offset."""
    after: tuple[list[float] | None, datetime | None, str | None]
    """The place where the page before ended."""

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Those that every query has, behind the words."""
        what = self.part, self.owner, MOST_RANKED
        return *what, *self.page, self.assessment_id, _MANY, _MOST_BYTES, *self.after


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Some of what was found, best first."""

    assessments: Sequence[AssessmentRecord]
    total: int
    total_is_exact: bool
    next_cursor: str | None
    looked_for: LookedFor


@dataclass(frozen=True, slots=True)
class LookedFor:
    """The texts that a search went by, in lower case."""

    texts: frozenset[str]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, words: Sequence[Sequence[str]], part: str) -> LookedFor:
        """What is shown: words that begin so, and the text itself wherever it stands."""
        spellings = {word for spelt in words for word in spelt}
        starts = sorted(map(re.escape, spellings), key=len, reverse=True)
        patterns = [*([re.escape(part)] if part else []), *(rf"(?<![^\W_]){word}[^\W_]*" for word in starts)]
        texts = frozenset(text for text in (*spellings, part) if text)
        return cls(texts, re.compile("|".join(patterns) or "(?!)", re.IGNORECASE))

    def highlights(self, record: AssessmentRecord) -> dict[str, str]:
        """By field, the text around what was found, as HTML with the place in `<mark>`."""
        found = {}
        for field, _, text in search_texts(record):
            lower = text.lower()
            # Most fields have nothing to show: the pattern would be half of what a page of highlights costs.
            if any(sought in lower for sought in self.texts) and (match := self.pattern.search(text)):
                start, end = max(0, match.start() - _CONTEXT), match.end() + _CONTEXT
                found[field] = self._marked(text[start:end])
        return found

    def _marked(self, text: str) -> str:
        """HTML of a text, with what was found in `<mark>`."""
        pieces, position = [], 0
        for match in self.pattern.finditer(text):
            pieces += [html.escape(text[position : match.start()]), f"<mark>{html.escape(match[0])}</mark>"]
            position = match.end()
        return "".join([*pieces, html.escape(text[position:])])


async def search(connection: Connection, query: SearchQuery, owner: str | None) -> SearchPage:
    """Look for words and parts of them; where there is nothing, for words that are spelt almost so.

    Raises:
        RejectedError: the cursor is none of a search.
    """
    part = query.q.lower() if len(query.q) >= _SHORTEST_PART else ""
    spelt, part_begin = [[word] for word in words(query.q)], like_literal(part[:_INDEXED_PART])
    page, after = (query.limit, query.offset), _read_cursor(query.cursor)
    wanted = _Wanted(spelt, like_literal(part), part_begin, owner, query.q, page, after)
    hits = await _hits(connection, wanted)
    if not hits[0]["total"] and (respelt := await _stand_ins(connection, wanted.words)):
        wanted = replace(wanted, words=respelt, part="")
        hits = await _hits(connection, wanted)
    total, found = hits[0]["total"], [row for row in hits if row["assessment_id"] is not None]
    more = bool(found) and hits[0]["remaining"] > len(found)
    return SearchPage(
        [record_from_row(row) for row in found],
        total,
        hits[0]["are_all"] and total < MOST_RANKED,
        _write_cursor(found[-1]) if more else None,
        LookedFor.of(wanted.words, part),
    )


def _write_cursor(last: asyncpg.Record) -> str:
    return write_cursor(_SEARCH, last["rank"], last["created_at"], last["assessment_id"])


def _read_cursor(cursor: str | None) -> tuple[list[float] | None, datetime | None, str | None]:
    """The place where the page before ended."""
    if cursor is None:
        return None, None, None
    try:
        kind, ranks, created_at, key = read_cursor(cursor)
        if kind == _SEARCH and len(ranks) == _RANKS and all(0 <= rank <= 1 for rank in ranks):
            return [*map(float, ranks)], instant(created_at), assessment_id(key)
    except (ValueError, TypeError, OverflowError) as error:
        raise wrong_cursor("is not one of a search: begin without a cursor") from error
    raise wrong_cursor("is not one of this search: begin without a cursor")


async def _hits(connection: Connection, wanted: _Wanted) -> Sequence[asyncpg.Record]:
    """A page of states, best first, of as many assessments as it takes to find enough."""
    begun = beginnings_query(wanted.words)
    rows = await connection.fetch(_IN_NEWEST, begun, *wanted.arguments, _NEWEST)
    if _are_enough(rows):
        return rows
    whole = whole_words_query(await _with_endings(connection, wanted.words))
    by_words = _COMMON_WORDS if await _are_common(connection, whole, wanted.owner) else _RARE_WORDS
    rows = await connection.fetch(by_words, whole, *wanted.arguments)
    if _are_enough(rows):
        return rows
    return await connection.fetch(_IN_ALL, begun, *wanted.arguments, wanted.part_begin)


def _are_enough(rows: Sequence[asyncpg.Record]) -> bool:
    return bool(rows[0]["are_all"] or rows[0]["total"] >= _MANY)


async def _are_common(connection: Connection, words: str, owner: str | None) -> bool:
    (plan,) = orjson.loads(await connection.fetchval(QUERIES["how_many_have"], words, owner))
    return bool(plan["Plan"]["Plan Rows"] > _COMMON)


async def _with_endings(connection: Connection, wanted: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each word its spellings and the words of the vocabulary that begin like the first of them."""
    patterns = [f"{like_literal(spelt[0])}%" for spelt in wanted]
    rows = await connection.fetch(QUERIES["words_that_begin"], patterns, _MOST_ENDINGS)
    found = [[row["word"] for row in rows if row["number"] == number] for number in range(1, len(wanted) + 1)]
    # A word twice would be looked for twice.
    return [[*dict.fromkeys([*spelt, *endings])] for spelt, endings in zip(wanted, found, strict=True)]


async def _stand_ins(connection: Connection, wanted: Sequence[Sequence[str]]) -> list[list[str]]:
    """For each word itself and the words of the vocabulary that are most like it; nothing where no word has any."""
    first = [spelt[0] for spelt in wanted]
    rows = await connection.fetch(QUERIES["nearest_words"], first, _STAND_INS)
    if not rows:
        return []
    return [[word, *(row["word"] for row in rows if row["wanted"] == word)] for word in first]
