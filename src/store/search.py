"""What full-text search knows of an assessment, and what a query asks for: both are words, taken apart in one way.

Postgres' own parser is left out: it takes "web-01.example" for one host name, and twenty times as long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.events import AssessmentEvent, EventType
from ..models.sealed import MEMBER
from .totals import LONGEST_SERVER_NAME, owner_scope
from .writes import Write, write_rows

# A longer word is parted: a lexeme has 2 KB at most.
_LONGEST_WORD = 100
_WORD = re.compile(rf"[^\W_]{{1,{_LONGEST_WORD}}}")

# What becomes of each byte of an ASCII text: letters in lower case, digits as they are, all else is space.
_ASCII_WORDS = bytes(byte if chr(byte).isalnum() else ord(" ") for byte in bytes(range(128)).lower()).ljust(256)

# A longer text counts by its beginning: Postgres takes a megabyte of words at most, and nobody looks for the rest.
_LONGEST_TEXT = 20_000

# Words that a typing error can be led back to: numbers and the parts of ids would fill the vocabulary without end.
_LONGEST_KNOWN_WORD = 40
_VOCABULARY_LEXEME = re.compile(rf"([^\W\d_]{{3,{_LONGEST_KNOWN_WORD}}}):")

_INDEXED = frozenset(EventType) - {EventType.STARTED, EventType.PROGRESS}

# What stands behind each word of a document: at which place it is, which is not asked for, and how weighty.
_ENDS = {weight: f":1{weight} " for weight in "ABCD"}

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


def search_writes(rows: Sequence[SearchRow]) -> list[Write]:
    """What tells search of assessments; of each the last row counts."""
    last = {row.assessment_id: row for row in rows}
    if not last:
        return []
    return [Write("learn_words", [vocabulary(rows)]), *write_rows("put_search_rows", last.values())]


def search_row(record: AssessmentRecord) -> SearchRow:
    """What search learns of an assessment."""
    server = record.request_data.get("serverName")
    names = (
        f"{record.assessment_id} {server[:LONGEST_SERVER_NAME]}" if isinstance(server, str) else record.assessment_id
    )
    return SearchRow(record.assessment_id, owner_scope(record), record.created_at, names.lower(), _document(record))


def search_texts(record: AssessmentRecord) -> list[SearchText]:
    """The fields of an assessment that are searched, the weightiest first."""
    return [SearchText(*found) for found in _found(record)]


def _found(record: AssessmentRecord) -> Iterator[tuple[str, str, str]]:
    """Field, weight and text of what has any."""
    request, result = record.request_data, record.result_data
    yield "assessmentId", "A", record.assessment_id
    server = request.get("serverName")
    if server and isinstance(server, str):
        yield "serverName", "A", server[:_LONGEST_TEXT]
    if record.error_message:
        yield "errorMessage", "B", record.error_message[:_LONGEST_TEXT]
    if record.message:
        yield "message", "B", record.message[:_LONGEST_TEXT]
    if result and (servers := _strings(_servers(result))):
        yield "resultData", "C", " ".join(servers)[:_LONGEST_TEXT]
    if told := _strings(_told(request)):
        yield "requestData", "D", " ".join(told)[:_LONGEST_TEXT]


def _servers(result: JsonObject) -> list[Any]:
    """The servers that a result names."""
    statuses = result.get("serverStatuses") or []
    return [result.get("missingServers"), [item.get("name") for item in statuses if isinstance(item, dict)]]


def _told(request: JsonObject) -> list[Any]:
    """What a request tells of itself: when it was made is filtered by, and would be ten words that nobody looks for.

    A cipher text has no words.
    """
    return [value for name, value in request.items() if name not in _UNTOLD]


def words(text: str) -> list[str]:
    """The words of a text, in lower case: what is neither letter nor digit parts them."""
    if text.isascii():
        # Most texts are, and a table takes a quarter of the time of a pattern.
        found = text.encode().translate(_ASCII_WORDS).decode().split()
        if len(text) <= _LONGEST_WORD or max(map(len, found), default=0) <= _LONGEST_WORD:
            return found
    return _WORD.findall(text.lower())


def vocabulary(rows: Iterable[SearchRow]) -> list[str]:
    """The words in documents that a typing error can be led back to, and all words of servers."""
    lexemes: set[str] = set()
    servers: set[str] = set()
    for row in rows:
        lexemes.update(row.document.split())
        servers.update(words(row.names[len(row.assessment_id) :]))
    found = {lexeme[1] for lexeme in map(_VOCABULARY_LEXEME.match, lexemes) if lexeme}
    return sorted(found.union(word for word in servers if len(word) <= _LONGEST_KNOWN_WORD))


def beginnings_query(wanted: Iterable[Iterable[str]]) -> str:
    """A `tsquery` for documents that have, for each word, one that begins with one of its spellings."""
    return whole_words_query([f"{word}:*" for word in spelt] for spelt in wanted)


def whole_words_query(wanted: Iterable[Iterable[str]]) -> str:
    """A `tsquery` for documents that have each word in one of its spellings."""
    return " & ".join(f"({' | '.join(spelt)})" for spelt in wanted)


def _document(record: AssessmentRecord) -> str:
    """The `tsvector` of an assessment: each word once, with its best weight."""
    ends: dict[str, str] = {}
    for _, weight, text in reversed([*_found(record)]):
        ends.update(dict.fromkeys(words(text), _ENDS[weight]))
    return "".join(chain.from_iterable(ends.items()))


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
