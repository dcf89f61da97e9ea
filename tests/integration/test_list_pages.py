"""Pages of lists in every order, beside a plain evaluation: however a page is found, it is the same page."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from bench.fill import store
from tests.integration.test_lists import matches

from assessmentstore.models.assessment import FINAL_STATES, AssessmentRecord, AssessmentState
from assessmentstore.models.filters import ListQuery
from assessmentstore.settings import Settings
from assessmentstore.store import lists
from assessmentstore.store.lists import list_page
from assessmentstore.store.postgres import Connection, open_pools

COUNT, FEW = 360, 50
OWNERS = ["ann", "bob"]
NEWEST = datetime(2026, 3, 1, tzinfo=UTC)
ORDERS = list(product(["createdAt", "updatedAt", "priority", "progress"], ["asc", "desc"]))
WORDS: dict[str, list[Any]] = {
    "state": [["completed"], ["processing"], ["pending", "failed"]],
    "type": [["security"], ["compliance", "health"]],
    "source": ["installer", "compliance"],
    "serverName": ["web-1", "web-*", "*-2", "*", "nothing"],
}
TIMES = ["createdAfter", "createdBefore", "completedAfter", "completedBefore"]
NUMBERS: dict[str, list[int]] = {
    "minPriority": [8, 10],
    "maxPriority": [2, 5],
    "minProgress": [50, 100],
    "maxProgress": [0, 50],
}


def some_assessments(dice: random.Random) -> Iterator[AssessmentRecord]:
    """Many that are alike and the newest, before them some of all kinds, with times as imports may have them."""
    for number in range(COUNT):
        is_alike = number >= COUNT // 2
        state = AssessmentState("completed" if is_alike else dice.choice(list(AssessmentState)))
        created = NEWEST - timedelta(hours=(COUNT - number) // 6)
        updated = created + timedelta(minutes=1 if is_alike else dice.choice([0, 1, 60, 60, 60, 61, 3000]))
        yield AssessmentRecord(
            assessment_id=str(UUID(int=dice.getrandbits(128), version=4)),
            state=state,
            version=1,
            progress=100 if state == "completed" else dice.choice([0, 50, 99, 100]),
            created_at=created,
            updated_at=updated,
            completed_at=dice.choice([updated, updated, created - timedelta(days=1), updated + timedelta(days=1)])
            if state in FINAL_STATES
            else None,
            request_data={
                "assessmentType": "compliance" if is_alike else dice.choice(["compliance", "health", "security"]),
                "options": {},
                "priority": 5 if is_alike else dice.randint(1, 10),
                "userId": dice.choice(OWNERS),
                **({"source": dice.choice(["installer", "compliance"])} if dice.random() < 0.8 else {}),
                "serverName": "db" if is_alike else dice.choice(["web-1", "web-2", "mail-2"]),
            },
        )


def all_filters(dice: random.Random) -> Iterator[dict[str, Any]]:
    """None, each alone, and some together."""
    times = [(NEWEST - timedelta(hours=hours)).isoformat() for hours in (10, 30.5, 40.5, 50.5)]
    singles = [(name, value) for name, values in (WORDS | NUMBERS).items() for value in values]
    singles += product(TIMES, times)
    yield {}
    for name, value in singles:
        yield {name: value}
    for _ in range(30):
        yield dict(dice.sample(singles, dice.randint(2, 4)))


async def walk(connection: Connection, query: ListQuery, owner: str | None) -> list[str]:
    """The ids of all pages, one after the other."""
    keys: list[str] = []
    while True:
        page = await list_page(connection, query, owner)
        keys += [record.assessment_id for record in page.assessments]
        if page.next_cursor is None:
            return keys
        query = query.model_copy(update={"cursor": page.next_cursor})


async def test_every_page_is_that_of_a_plain_evaluation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """With so small limits that pages are found in every way."""
    for name, value in {"_MOST_PASSED": 5, "MOST_COUNTED": FEW, "_FEW": 1}.items():
        monkeypatch.setattr(lists, name, value)
    dice = random.Random(5)
    records = list(some_assessments(dice))
    await store(settings.database_url, records, COUNT)

    async with open_pools(settings, application="test") as pools, pools.read.acquire() as connection:
        for filters in all_filters(dice):
            owner = dice.choice([None, None, None, *OWNERS])
            found = [record for record in records if matches(record, filters, owner)]
            for sort_by, sort_order in ORDERS if len(filters) < 2 else dice.sample(ORDERS, 4):
                name = {"createdAt": "created_at", "updatedAt": "updated_at"}.get(sort_by, sort_by)
                found.sort(key=lambda one: (one.request_data.get(name) or getattr(one, name), one.assessment_id))
                expected = [one.assessment_id for one in (found if sort_order == "asc" else reversed(found))]
                limit, offset = dice.choice([1 + len(found) // 3, 7, 100]), dice.choice([3, 30])
                asked = filters | {"sortBy": sort_by, "sortOrder": sort_order, "limit": max(limit, 4)}
                query, told = ListQuery.model_validate(asked), (asked, owner)
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    page = await list_page(connection, query.model_copy(update={"offset": offset}), owner)
                    assert await walk(connection, query, owner) == expected, told
                skipped = [record.assessment_id for record in page.assessments]
                assert skipped == expected[offset : offset + query.limit], told
                assert page.total in ({len(expected)} if page.total_is_exact else {FEW}), told
