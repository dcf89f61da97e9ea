"""Refusals on their way to the audit, under floods and outages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from tests.harness.waiting import DEADLINE, eventually

from assessmentstore.models.errors import UnavailableError
from assessmentstore.store.refusals import Refusal
from assessmentstore.web import refusals
from assessmentstore.web.refusals import Refusals


class FakeStore:
    """Keeps refusals in memory, and fails or hangs as it is told."""

    def __init__(self) -> None:
        self.kept: list[Refusal] = []
        self.failures = 0
        self.attempts = 0
        self.old = 2500
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, refusals: Sequence[Refusal]) -> None:
        self.attempts += 1
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise UnavailableError("Postgres does not answer")
        self.kept += refusals

    async def forget(self, before: datetime, at_most: int) -> int:
        assert before < datetime.now(UTC)
        deleted = min(self.old, at_most)
        self.old -= deleted
        return deleted


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_PAUSE_SECONDS", 0.0)


def refusal() -> Refusal:
    return Refusal(
        id=uuid4(),
        at=datetime.now(UTC),
        user_id="ann",
        roles="USER",
        method="GET",
        route="/assessments/{id}",
        assessment_id="a-1",
        status=403,
        code="FORBIDDEN",
        message="no",
        remote_address="127.0.0.1",
        user_agent=None,
        trace_id="0" * 32,
    )


def lost() -> float:
    return REGISTRY.get_sample_value("assessmentstore_lost_refusals_total") or 0.0


async def test_refusals_are_written_in_the_order_in_which_they_came() -> None:
    store = FakeStore()
    noted, many = Refusals(store), [refusal() for _ in range(1234)]
    task = asyncio.create_task(noted.run())
    for item in many:
        noted.note(item)

    async def written() -> bool:
        return len(store.kept) == len(many)

    await eventually(written, "all refusals")
    task.cancel()
    assert store.kept == many


async def test_an_outage_of_postgres_loses_none() -> None:
    store, item = FakeStore(), refusal()
    store.failures = 3
    noted = Refusals(store)
    task = asyncio.create_task(noted.run())
    noted.note(item)

    async def written() -> bool:
        return store.kept == [item]

    await eventually(written, "the refusal")
    task.cancel()
    assert store.attempts == 4


async def test_what_is_more_than_memory_holds_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    store, before = FakeStore(), lost()
    noted, item = Refusals(store), refusal()
    for _ in range(refusals._MOST_HELD + 7):
        noted.note(item)

    with caplog.at_level(logging.WARNING):
        await noted.close()

    assert len(store.kept) == refusals._MOST_HELD
    assert lost() == before + 7
    assert "7 refusals came too fast" in caplog.text


async def test_a_stop_waits_for_a_postgres_that_hangs_only_so_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refusals, "_LAST_SECONDS", 0.1)
    store, before = FakeStore(), lost()
    store.open.clear()
    noted = Refusals(store)
    noted.note(refusal())

    await asyncio.wait_for(noted.close(), DEADLINE)

    assert lost() == before + 1
    assert "1 refusals are not in the audit" in caplog.text


async def test_old_ones_are_forgotten_a_little_at_a_time() -> None:
    store = FakeStore()
    noted = Refusals(store)
    task = asyncio.create_task(noted.run())
    noted.note(refusal())

    async def forgotten() -> bool:
        return store.old == 0

    await eventually(forgotten, "old refusals are gone")
    task.cancel()
