"""Keys are changed: what is kept besides states and events is encrypted anew, too."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from aiohttp import ClientSession
from pydantic import SecretStr
from tests.harness.streams import serving_streams

from assessmentstore.settings import Settings
from assessmentstore.store.divergences import Divergences
from assessmentstore.store.encryption import KeyRing, generate
from assessmentstore.store.legacy_imports import LegacyImports, Quarantined
from assessmentstore.store.postgres import Pool, Pools
from assessmentstore.store.rotation import Rotation
from assessmentstore.web.auth import Role

K1, K2 = generate("k1"), generate("k2")
OLD, BOTH, NEW = KeyRing.parse(K1), KeyRing.parse(f"{K2},{K1}"), KeyRing.parse(K2)

USER = "ann\u2028of the moon"
REPORT = {"state": "completed", "result": {"overallScore": 7}}


@pytest.fixture
def pool(pools: Pools) -> Pool:
    return pools.write


async def register(settings: Settings, key: str, keys: str | None = None) -> Any:
    """The answer to who registers a webhook, at once or again."""
    known = settings.model_copy(update={"encryption_keys": SecretStr(keys) if keys else None})
    body = {"url": "https://example.com/", "assessmentId": "of nobody"}
    async with serving_streams(known) as streams, ClientSession() as session:
        headers = {"Authorization": f"Bearer {streams.token(USER, Role.USER)}", "Idempotency-Key": key}
        async with session.post(f"{streams.url}/webhooks", json=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            return await answer.json()


async def rests(pool: Pool) -> str:
    """All that rests in the tables that have something sealed, webhooks apart."""
    queries = ("plan::text || coalesce(answer::text, '') FROM batch_requests",
               "value::text FROM legacy_quarantine", "record::text FROM legacy_reports")  # fmt: skip
    return "\n".join([row[0] for query in queries for row in await pool.fetch(f"SELECT {query}")])


async def test_what_answers_repeats_and_what_the_old_system_said_are_encrypted_anew(
    settings: Settings, pool: Pool
) -> None:
    before, made = await register(settings, "before"), await register(settings, "sealed", K1)
    await Divergences(pool, OLD).note_reports({"old-1": REPORT})
    lines = [Quarantined("old\x002", "export:1", "no", b'{"secret": 1}'), Quarantined(None, "export:2", "no", b"?")]
    await LegacyImports(pool, OLD).quarantine(lines)
    assert before["secret"] in await rests(pool)

    told: list[str] = []
    done = await Rotation(pool, BOTH).run(told.append)

    assert (done.unreadable, done.passed_over) == (0, 0), told
    left = await rests(pool)
    assert ('"k1"' in left, before["secret"] in left, left.count("$encrypted")) == (False, False, 7)
    counts = await Rotation(pool, NEW).count()
    assert {name: count for name, count in counts.items() if name[0] != "webhooks"} == {
        ("requests", "k2"): 4, ("quarantine", "k2"): 2, ("reports", "k2"): 1
    }  # fmt: skip
    assert await register(settings, "before", f"{K2},{K1}") == before
    assert await register(settings, "sealed", f"{K2},{K1}") == made
    async with Divergences(pool, NEW).due(0, 10) as comparing:
        assert [(report.assessment_id, report.record) for report in comparing.reports] == [("old-1", REPORT)]


async def test_what_cannot_be_opened_stays_and_is_told(settings: Settings, pool: Pool) -> None:
    await register(settings, "sealed", K1)
    await Divergences(pool, OLD).note_reports({"old-1": REPORT})
    was = await rests(pool)

    told: list[str] = []
    done = await Rotation(pool, NEW).run(told.append)

    assert (done.resealed, done.unreadable, await rests(pool)) == (0, 3, was)
    words = "The payload is encrypted under the key 'k1', which is not configured here"
    assert f"reports of old-1: {words}" in told
    assert f"requests of {USER}, sealed: {words}" in told


async def test_a_report_that_cannot_be_opened_keeps_no_other_from_being_compared(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    await Divergences(pool, OLD).note_reports({"old-1": REPORT})
    await Divergences(pool, NEW).note_reports({"old-2": REPORT})

    found = []
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            async with Divergences(pool, NEW).due(0, 10) as comparing:
                found.append([report.assessment_id for report in comparing.reports])

    assert found == [["old-2"], ["old-2"]]
    (told,) = [record.message for record in caplog.records if "old-1" in record.message]
    assert told.startswith("What the old system says of old-1 is not compared: The payload is encrypted under the key")
