"""What full-text search knows of an assessment, and what a query asks for: both are words, taken apart in one way.

Postgres' own parser is left out: it takes "web-01.example" for one host name, and twenty times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.events import AssessmentEvent, EventType
from ..models.sealed import MEMBER
from .postgres import Connection
from .queries import QUERIES
from .rows import columns
from .totals import LONGEST_SERVER_NAME, owner_scope

# A longer word is parted: a lexeme has 2 KB at most.
_WORD = re.compile(r"[^\W_]{1,100}")

# A longer text counts by its beginning: Postgres takes a megabyte of words at most, and nobody looks for the rest.
_LONGEST_TEXT = 20_000

# Words that a typing error can be led back to: numbers and the parts of ids would fill the vocabulary without end.
_VOCABULARY_WORD = re.compile(r"[^\W\d_]{3,}")
_LONGEST_KNOWN_WORD = 40

_INDEXED = frozenset(EventType) - {EventType.STARTED, EventType.PROGRESS}

_UNTOLD = ("timestamp", MEMBER)


class SearchRow(NamedTuple):
    """A row of `assessment_search`."""

    assessment_id: str
    owner: str | None
    created_at: Any
    names: str
    document: str


class SearchText(NamedTuple):
    """One field of an assessment that is searched."""

    field: str
    weight: str
    """A to D, as Postgres has them: how much a word here counts."""
    text: str


def is_indexed(event: AssessmentEvent) -> bool:
    """Whether search learns of a change: of beginnings, retries and ends, and not of what happens between."""
    return event.type in _INDEXED


async def put_search_rows(connection: Connection, rows: Sequence[SearchRow]) -> None:
    """Write what search learns of assessments, in this order; of each the last counts."""
    if rows:
        last = {row.assessment_id: row for row in rows}
        await connection.execute(QUERIES["put_search_rows"], *columns(last.values()), vocabulary(rows))


def search_row(record: AssessmentRecord) -> SearchRow:
    """What search learns of an assessment."""
    server = record.request_data.get("serverName")
    names = [record.assessment_id, *([server[:LONGEST_SERVER_NAME]] if isinstance(server, str) else [])]
    document = _document(search_texts(record))
    return SearchRow(record.assessment_id, owner_scope(record), record.created_at, " ".join(names).lower(), document)


def search_texts(record: AssessmentRecord) -> list[SearchText]:
    """The fields of an assessment that are searched, the weightiest first."""
    server = record.request_data.get("serverName")
    result = record.result_data or {}
    statuses = result.get("serverStatuses") or []
    servers = [result.get("missingServers"), [item.get("name") for item in statuses if isinstance(item, dict)]]
    found = [
        SearchText("assessmentId", "A", record.assessment_id),
        SearchText("serverName", "A", server if isinstance(server, str) else ""),
        SearchText("errorMessage", "B", record.error_message or ""),
        SearchText("message", "B", record.message or ""),
        SearchText("resultData", "C", " ".join(_strings(servers))),
        SearchText("requestData", "D", " ".join(_strings(_told(record.request_data)))),
    ]
    return [_shortened(item) if len(item.text) > _LONGEST_TEXT else item for item in found if item.text]


def _told(request: JsonObject) -> JsonObject:
    """What a request tells of itself: when it was made is filtered by, and would be ten words that nobody looks for.

    A cipher text has no words.
    """
    return {name: value for name, value in request.items() if name not in _UNTOLD}


def _shortened(text: SearchText) -> SearchText:
    return text._replace(text=text.text[:_LONGEST_TEXT])


def words(text: str) -> list[str]:
    """The words of a text, in lower case: what is neither letter nor digit parts them."""
    return _WORD.findall(text.lower())


def vocabulary(rows: Iterable[SearchRow]) -> list[str]:
    """The words in documents that a typing error can be led back to, and all words of servers."""
    found, lexemes = set(), set()
    for row in rows:
        lexemes.update(row.document.split())
        found.update(words(row.names[len(row.assessment_id) :]))
    found.update(word for lexeme in lexemes if _VOCABULARY_WORD.fullmatch(word := lexeme.partition(":")[0]))
    return sorted(word for word in found if len(word) <= _LONGEST_KNOWN_WORD)


def beginnings_query(wanted: Iterable[Iterable[str]]) -> str:
    """A `tsquery` for documents that have, for each word, one that begins with one of its spellings."""
    return whole_words_query([f"{word}:*" for word in spelt] for spelt in wanted)


def whole_words_query(wanted: Iterable[Iterable[str]]) -> str:
    """A `tsquery` for documents that have each word in one of its spellings."""
    return " & ".join(f"({' | '.join(spelt)})" for spelt in wanted)


def _document(texts: Iterable[SearchText]) -> str:
    """The `tsvector` of an assessment: each word once, with its best weight."""
    pieces: list[str] = []
    known: set[str] = set()
    for text in texts:
        fresh = set(words(text.text)) - known
        if fresh:
            known |= fresh
            end = f":1{text.weight}"
            pieces.append(f"{end} ".join(fresh) + end)
    return " ".join(pieces)


def _strings(value: Any) -> list[str]:
    """The texts in a JSON value, without the names of its members."""
    found, left = [], [value]
    # Twice as fast as a recursion over patterns; every create and end comes by here.
    while left:
        item = left.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            left.extend(reversed(item.values()))
        elif isinstance(item, list):
            left.extend(reversed(item))
    return found
