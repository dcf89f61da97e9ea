"""The client commands, from the command line to a server with prepared answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api_fake import STATE, FakeApi, event, refusal, serving, sse
from typer.testing import CliRunner, Result

from assessmentstore import output
from assessmentstore.cli import app
from assessmentstore.commands import one


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


async def call(api: FakeApi, *arguments: str, stdin: str | None = None) -> Result:
    """Run a command against the server; it has a loop of its own, hence the thread."""
    async with serving(api) as url:
        options = ["--url", url, "--token", "some.jwt"]
        return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *options], input=stdin)


async def test_create_makes_the_request_of_its_options(api: FakeApi) -> None:
    api.will_answer({"assessmentId": "a-1", "status": "created", "version": 1}, status=201)
    options = ["--option", "deepScan=true", "--option", "timeout=5000", "--option", "note=a=b"]

    result = await call(api, "create", "--type", "health", "--server", "web-1", "--priority", "7", *options)

    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {"assessmentId": "a-1", "status": "created", "version": 1},
    )
    assert api.asked[0].body == {
        "assessmentType": "health",
        "serverName": "web-1",
        "priority": 7,
        "options": {"deepScan": True, "timeout": 5000, "note": "a=b"},
    }


async def test_create_says_how_it_is_tried_again(api: FakeApi) -> None:
    api.will_answer({"assessmentId": "a-1", "status": "created", "version": 1}, status=201)

    alone = await call(api, "create", "--type", "health", "--max-retries", "3")
    both = await call(api, "create", "--type", "health", "--max-retries", "3", "--retry-delay", "2.5")
    half = await call(api, "create", "--type", "health", "--retry-delay", "2.5")

    assert (alone.exit_code, both.exit_code, half.exit_code) == (0, 0, 2)
    assert [asked.body["retryPolicy"] for asked in api.asked] == [
        {"maxRetries": 3},
        {"maxRetries": 3, "initialDelaySeconds": 2.5},
    ]
    assert "say --max-retries, too" in half.stderr


async def test_retry_may_be_meant_for_one_attempt_only(api: FakeApi) -> None:
    api.will_answer(STATE)

    result = await call(api, "retry", "a-1", "--attempt", "2")

    assert (result.exit_code, api.asked[0].body) == (0, {"attempt": 2})


async def test_create_puts_its_options_over_the_request_on_standard_input(api: FakeApi) -> None:
    api.will_answer({"assessmentId": "mine", "status": "created", "version": 1}, status=201)
    request = {"assessmentType": "health", "serverName": "web-1", "options": {"deepScan": False, "timeout": 1}}
    options = ["--type", "security", "--id", "mine", "--source", "installer", "--option", "deepScan=true"]

    await call(api, "create", "--data", "-", *options, stdin=json.dumps(request))

    assert api.asked[0].body == {
        "assessmentId": "mine",
        "assessmentType": "security",
        "serverName": "web-1",
        "source": "installer",
        "options": {"deepScan": True, "timeout": 1},
    }


@pytest.mark.parametrize("data", ["", "[]", '{"options": []}', "{"])
async def test_create_refuses_a_file_without_a_request(data: str, api: FakeApi, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    file.write_text(data)

    result = await call(api, "create", "--data", str(file))

    assert result.exit_code == 2
    assert "expected the request as a JSON object" in result.stderr
    assert api.asked == []


async def test_create_refuses_an_option_without_a_value(api: FakeApi) -> None:
    result = await call(api, "create", "--option", "deepScan")

    assert result.exit_code == 2
    assert "expected KEY=VALUE" in result.stderr


async def test_get_prints_json_where_nobody_looks(api: FakeApi) -> None:
    api.will_answer(STATE)

    result = await call(api, "get", "a-1")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["message"] == "half way [not really]"


async def test_get_prints_a_table_for_people(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "for_people", lambda _: True)
    api.will_answer(STATE)

    result = await call(api, "get", "a-1")

    lines = [line.strip().split(maxsplit=1) for line in result.stdout.splitlines()]
    assert ["state", "processing"] in lines
    assert ["message", "half way [not really]"] in lines


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1)])
async def test_the_exit_code_of_wait_tells_how_it_ended(state: str, code: int, api: FakeApi) -> None:
    api.will_answer({"assessmentId": "a-1", "status": state})

    result = await call(api, "wait", "a-1")

    assert (result.exit_code, json.loads(result.stdout)["status"]) == (code, state)


async def test_the_exit_code_of_wait_tells_that_time_is_up(api: FakeApi) -> None:
    api.will_answer(refusal("ASSESSMENT_TIMEOUT"), status=408)

    result = await call(api, "wait", "a-1", "--timeout", "0")

    assert result.exit_code == 3
    assert result.stderr == "Error: ASSESSMENT_TIMEOUT: Assessment a-1 has not ended within 0 s\n"


async def test_wait_with_a_bar_prints_the_outcome_alike(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one, "for_people", lambda _: True)
    api.will_answer(STATE)
    api.will_stream(sse(event(3, "completed", result={}, durationMs=7, progress=100)))
    api.will_answer({"assessmentId": "a-1", "status": "completed"})

    result = await call(api, "wait", "a-1")

    assert (result.exit_code, json.loads(result.stdout)["status"]) == (0, "completed")


async def test_watch_prints_a_line_for_each_change(api: FakeApi) -> None:
    api.will_answer(STATE)
    api.will_stream(sse(event(3, "completed", result={}, durationMs=7, progress=100)))

    result = await call(api, "watch", "a-1")

    versions = [json.loads(line)["version"] for line in result.stdout.splitlines()]
    assert (result.exit_code, versions) == (0, [2, 3])


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (["cancel", "a-1"], "/assessments/a-1/cancel", {}),
        (["cancel", "a-1", "--reason", "enough"], "/assessments/a-1/cancel", {"reason": "enough"}),
        (["retry", "a-1"], "/assessments/a-1/retry", {}),
    ],
)
async def test_commands_are_sent_and_the_new_state_is_printed(
    arguments: list[str], path: str, body: dict[str, Any], api: FakeApi
) -> None:
    api.will_answer(STATE)

    result = await call(api, *arguments)

    assert (result.exit_code, json.loads(result.stdout)["state"]) == (0, "processing")
    assert (api.asked[0].path, api.asked[0].body) == (path, body)


async def test_a_refusal_is_one_line(api: FakeApi) -> None:
    api.will_answer(refusal("ASSESSMENT_NOT_FOUND", "Assessment a-1 not found"), status=404)

    result = await call(api, "get", "a-1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: ASSESSMENT_NOT_FOUND: Assessment a-1 not found\n"


async def test_cleanup_prints_how_many_are_deleted(api: FakeApi) -> None:
    api.will_answer(refusal("SERVICE_UNAVAILABLE"), status=503, Retry_After="0")
    api.will_answer({"deleted": 7})

    result = await call(api, "cleanup", "--retention-days", "90")

    assert (result.exit_code, json.loads(result.stdout)) == (0, {"deleted": 7})
    first, second = api.asked
    assert (first.path, first.body) == ("/maintenance/cleanup", {"retentionDays": 90})
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


@pytest.mark.parametrize("days", ["-1", "1.5", "all"])
async def test_cleanup_wants_a_number_of_days(days: str, api: FakeApi) -> None:
    result = await call(api, "cleanup", f"--retention-days={days}")

    assert (result.exit_code, api.asked) == (2, [])
