"""The commands about many assessments, from the command line to a server with prepared answers."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.unit.api_fake import STATE, FakeApi, event, refusal, serving, sse
from typer.testing import CliRunner, Result

from assessmentstore import output
from assessmentstore.cli import app
from assessmentstore.commands import batch, lists, live
from assessmentstore.models.filters import ListQuery, StatsQuery

PAGE = {"assessments": [STATE, STATE | {"assessmentId": "a-2", "state": "failed"}], "total": 7, "nextCursor": "c-2"}
STATISTICS = {
    "total": 7,
    "byState": {"pending": 1, "processing": 1, "completed": 3, "failed": 1, "cancelled": 1},
    "byType": {"health": 7},
    "byPriority": {"5": 7},
    "successRate": 3 / 7,
    "averageProcessingTimeByState": {"completed": 90_000},
    "successRateByType": {"health": 3 / 7},
    "dailyCounts": [{"date": "2026-01-02", "count": 7, "completed": 3, "failed": 1}],
    "topServers": [{"serverName": "web-1", "assessmentCount": 4, "lastAssessment": "2026-01-02T03:04:05Z"}],
}
METRICS = {
    "totalAssessments": 7,
    "activeAssessments": 2,
    "completedAssessments": 3,
    "failedAssessments": 1,
    "cancelledAssessments": 1,
    "averageProcessingTime": 90_000.0,
    "throughputPerMinute": 12,
    "errorRate": 14.3,
    "retryRate": 0.0,
    "successRate": 42.9,
    "timestamp": "2026-01-02T03:04:05Z",
}
ENTRY = {
    "action": "assessment.start",
    "oldState": "pending",
    "newState": "processing",
    "oldVersion": 1,
    "newVersion": 2,
    "userId": "alice",
    "commandId": "c-2",
    "details": {"progress": 5},
    "createdAt": "2026-01-02T03:04:05Z",
}


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks, at a wide terminal."""
    for name, value in {"COLUMNS": "200", "TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    for module in (output, lists, live, batch):
        monkeypatch.setattr(module, "for_people", lambda _: True)


async def call(api: FakeApi, *arguments: str, stdin: str | None = None) -> Result:
    """Run a command against the server; it has a loop of its own, hence the thread."""
    async with serving(api) as url:
        options = ["--url", url, "--token", "some.jwt"]
        return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *options], input=stdin)


def lines(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def text(result: Result) -> str:
    """What is seen, without the commands to the terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", result.stdout)


def options_of(command: str) -> set[str]:
    group: Any = typer.main.get_command(app)
    return {str(parameter.name) for parameter in group.commands[command].params}


def test_every_filter_of_the_api_is_an_option() -> None:
    as_named = {"type": "kind"}

    for command, query in (("list", ListQuery), ("stats", StatsQuery)):
        wanted = {as_named.get(name, name) for name in query.model_fields}
        assert wanted <= options_of(command)


async def test_list_prints_a_line_for_each_and_sends_its_options(api: FakeApi) -> None:
    api.will_answer(PAGE)
    options = ["--state", "failed", "--state", "pending", "--type", "health", "--server", "web-*"]

    result = await call(api, "list", *options, "--min-priority", "3", "--sort-by", "priority", "--limit", "2")

    assert (result.exit_code, [line["assessmentId"] for line in lines(result)]) == (0, ["a-1", "a-2"])
    assert lines(result)[0]["message"] == "half way [not really]"
    assert api.asked[0].path == "/assessments"
    assert dict(api.asked[0].query) == {
        "state": "failed",
        "type": "health",
        "serverName": "web-*",
        "minPriority": "3",
        "sortBy": "priority",
        "limit": "2",
    }


@pytest.mark.usefixtures("people")
async def test_list_draws_a_table_and_says_how_to_go_on(api: FakeApi) -> None:
    api.will_answer(PAGE)

    result = await call(api, "list")

    assert re.search(r"a-2 +failed +2 +40 % +health", text(result))
    assert "half way [not really]" in text(result)
    assert "2 of 7, more with --cursor c-2" in text(result)


@pytest.mark.parametrize("json_wanted", [True, False])
@pytest.mark.usefixtures("people")
async def test_list_all_follows_the_cursors(json_wanted: bool, api: FakeApi) -> None:
    api.will_answer(PAGE)
    api.will_answer({"assessments": [STATE | {"assessmentId": "a-3"}], "total": 7, "nextCursor": None})

    result = await call(api, "list", "--all", *(["--json"] if json_wanted else []))

    assert result.exit_code == 0
    assert all(name in text(result) for name in ("a-1", "a-2", "a-3"))
    assert [asked.query.get("cursor") for asked in api.asked] == [None, "c-2"]


async def test_list_all_begins_at_the_beginning(api: FakeApi) -> None:
    result = await call(api, "list", "--all", "--cursor", "c-2")

    assert (result.exit_code, api.asked) == (2, [])


async def test_list_watch_prints_what_is_new_or_changed(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REDRAW_SECONDS", 0.0)
    api.will_answer(PAGE)
    api.will_answer({"assessments": [STATE | {"version": 3}, *PAGE["assessments"][1:]], "total": 7})  # type: ignore[index]
    api.will_answer(refusal("UNAUTHENTICATED", "the token has expired"), status=401)

    result = await call(api, "list", "--watch")

    assert [(line["assessmentId"], line["version"]) for line in lines(result)] == [("a-2", 2), ("a-1", 2), ("a-1", 3)]
    assert (result.exit_code, result.stderr) == (1, "Error: UNAUTHENTICATED: the token has expired\n")


@pytest.mark.usefixtures("people")
async def test_list_watch_draws_until_it_ends(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REDRAW_SECONDS", 0.0)
    api.will_answer(PAGE)
    api.will_answer(PAGE)
    api.will_answer(refusal("UNAUTHENTICATED"), status=401)

    result = await call(api, "list", "--watch")

    assert (result.exit_code, len(api.asked)) == (1, 3)
    assert "a-2" in text(result)


async def test_search_joins_its_words(api: FakeApi) -> None:
    found = STATE | {"highlights": {"message": "<mark>half</mark> way &amp; more"}}
    api.will_answer({"assessments": [found], "total": 1, "nextCursor": None})

    result = await call(api, "search", "half", "way")

    assert lines(result)[0]["highlights"] == found["highlights"]
    assert api.asked[0].path == "/assessments/search"
    assert api.asked[0].query["q"] == "half way"


@pytest.mark.usefixtures("people")
async def test_search_shows_where_the_words_were_found(api: FakeApi) -> None:
    found = STATE | {"highlights": {"message": "<mark>half</mark> way &amp; more"}}
    api.will_answer({"assessments": [found], "total": 1000, "totalIsExact": False, "nextCursor": None})

    result = await call(api, "search", "half")

    assert "message: half way & more" in text(result)
    assert "1 of at least 1000" in text(result)


async def test_stats_prints_what_the_api_counts(api: FakeApi) -> None:
    api.will_answer(STATISTICS)

    result = await call(api, "stats", "--type", "health", "--timezone", "Europe/Berlin")

    assert lines(result) == [STATISTICS]
    assert dict(api.asked[0].query) == {"type": "health", "timezone": "Europe/Berlin"}


@pytest.mark.usefixtures("people")
async def test_stats_draws_tables(api: FakeApi) -> None:
    api.will_answer(STATISTICS)

    result = await call(api, "stats")

    assert "7 assessments" in text(result)
    assert re.search(r"completed +3 +2 min", text(result))
    assert "42.9% completed" in text(result)
    assert re.search(r"web-1 +4 +2026-01-02 03:04:05Z", text(result))


async def test_history_prints_a_line_for_each_command(api: FakeApi) -> None:
    api.will_answer({"history": [ENTRY]})

    result = await call(api, "history", "a-1", "--after-version", "1")

    assert lines(result) == [ENTRY]
    assert (api.asked[0].path, api.asked[0].query) == ("/assessments/a-1/history", {"afterVersion": "1"})


@pytest.mark.usefixtures("people")
async def test_history_draws_a_table(api: FakeApi) -> None:
    api.will_answer({"history": [ENTRY]})

    result = await call(api, "history", "a-1")

    assert re.search(
        r"2 +2026-01-02 03:04:05Z +alice +assessment.start +pending +processing +progress: 5", result.stdout
    )


DIFF = {
    "assessmentId": "a-1",
    "from": 2,
    "to": 3,
    "changes": [
        {"field": "/message", "from": None, "to": "more"},
        {"field": "/resultData/own", "to": {"a": 1}},
    ],
}


async def test_diff_prints_a_line_for_each_change(api: FakeApi) -> None:
    api.will_answer(DIFF)

    result = await call(api, "diff", "a-1", "2", "3")

    assert lines(result) == DIFF["changes"]
    assert (api.asked[0].path, api.asked[0].query) == ("/assessments/a-1/diff", {"from": "2", "to": "3"})


@pytest.mark.usefixtures("people")
async def test_diff_draws_a_table(api: FakeApi) -> None:
    api.will_answer(DIFF)

    result = await call(api, "diff", "a-1", "2")

    assert api.asked[0].query == {"from": "2"}
    assert re.search(r"field +version 2 +version 3", text(result))
    assert re.search(r"/message +null +more", text(result))
    assert re.search(r"/resultData/own +\(none\) +{", text(result))


async def test_get_looks_back(api: FakeApi) -> None:
    api.will_answer(STATE)
    api.will_answer(STATE)

    await call(api, "get", "a-1", "--at-version", "2")
    await call(api, "get", "a-1", "--at", "2026-01-31")

    assert [asked.query for asked in api.asked] == [{"atVersion": "2"}, {"at": "2026-01-31"}]


async def test_top_prints_one_snapshot(api: FakeApi) -> None:
    api.at = {"/assessments/stats": STATISTICS, "/metrics": METRICS, "/assessments": PAGE}

    result = await call(api, "top")

    (snapshot,) = lines(result)
    assert (snapshot["byState"]["completed"], snapshot["throughputPerMinute"]) == (3, 12)
    assert [record["assessmentId"] for record in snapshot["newest"]] == ["a-1", "a-2"]
    assert {asked.query.get("sortBy") for asked in api.asked} == {None, "updatedAt", "createdAt"}


@pytest.mark.usefixtures("people")
async def test_top_draws_until_it_ends(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.at = {"/assessments/stats": STATISTICS, "/metrics": METRICS, "/assessments": PAGE}
    api.will_answer(refusal("UNAUTHENTICATED"), status=401)
    monkeypatch.setattr(live, "REDRAW_SECONDS", 0.0)

    showing = asyncio.create_task(call(api, "top"))
    while len(api.asked) < 8:  # noqa: ASYNC110 - the server sets no event
        await asyncio.sleep(0.01)
    api.at = {}  # the token is good no more
    result = await showing

    assert "3 completed" in text(result)
    assert "12 ended in the last minute" in text(result)
    assert "changed last" in text(result)


async def test_events_prints_a_line_for_each(api: FakeApi) -> None:
    api.will_stream(sse(event(1, "created", request={})))
    api.will_stream(sse({"reason": "deleted", "position": "1"}, "1", "reset"), sse(event(2, "cancelled", reason="x")))

    result = await call(api, "events", "a-1", "--type", "assessment.cancelled")

    assert (result.exit_code, [line["version"] for line in lines(result)]) == (0, [1, 2])
    assert result.stderr == "Events were lost (deleted): it goes on from 1\n"
    assert (api.asked[0].path, api.asked[0].query) == ("/assessments/a-1/events", {"type": "assessment.cancelled"})


@pytest.mark.usefixtures("people")
async def test_events_are_short_for_people(api: FakeApi) -> None:
    api.will_stream(sse(event(2, "cancelled", reason="enough")))

    result = await call(api, "events", "a-1")

    assert text(result) == "03:04:07  a-1  v2    cancelled   enough\n"


@pytest.mark.parametrize(
    ("error", "told"), [(errno.EPIPE, ""), (errno.ENOSPC, "Error: [Errno 28] No space left on device\n")]
)
async def test_an_output_that_takes_no_more_ends_the_command_quietly(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int, told: str
) -> None:
    """As `events | head` does: the stream that is open has to be closed in good order."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(live, "print_event", fail)
    api.will_stream(sse(event(1, "created", request={})), then="stay")

    result = await call(api, "events")

    assert (result.exit_code, result.stderr) == (1, told)
    assert "asynchronous generator" not in caplog.text


def requests(count: int) -> str:
    return "".join(json.dumps({"assessmentType": "health", "options": {}, "n": n}) + "\n" for n in range(count))


async def test_batch_tells_each_line_by_its_number(api: FakeApi) -> None:
    api.will_answer({"assessmentIds": ["a-1"], "errors": [{"index": 1, "code": "VALIDATION_ERROR", "message": "no"}]})

    result = await call(api, "batch", "-", stdin='\ufeff{"n": 1}\n\nnonsense\n{"n": 2}')

    assert result.exit_code == 1
    assert lines(result) == [
        {"line": 1, "assessmentId": "a-1"},
        {"line": 3, "code": "VALIDATION_ERROR", "message": "The line is no JSON object"},
        {"line": 4, "code": "VALIDATION_ERROR", "message": "no"},
    ]
    assert result.stderr.splitlines() == [
        "line 3: VALIDATION_ERROR: The line is no JSON object",
        "line 4: VALIDATION_ERROR: no",
    ]
    assert api.asked[0].body == [{"n": 1}, {"n": 2}]


async def test_batch_sends_chunks_with_keys_of_the_file_and_their_numbers(api: FakeApi, tmp_path: Path) -> None:
    file, other = tmp_path / "requests.jsonl", tmp_path / "others.jsonl"
    file.write_text(requests(2500))
    other.write_text(requests(1001))
    for size in (1000, 1000, 500, 1000, 1000, 500, 1000, 1):
        api.will_answer({"assessmentIds": [f"a-{n}" for n in range(size)], "errors": []})

    async with serving(api) as url:
        for name in (file, file, other):
            arguments = ["batch", str(name), "--url", url, "--token", "some.jwt"]
            result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
            assert result.exit_code == 0

    keys = [asked.headers["Idempotency-Key"] for asked in api.asked]
    assert [len(asked.body) for asked in api.asked] == [1000, 1000, 500, 1000, 1000, 500, 1000, 1]
    assert keys[:3] == keys[3:6]
    assert len(set(keys)) == 5
    assert api.asked[3].body == api.asked[0].body == api.asked[6].body


@pytest.mark.usefixtures("people")
async def test_batch_sums_up_for_people(api: FakeApi) -> None:
    api.will_answer({"assessmentIds": ["a-1", "a-2"], "errors": []})

    result = await call(api, "batch", "-", stdin=requests(2))

    assert result.exit_code == 0
    assert re.search(r"created +2\nrefused +0", text(result))


async def test_a_batch_that_fails_says_how_far_it_came(api: FakeApi) -> None:
    api.will_answer({"assessmentIds": [f"a-{n}" for n in range(1000)], "errors": []})
    api.will_answer(refusal("FORBIDDEN", "not for you"), status=403)

    result = await call(api, "batch", "-", stdin=requests(1500))

    assert (result.exit_code, len(lines(result))) == (1, 1000)
    assert result.stderr == "Error: FORBIDDEN: lines 1001 to 1500: not for you\n"


async def test_a_batch_that_is_broken_off_says_how_to_go_on(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "_tell", interrupt)
    api.will_answer({"assessmentIds": ["a-1"], "errors": []})

    result = await call(api, "batch", "-", stdin=requests(1))

    assert result.exit_code == 130
    assert result.stderr == (
        "Broken off: 0 created, 0 refused so far; send the same file again to go on, nothing is created twice\n"
    )
