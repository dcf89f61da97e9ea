"""When and how often the client asks again, how it goes through pages, and what its reads ask to have seen."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.waiting import DEADLINE
from tests.unit.api_fake import STATE, FakeApi, event, free_port, refusal, serving, sse

from assessmentstore.client import AsyncClient, Client, ClientError, Filters, ListOptions, Reset, retries
from assessmentstore.client.queries import query_items
from assessmentstore.client.retries import Patience, pauses, retry_after
from assessmentstore.models.filters import AssessmentFilters, ListQuery, Page


def test_pauses_are_spread_below_a_ceiling_that_doubles() -> None:
    runs = [[*islice(pauses(0.1, 1.0), 8)] for _ in range(200)]

    longest = [max(pause) for pause in zip(*runs, strict=True)]
    shortest = [min(pause) for pause in zip(*runs, strict=True)]
    ceilings = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert all(ceiling * 0.8 < pause <= ceiling for pause, ceiling in zip(longest, ceilings, strict=True))
    assert all(pause < ceiling * 0.2 for pause, ceiling in zip(shortest, ceilings, strict=True))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7), ("0", 0), ("-1", None), ("soon", None), ("1.5", None), ("", None), ("9" * 400, 3600)],
)
def test_retry_after_is_seconds_or_nothing(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    assert retry_after(format_datetime(now + timedelta(seconds=9), usegmt=True), now) == 9
    assert retry_after(format_datetime(now - timedelta(days=1), usegmt=True), now) == 0
    assert retry_after(format_datetime(now + timedelta(days=9), usegmt=True), now) == 3600


@given(st.floats(0, 100), st.floats(0, 100))
def test_what_the_server_asks_for_is_waited_for_unless_patience_is_shorter(asked: float, seconds: float) -> None:
    patience, error = Patience(seconds), ClientError(503, "X", "x", retry_after=asked)

    try:
        pause = patience.pause_after(error)
    except ClientError as given_up:
        assert given_up is error
        assert asked + retries._SPREAD >= seconds
    else:
        assert asked <= pause <= min(asked + retries._SPREAD, seconds)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_busy_answers_are_asked_again_with_growing_pauses(status: int) -> None:
    api = FakeApi()
    api.will_answer(refusal("BUSY"), status=status)
    api.will_answer("<html>", status=status)
    api.will_answer(STATE)
    async with serving(api) as url, AsyncClient(url, "some.jwt", patience=DEADLINE) as client:
        assert (await client.get("a-1")).version == 2

    assert len(api.asked) == 3


async def test_retry_after_is_honoured() -> None:
    api = FakeApi()
    api.will_answer(refusal("RATE_LIMITED"), status=429, Retry_After="1")
    api.will_answer(STATE)
    async with serving(api) as url, AsyncClient(url, "some.jwt") as client:
        started = time.monotonic()
        async with asyncio.timeout(DEADLINE):
            await client.get("a-1")

    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
async def test_answers_for_good_are_not_asked_again(status: int) -> None:
    api = FakeApi()
    api.will_answer(refusal("NO"), status=status)
    async with serving(api) as url, AsyncClient(url, "some.jwt") as client:
        with pytest.raises(ClientError):
            await client.start("a-1")

    assert len(api.asked) == 1


async def test_a_token_may_be_made_anew_for_each_request() -> None:
    api, tokens = FakeApi(), iter(["first", "second"])
    api.will_answer(STATE)
    async with serving(api) as url, AsyncClient(url, lambda: next(tokens)) as client:
        await client.get("a-1")
        await client.get("a-1")

    assert [asked.headers["Authorization"] for asked in api.asked] == ["Bearer first", "Bearer second"]


async def test_reads_ask_for_all_that_was_written_before() -> None:
    api = FakeApi()
    for token in ("p1.0-5", "p1.0-3_2-1", "x9.later"):
        api.will_answer(STATE, Consistency_Token=token)
    api.will_answer(STATE)
    async with serving(api) as url, AsyncClient(url, "some.jwt") as client:
        for _ in range(3):
            await client.start("a-1")
        await client.get("a-1")

    assert "Consistency-Token" not in api.asked[0].headers
    assert api.asked[-1].headers["Consistency-Token"] == "p1.0-5_2-1,x9.later"


async def test_reads_ask_for_nothing_where_that_is_not_wanted() -> None:
    api = FakeApi()
    api.will_answer(STATE, Consistency_Token="p1.0-5")
    async with serving(api) as url, AsyncClient(url, "some.jwt", read_your_writes=False) as client:
        await client.start("a-1")
        await client.get("a-1")

    assert "Consistency-Token" not in api.asked[-1].headers


async def test_pages_are_followed_through_a_restart_of_the_server() -> None:
    port, before, after = free_port(), FakeApi(), FakeApi()
    before.will_answer({"assessments": [STATE], "total": 2, "nextCursor": "c-2"})
    after.will_answer({"assessments": [STATE | {"assessmentId": "a-2"}], "total": 2, "nextCursor": None})
    async with AsyncClient(f"http://127.0.0.1:{port}", "some.jwt", patience=30) as client:
        pages = client.iterate(state=["failed", "pending"], created_after=datetime(2026, 1, 2, tzinfo=UTC))
        async with serving(before, port):
            first = await anext(pages)
        second = pages.__anext__()
        async with serving(after, port):
            assert (first.assessment_id, (await second).assessment_id) == ("a-1", "a-2")
            assert [record async for record in pages] == []

    assert before.asked[0].query["createdAfter"] == "2026-01-02T00:00:00Z"
    assert after.asked[0].query["cursor"] == "c-2"


async def test_a_cleanup_goes_on_with_the_same_key_while_it_gets_on() -> None:
    api = FakeApi()
    for deleted in (10, 20, 20):
        api.will_answer(refusal("SERVICE_UNAVAILABLE", deleted=deleted), status=503, Retry_After="60")
    async with serving(api) as url, AsyncClient(url, "some.jwt") as client:
        with pytest.raises(ClientError, match="SERVICE_UNAVAILABLE"):
            await client.cleanup(30)

    assert len({asked.headers["Idempotency-Key"] for asked in api.asked}) == 1
    assert len(api.asked) == 3


def test_the_options_of_the_client_are_those_of_the_api() -> None:
    paging = set(Page.model_fields)

    assert set(get_type_hints(Filters)) == set(AssessmentFilters.model_fields)
    assert set(get_type_hints(ListOptions)) == set(ListQuery.model_fields) - paging


def test_a_query_repeats_lists_and_leaves_out_what_is_not_there() -> None:
    items = query_items({"state": ("failed", "pending"), "server_name": "web-*", "limit": None, "min_priority": 3})

    assert items == (("state", "failed"), ("state", "pending"), ("serverName", "web-*"), ("minPriority", "3"))
    assert ListQuery.model_validate({"state": ["failed", "pending"], **dict(items[2:])}).min_priority == 3


async def test_the_synchronous_client_waits_iterates_and_raises() -> None:
    """It has a loop in a thread of its own, so that it can be used from within another one as here."""
    api = FakeApi()
    api.will_answer({"assessments": [STATE], "total": 2, "nextCursor": "c-2"})
    api.will_answer({"assessments": [STATE], "total": 2, "nextCursor": None})
    api.will_answer(refusal("ASSESSMENT_NOT_FOUND", "no such"), status=404)

    def use(url: str) -> list[int]:
        with Client(url, "some.jwt") as client:
            versions = [record.version for record in client.iterate(page_size=1)]
            with pytest.raises(ClientError, match="no such"):
                client.get("a-1")
        return versions

    async with serving(api) as url:
        assert await asyncio.to_thread(use, url) == [2, 2]


async def test_an_iteration_of_the_synchronous_client_may_be_left_early() -> None:
    api = FakeApi()
    api.will_stream(b"id: p.1\n\n", sse(event(1), "p.2"), then="stay")

    def use(url: str) -> int:
        with Client(url, "some.jwt") as client, client.events() as stream:
            for item in stream:
                assert not isinstance(item, Reset)
                return item.version
        return 0

    async with serving(api) as url:
        assert await asyncio.to_thread(use, url) == 1
