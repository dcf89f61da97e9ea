"""What search knows of an assessment, and what a query makes of a text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.events import AssessmentEvent, EventType, event_class
from assessmentstore.store.search import beginnings_query, is_indexed, search_row, vocabulary, words

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(state: str = "pending", request: dict[str, Any] | None = None, **changes: Any) -> AssessmentRecord:
    values: dict[str, Any] = {"assessment_id": "A-1", "state": AssessmentState(state), "version": 1, "created_at": NOW}
    return AssessmentRecord(**values | {"updated_at": NOW, "request_data": request or {}} | changes)


def test_a_name_is_taken_apart_into_its_words() -> None:
    assert words("Web-01.example_Host/ä") == ["web", "01", "example", "host", "ä"]


@given(st.text() | st.text(st.characters(max_codepoint=127)) | st.text("aZ9-", min_size=90))
def test_words_are_runs_of_letters_and_digits_in_whatever_script(text: str) -> None:
    assert words(text) == re.findall(r"[^\W_]{1,100}", text.lower())


@given(st.text())
def test_a_query_has_nothing_but_words(text: str) -> None:
    """Whatever is typed, Postgres reads it as words: there is no way to write an operator or a quote."""
    query = beginnings_query([[word] for word in words(text)])

    assert re.fullmatch(r"|\([^\W_]+:\*\)( & \([^\W_]+:\*\))*", query)


def test_each_word_has_the_weight_of_the_best_place_it_stands_in() -> None:
    request = {"serverName": "gateway", "options": {"customOptions": {"note": "the gateway", "deep": [{"x": "leaf"}]}}}

    row = search_row(record("failed", request, error_message="gateway is away", message="looking"))

    assert row.names == "a-1 gateway"
    assert set(row.document.split()) == {
        "a:1A", "1:1A", "gateway:1A", "is:1B", "away:1B", "looking:1B", "the:1D", "leaf:1D",
    }  # fmt: skip


def test_servers_of_a_result_are_found_and_names_of_members_are_not() -> None:
    result = {"serverStatuses": [{"name": "redis"}, {"status": "online"}, "junk"], "missingServers": ["kafka"]}

    row = search_row(record("completed", result_data=result))

    assert {"redis:1C", "kafka:1C"} <= set(row.document.split())
    assert "serverstatuses" not in row.document


def test_the_vocabulary_has_words_and_neither_numbers_nor_parts_of_ids() -> None:
    row = search_row(record(message="looked at a7e4c3, 01 ok: certificate", request={"serverName": "web-02"}))

    assert vocabulary([row]) == ["02", "certificate", "looked", "web"]


def test_search_learns_of_beginnings_retries_and_ends() -> None:
    def event(kind: EventType) -> AssessmentEvent:
        # Nothing but the kind is looked at.
        return event_class(kind).model_construct(type=kind)

    learned = {kind for kind in EventType if is_indexed(event(kind))}

    assert learned == set(EventType) - {EventType.STARTED, EventType.PROGRESS}


@given(st.lists(st.text() | st.from_regex(r"[a-zé²]{1,50}", fullmatch=True), max_size=6))
def test_the_vocabulary_is_of_all_words_of_letters_that_are_neither_short_nor_long(texts: list[str]) -> None:
    rows = [search_row(record(message=text)) for text in texts]

    known = {word for text in texts for word in words(text) if re.fullmatch(r"[^\W\d_]{3,40}", word)}
    assert vocabulary(rows) == sorted(known)
