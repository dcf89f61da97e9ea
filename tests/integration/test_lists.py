"""Lists, search and statistics on a real Postgres, beside a model that goes through all assessments one by one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr
from tests.harness.installation import Installation

from assessmentstore.agents.fold import Decoded, fold
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.commands import COMMAND_DATA, Command, CommandHeader, CommandType, fingerprint
from assessmentstore.settings import Settings
from assessmentstore.store import searches
from assessmentstore.store.batch import BatchStore
from assessmentstore.store.cursors import write_cursor
from assessmentstore.store.postgres import Pools, record_from_row
from assessmentstore.web.app import build_app
from assessmentstore.web.auth import Role, mint_token

Client = TestClient[web.Request, web.Application]

SECRET = "a-secret-that-is-long-enough-for-hs256"
OWNERS, SERVERS = ["ann", "bob"], ["web-1", "web-10", "db_1", "Mail 1"]
COUNT = 150


class Scribe:
    """Applies commands as a lane does."""

    def __init__(self, store: BatchStore, topic: str) -> None:
        self._store, self._topic = store, topic
        self._offset = 0
        self.now: datetime | None = None
        """When it applies; otherwise by the clock of Postgres."""

    async def apply(self, *commands: tuple[str, str, str, Mapping[str, Any]]) -> None:
        """Commit one batch of (kind, assessment, user, data)."""
        claim = await self._store.claim(self._topic, 0, owner="test", epoch=None)
        batch = [self._decoded(*item) for item in commands]
        async with self._store.transaction({claim: self._offset}) as transaction:
            states = await transaction.load({decoded.header.assessment_id for decoded in batch if decoded.header})
            folded = fold(batch, states, {}, self.now or transaction.now)
            await transaction.write({0: folded.changes})

    def _decoded(self, kind: str, assessment: str, user: str, data: Mapping[str, Any]) -> Decoded:
        header = CommandHeader(
            id=f"c{self._offset}",
            type=CommandType(f"assessment.{kind}"),
            assessment_id=assessment,
            user_id=user,
            fingerprint=fingerprint(kind, assessment, user, dict(data)),
        )
        self._offset += 1
        command = Command(header=header, data=COMMAND_DATA[header.type].model_validate(data))
        return Decoded(self._offset - 1, 0, command)


@pytest.fixture
def scribe(pools: Pools, settings: Settings) -> Scribe:
    return Scribe(BatchStore(pools.write), settings.commands_topic)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    server = TestServer(build_app(settings.model_copy(update={"jwt_secret": SecretStr(SECRET)})))
    async with TestClient(server) as client:
        yield client


def token(user: str, role: Role = Role.USER) -> dict[str, str]:
    return {"Authorization": f"Bearer {mint_token(SECRET, user, [role], timedelta(hours=1))}"}


async def get(client: Client, path: str, *, user: str = "root", role: Role = Role.ADMIN, **query: Any) -> Any:
    answer = await client.get(f"{path}?{urlencode(query, doseq=True)}", headers=token(user, role))
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def fill(scribe: Scribe, dice: random.Random, count: int = COUNT) -> None:
    """Lives of assessments, as far as the dice lead them."""
    for number in range(count):
        request = {
            "assessmentType": dice.choice(["compliance", "health", "security"]),
            "options": {},
            "priority": dice.randint(1, 10),
            **({"source": dice.choice(["installer", "compliance"])} if dice.random() < 0.8 else {}),
            **({"serverName": dice.choice(SERVERS)} if dice.random() < 0.9 else {}),
        }
        key, owner = f"a-{number:03}", dice.choice(OWNERS)
        lives: list[list[tuple[str, Mapping[str, Any]]]] = [
            [],
            [("cancel", {})],
            [("start", {}), ("progress", {"progress": dice.randrange(101)})],
            [("start", {}), ("complete", {"result": {}})],
            [("start", {}), ("fail", {"error": "it broke"})],
            [("start", {}), ("fail", {"error": "it broke"}), ("retry", {})],
        ]
        for kind, data in [("create", request), *dice.choice(lives)]:
            await scribe.apply((kind, key, owner, data))


async def stored(settings: Settings) -> list[AssessmentRecord]:
    async with Installation(settings).database() as database:
        return [record_from_row(row) for row in await database.fetch("SELECT * FROM assessment_states")]


def matches(record: AssessmentRecord, filters: Mapping[str, Any], owner: str | None = None) -> bool:
    """The filters once more, in the plainest way."""
    request, value = record.request_data, filters.get
    times = {"created": record.created_at, "completed": record.completed_at}
    numbers = {"Priority": request["priority"], "Progress": record.progress}
    checks = [
        owner is None or record.owner == owner,
        "state" not in filters or record.state in value("state", []),
        "type" not in filters or request["assessmentType"] in value("type", []),
        "source" not in filters or request.get("source") == value("source"),
        "serverName" not in filters or fnmatchcase(str(request.get("serverName", "")), value("serverName", "")),
    ]
    for name, at in times.items():
        after, before = value(f"{name}After"), value(f"{name}Before")
        checks.append(after is None or (at is not None and at >= datetime.fromisoformat(after)))
        checks.append(before is None or (at is not None and at < datetime.fromisoformat(before)))
    for name, number in numbers.items():
        checks.append(number >= value(f"min{name}", 0))
        checks.append(number <= value(f"max{name}", 100))
    return all(checks)


def some_filters(dice: random.Random, records: list[AssessmentRecord]) -> dict[str, Any]:
    """A few filters that fit some of the assessments."""
    some = dice.choice(records)
    at = [record.created_at.isoformat() for record in dice.sample(records, 2)]
    ended = [record.completed_at.isoformat() for record in records if record.completed_at]
    choices: dict[str, Any] = {
        "state": dice.sample(["pending", "processing", "completed", "failed", "cancelled"], dice.randint(1, 3)),
        "type": dice.sample(["compliance", "health", "security"], dice.randint(1, 2)),
        "source": dice.choice(["installer", "compliance"]),
        "serverName": dice.choice([*SERVERS, "web-*", "web-1?", "*1", "*_1"]),
        "createdAfter": min(at),
        "createdBefore": max(at),
        "completedAfter": dice.choice(ended),
        "completedBefore": dice.choice(ended),
        "minPriority": dice.randint(1, 5),
        "maxPriority": dice.randint(5, 10),
        "minProgress": some.progress,
        "maxProgress": dice.randint(some.progress, 100),
    }
    return {name: choices[name] for name in dice.sample(sorted(choices), dice.randint(0, 3))}


async def test_lists_and_statistics_are_what_the_filters_let_through(
    scribe: Scribe, client: Client, settings: Settings
) -> None:
    dice = random.Random(4)
    await fill(scribe, dice)
    records = await stored(settings)

    for _ in range(120):
        filters, owner = some_filters(dice, records), dice.choice([None, *OWNERS])
        who: dict[str, Any] = {"user": owner, "role": Role.USER} if owner else {}
        expected = [record for record in records if matches(record, filters, owner)]
        listed = await get(client, "/assessments", **who, **filters, limit=1000)
        stats = await get(client, "/assessments/stats", **who, **filters)

        assert {item["assessmentId"] for item in listed["assessments"]} == {item.assessment_id for item in expected}
        assert (listed["total"], listed["nextCursor"]) == (len(expected), None), filters
        assert summary(stats) == model_statistics(expected), filters


def summary(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics without the zeros and the times of servers."""
    nonzero = {name: {key: n for key, n in stats[name].items() if n} for name in ("byState", "byType", "byPriority")}
    servers = {item["serverName"]: item["assessmentCount"] for item in stats["topServers"]}
    rates = {kind: round(rate, 9) for kind, rate in stats["successRateByType"].items()}
    return {
        "total": stats["total"],
        **nonzero,
        "successRate": round(stats["successRate"], 9),
        "averages": stats["averageProcessingTimeByState"],
        "rates": rates,
        "days": [(day["date"], day["count"], day["completed"], day["failed"]) for day in stats["dailyCounts"]],
        "servers": servers,
    }


def model_statistics(records: list[AssessmentRecord]) -> dict[str, Any]:
    """The statistics of all assessments, counted one by one."""
    completed = [record for record in records if record.state == "completed"]
    kinds = Counter(record.request_data["assessmentType"] for record in records)
    good = Counter(record.request_data["assessmentType"] for record in completed)
    days = sorted({record.created_at.date() for record in records})
    timed = {state: _durations(records, state) for state in ("cancelled", "completed", "failed")}
    return {
        "total": len(records),
        "byState": dict(Counter(str(record.state) for record in records)),
        "byType": dict(kinds),
        "byPriority": dict(Counter(str(record.request_data["priority"]) for record in records)),
        "successRate": round(len(completed) / len(records), 9) if records else 0,
        "averages": {state: round(sum(found) / len(found)) for state, found in timed.items() if found},
        "rates": {kind: round(good[kind] / count, 9) for kind, count in kinds.items()},
        "days": [
            (
                str(day),
                *(sum(of_day(record, day, state) for record in records) for state in ("", "completed", "failed")),
            )
            for day in days
        ],
        "servers": dict(Counter(name for record in records if (name := record.request_data.get("serverName")))),
    }


def of_day(record: AssessmentRecord, day: object, state: str) -> bool:
    return record.created_at.date() == day and state in ("", record.state)


def _durations(records: Iterable[AssessmentRecord], state: str) -> list[int]:
    return [record.duration for record in records if record.state == state and record.duration is not None]


@pytest.mark.parametrize("sort_by", ["createdAt", "updatedAt", "priority", "progress"])
async def test_pages_have_every_assessment_once_in_order(
    scribe: Scribe, client: Client, settings: Settings, sort_by: str
) -> None:
    await fill(scribe, random.Random(sort_by), 40)
    whole = await get(client, "/assessments", sortBy=sort_by, sortOrder="asc", limit=1000)

    for order in ("asc", "desc"):
        pages = [page async for page in all_pages(client, sortBy=sort_by, sortOrder=order, limit=7)]
        keys = [item["assessmentId"] for page in pages for item in page["assessments"]]
        ascending = keys if order == "asc" else keys[::-1]
        assert ascending == [item["assessmentId"] for item in whole["assessments"]]
        assert {page["total"] for page in pages} == {40}

    value = "priority" if sort_by == "priority" else sort_by
    values = [(item["requestData"] if value == "priority" else item)[value] for item in whole["assessments"]]
    assert values == sorted(values)


async def all_pages(client: Client, **query: Any) -> AsyncIterator[Any]:
    cursor: dict[str, Any] = {}
    while True:
        page = await get(client, "/assessments", **query, **cursor)
        yield page
        if page["nextCursor"] is None:
            return
        cursor = {"cursor": page["nextCursor"]}


async def test_a_walk_by_cursor_neither_skips_nor_repeats_while_rows_change(scribe: Scribe, client: Client) -> None:
    dice = random.Random(5)
    await fill(scribe, dice, 40)
    seen = []

    async for page in all_pages(client, limit=5):
        seen += [item["assessmentId"] for item in page["assessments"]]
        key = f"late-{len(seen)}"
        request = {"assessmentType": "health", "options": {}}
        await scribe.apply(("create", key, "ann", request), ("cancel", "a-007", "ann", {}), ("start", "a-011", "x", {}))

    assert sorted(seen) == [f"a-{number:03}" for number in range(40)]


async def test_offset_passes_over(scribe: Scribe, client: Client) -> None:
    await fill(scribe, random.Random(6), 12)
    whole = await get(client, "/assessments")

    part = await get(client, "/assessments", offset=5, limit=4)

    assert part["assessments"] == whole["assessments"][5:9]
    assert (part["total"], (await get(client, "/assessments", offset=12))["assessments"]) == (12, [])


WRONG = [
    ("/assessments", "colour=red", "colour"),
    ("/assessments", "server_name=web-1", "server_name"),
    ("/assessments", "state=done", "state"),
    ("/assessments", "state=pending&state=done", "state"),
    ("/assessments", "type=", "type"),
    ("/assessments", "source=test", "source"),
    ("/assessments", "serverName=", "serverName"),
    ("/assessments", "serverName=%00", "serverName"),
    ("/assessments", "createdAfter=yesterday", "createdAfter"),
    ("/assessments", "createdBefore=1700000000", "createdBefore"),
    ("/assessments", "createdAfter=9999-12-31T23:59:59-01:00", "createdAfter"),
    ("/assessments", "completedBefore=0001-01-01T00:00:00%2B05:00", "completedBefore"),
    ("/assessments/stats", "createdBefore=9999-12-31T23:59:59-14:00", "createdBefore"),
    ("/assessments/a-000", "at=9999-12-31T23:59:59-01:00", "at"),
    ("/assessments", "minPriority=0", "minPriority"),
    ("/assessments", "maxPriority=11", "maxPriority"),
    ("/assessments", "maxProgress=101", "maxProgress"),
    ("/assessments", "minProgress=half", "minProgress"),
    ("/assessments", "sortBy=created_at", "sortBy"),
    ("/assessments", "sortOrder=DESC", "sortOrder"),
    ("/assessments", "limit=0", "limit"),
    ("/assessments", "limit=1001", "limit"),
    ("/assessments", "limit=5&limit=6", "limit"),
    ("/assessments", "offset=-1", "offset"),
    ("/assessments", "offset=10001", "offset"),
    ("/assessments", "cursor=abc", "cursor"),
    ("/assessments", "cursor=abc&offset=5", "cursor"),
    ("/assessments/search", "q=x&cursor=WyJzZWFyY2giLDJd&offset=5", "cursor"),
    ("/assessments", "cursor=%F0%9F%98%80", "cursor"),
    ("/assessments/search", "", "q"),
    ("/assessments/search", "q=", "q"),
    ("/assessments/search", "q=%20", "q"),
    ("/assessments/search", "q=x&state=pending", "state"),
    ("/assessments/search", "q=x&cursor=abc", "cursor"),
    ("/assessments/stats", "timezone=Mars/Olympus", "timezone"),
    ("/assessments/stats", "limit=5", "limit"),
    ("/assessments/a-000/history", "afterVersion=-1", "afterVersion"),
]


FORGED: list[list[Any]] = [
    [2],
    [[0, 0], "2026-01-01T00:00:00Z", "a"],
    [[0, 0, 2], "2026-01-01T00:00:00Z", "a"],
    ["abc", "2026-01-01T00:00:00Z", "a"],
    [[0, 0, 0], 7, "a"],
    [[0, 0, 0], "2026-01-01T00:00:00Z", "a\x00"],
]
WRONG += [("/assessments/search", f"q=x&cursor={write_cursor('search', *place)}", "cursor") for place in FORGED]


async def test_a_wrong_parameter_is_named(client: Client) -> None:
    for path, query, parameter in WRONG:
        answer = await client.get(f"{path}?{query}", headers=token("root", Role.ADMIN))

        error = (await answer.json()).get("error", {})
        told = answer.status, error.get("code"), error.get("details", {}).get("parameter")
        assert told == (400, "VALIDATION_ERROR", parameter), (path, query)
        assert error["message"].startswith(parameter)


async def test_a_cursor_of_another_order_is_refused(scribe: Scribe, client: Client) -> None:
    await fill(scribe, random.Random(7), 3)
    cursor = (await get(client, "/assessments", limit=1))["nextCursor"]

    answer = await client.get(f"/assessments?sortBy=priority&cursor={cursor}", headers=token("root", Role.ADMIN))

    assert answer.status == 400
    assert "order" in (await answer.json())["error"]["message"]


async def test_days_are_those_of_the_time_zone_asked_for(scribe: Scribe, client: Client, settings: Settings) -> None:
    await fill(scribe, random.Random(8), 40)
    async with Installation(settings).database() as database:
        await database.execute("UPDATE assessment_states SET created_at = created_at - random() * interval '5 days'")
        # What the worker counted no longer holds; to count anew is what a recovery does.
        await database.execute("SELECT rebuild_totals()")
    records = await stored(settings)

    for name in ("UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Chatham"):
        local = Counter(str(record.created_at.astimezone(ZoneInfo(name)).date()) for record in records)
        every: list[dict[str, Any]] = [{}, {"minProgress": 0}]
        for filters in every:
            stats = await get(client, "/assessments/stats", timezone=name, **filters)
            assert {day["date"]: day["count"] for day in stats["dailyCounts"]} == local


async def test_counters_that_move_are_those_that_are_counted_anew(scribe: Scribe, settings: Settings) -> None:
    await fill(scribe, random.Random(9), 60)
    for half_milliseconds in (1, 3, 5):
        key, begin = f"half-{half_milliseconds}", datetime(2026, 1, 1, tzinfo=UTC)
        scribe.now = begin - timedelta(seconds=1)
        await scribe.apply(("create", key, "ann", {"assessmentType": "health", "options": {}}))
        scribe.now = begin
        await scribe.apply(("start", key, "x", {}))
        scribe.now = begin + half_milliseconds * timedelta(microseconds=500)
        await scribe.apply(("complete", key, "x", {"result": {}}))

    moved = await counters(settings)
    async with Installation(settings).database() as database:
        await database.execute("SELECT rebuild_totals()")

    assert moved == await counters(settings)


async def counters(settings: Settings) -> list[Any]:
    """All counters, summed over their slots, without those that are zero."""
    tables = {
        "assessment_totals": "scope, assessment_type, source, priority, state, sum(assessments), sum(retried),"
        " sum(timed), sum(duration_ms)",
        "server_totals": "scope, server_name, assessment_type, sum(assessments), sum(completed), sum(failed),"
        " sum(cancelled), max(last_created_at)",
        "created_totals": "scope, quarter, assessment_type, sum(assessments), sum(completed), sum(failed),"
        " sum(cancelled)",
    }
    async with Installation(settings).database() as database:
        return [
            await database.fetch(
                f"SELECT {columns} FROM {table} GROUP BY {(key := columns.partition(', sum')[0])}"
                f" HAVING sum(assessments) <> 0 ORDER BY {key}"
            )
            for table, columns in tables.items()
        ]


async def search(client: Client, q: str, **options: Any) -> list[str]:
    found = await get(client, "/assessments/search", q=q, **options)
    return [item["assessmentId"] for item in found["assessments"]]


async def test_search_finds_words_parts_and_what_is_misspelt(scribe: Scribe, client: Client) -> None:
    texts = {"assessmentType": "health", "options": {"customOptions": {"ticket": "Quarterly review"}}}
    await scribe.apply(
        ("create", "3f9c0b6e-77aa", "ann", texts | {"serverName": "postgres-berlin.example"}),
        ("create", "other", "bob", {"assessmentType": "security", "options": {}, "serverName": "gateway-lima"}),
        ("create", "gateway", "ann", {"assessmentType": "security", "options": {}, "serverName": "plain"}),
        ("start", "other", "bob", {}),
        ("fail", "other", "bob", {"error": "Certificate <expired> yesterday"}),
    )

    assert await search(client, "3f9c0b6e-77aa") == ["3f9c0b6e-77aa"]
    assert await search(client, "9c0b") == ["3f9c0b6e-77aa"]
    assert await search(client, "BERLIN") == ["3f9c0b6e-77aa"]
    assert await search(client, "berlin postgres") == ["3f9c0b6e-77aa"]
    assert await search(client, "quart") == ["3f9c0b6e-77aa"]
    assert await search(client, "certificate") == ["other"]
    assert await search(client, "certifcate") == ["other"]
    assert await search(client, "potsgres berlni") == ["3f9c0b6e-77aa"]
    assert await search(client, "gateway") == ["gateway", "other"]
    assert await search(client, "nothingofthekind") == []
    assert await search(client, "' & | ! :* \\ %") == []
    assert await search(client, "certificate", user="ann", role=Role.USER) == []
    assert await search(client, "gateway", user="ann", role=Role.USER) == ["gateway"]


async def test_search_finds_what_is_old(scribe: Scribe, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the newest do not have it: by whole words first, by beginnings and parts where those are few."""
    monkeypatch.setattr(searches, "_NEWEST", 2)
    monkeypatch.setattr(searches, "_MANY", 2)
    request = {"assessmentType": "health", "options": {}}
    names = ["gateway-1", "gateways-2", "old-gatewaying", "web01", "web02", "plain", "gateway", "last"]
    for name in names:
        await scribe.apply(("create", name, "ann", request | {"serverName": f"on-{name}"}))

    assert set(await search(client, "gatew")) >= {"gateway", "gateway-1", "gateways-2"}
    assert await search(client, "gateways") == ["gateways-2"]
    assert (await search(client, "gateway"))[0] == "gateway"
    assert set(await search(client, "web")) == {"web01", "web02"}
    assert await search(client, "atewayin") == ["old-gatewaying"]
    assert await search(client, "gatwaying") == ["old-gatewaying"]
    assert await search(client, "on old", user="ann", role=Role.USER) == ["old-gatewaying"]
    assert await search(client, "gateway", user="bob", role=Role.USER) == []


async def test_highlights_show_where_and_are_safe_to_show(scribe: Scribe, client: Client) -> None:
    request = {"assessmentType": "security", "options": {}, "serverName": "<b>gateway"}
    await scribe.apply(("create", "a1", "bob", request), ("start", "a1", "bob", {}))
    await scribe.apply(("fail", "a1", "bob", {"error": "Certificate of the <b>gateway</b> & co expired"}))

    (found,) = (await get(client, "/assessments/search", q="gateway"))["assessments"]

    assert found["highlights"] == {
        "serverName": "&lt;b&gt;<mark>gateway</mark>",
        "errorMessage": "Certificate of the &lt;b&gt;<mark>gateway</mark>&lt;/b&gt; &amp; co expired",
        "requestData": found["highlights"]["requestData"],
    }


@pytest.mark.parametrize("most_bytes", [searches._MOST_BYTES, 1])
async def test_search_goes_on_page_by_page(
    scribe: Scribe, client: Client, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr(searches, "_MOST_BYTES", most_bytes)
    await fill(scribe, random.Random(10), 23)
    keys: list[str] = []
    cursor: dict[str, Any] = {}

    while True:
        page = await get(client, "/assessments/search", q="a-0", limit=10, **cursor)
        keys += [item["assessmentId"] for item in page["assessments"]]
        assert page["total"] == 23
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}

    assert sorted(keys) == [f"a-{number:03}" for number in range(23)]


async def test_what_is_new_neither_shifts_nor_repeats_pages_of_a_search(scribe: Scribe, client: Client) -> None:
    request = {"assessmentType": "health", "options": {}, "serverName": "gateway"}
    for number in range(12):
        await scribe.apply(("create", f"old-{number:02}", "ann", request))
    keys: list[str] = []
    cursor: dict[str, Any] = {}

    while True:
        page = await get(client, "/assessments/search", q="gateway", limit=5, **cursor)
        keys += [item["assessmentId"] for item in page["assessments"]]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
        await scribe.apply(("create", f"gateway-{len(keys)}", "ann", request))

    assert keys == [f"old-{number:02}" for number in reversed(range(12))]


async def test_progress_writes_nothing_for_search(scribe: Scribe, settings: Settings) -> None:
    await scribe.apply(("create", "a1", "ann", {"assessmentType": "health", "options": {}}), ("start", "a1", "x", {}))
    before = await search_row_version(settings)

    await scribe.apply(("progress", "a1", "x", {"progress": 5, "message": "halfway"}))
    assert await search_row_version(settings) == before
    names = await search_row_version(settings, "assessment_names")
    await scribe.apply(("complete", "a1", "x", {"result": {}}))
    assert await search_row_version(settings) != before
    assert await search_row_version(settings, "assessment_names") == names, "an end writes no names"


async def search_row_version(settings: Settings, table: str = "assessment_search") -> Any:
    """Where the row lies and who wrote it."""
    async with Installation(settings).database() as database:
        return await database.fetchrow(f"SELECT ctid, xmin FROM {table}")


async def test_history_is_the_audit_trail(scribe: Scribe, client: Client) -> None:
    await scribe.apply(("create", "a1", "ann", {"assessmentType": "health", "options": {}}), ("start", "a1", "x", {}))
    await scribe.apply(("fail", "a1", "x", {"error": "it broke"}), ("retry", "a1", "ann", {}))

    history = (await get(client, "/assessments/a1/history", user="ann", role=Role.USER))["history"]

    assert [(item["action"], item["oldState"], item["newState"], item["newVersion"]) for item in history] == [
        ("created", None, "pending", 1),
        ("started", "pending", "processing", 2),
        ("failed", "processing", "failed", 3),
        ("retried", "failed", "pending", 4),
    ]
    assert history[2]["details"]["error"] == "it broke"
    assert (history[3]["userId"], history[3]["commandId"], history[3]["oldVersion"]) == ("ann", "c3", 3)
    later = await get(client, "/assessments/a1/history", afterVersion=2, limit=1)
    assert [item["newVersion"] for item in later["history"]] == [3]
    foreign = await client.get("/assessments/a1/history", headers=token("bob"))
    unknown = await client.get("/assessments/a2/history", headers=token("bob"))
    assert (foreign.status, unknown.status) == (403, 404)
