"""The client of the HTTP API, against a server with prepared answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from tests.harness.waiting import DEADLINE
from tests.unit.api_fake import STATE, FakeApi, event, free_port, refusal, serving, sse

from assessmentstore.client import AsyncClient, ClientError, CreatedAssessment, RetryPolicy, assessments


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[AsyncClient]:
    async with serving(api) as url, AsyncClient(url, "some.jwt", patience=5) as client:
        yield client


async def test_a_create_sends_the_request_with_token_and_key(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer({"assessmentId": "a-1", "status": "created", "version": 1}, status=201)

    created = await client.create({"assessmentType": "health"})

    assert created == CreatedAssessment(assessment_id="a-1", status="created", version=1)
    (asked,) = api.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/assessments", {"assessmentType": "health"})
    assert asked.headers["Authorization"] == "Bearer some.jwt"
    assert asked.headers["Idempotency-Key"]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_is_asked_again_with_the_same_key(status: int, api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(refusal("SERVICE_UNAVAILABLE"), status=status, Retry_After="0")
    api.will_answer(STATE)

    record = await client.cancel("a-1", "enough")

    assert record.version == 2
    first, second = api.asked
    assert (first.path, first.body) == (second.path, second.body) == ("/assessments/a-1/cancel", {"reason": "enough"})
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


async def test_two_commands_have_two_keys(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(STATE)

    await client.retry("a-1")
    await client.retry("a-1")

    first, second = api.asked
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]


async def test_a_command_may_be_meant_for_one_attempt_only(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(STATE)

    await client.start("a-1", attempt=0)
    await client.progress("a-1", 40, attempt=1)
    await client.complete("a-1", {}, attempt=2)
    await client.fail("a-1", "no route", attempt=3)
    await client.retry("a-1", attempt=4, expected_version=9)
    await client.retry("a-1")

    assert [asked.body.get("attempt") for asked in api.asked] == [0, 1, 2, 3, 4, None]
    assert api.asked[4].headers["If-Match"] == '"9"'


async def test_a_create_says_how_it_is_tried_again(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer({"assessmentId": "a-1", "status": "created", "version": 1}, status=201)
    request = {"assessmentType": "health", "options": {}}

    await client.create(request, retry_policy=RetryPolicy(max_retries=3, initial_delay_seconds=2.5))

    assert api.asked[0].body == request | {"retryPolicy": {"maxRetries": 3, "initialDelaySeconds": 2.5}}
    assert "retryPolicy" not in request


async def test_a_server_that_is_busy_for_longer_than_patience_lasts_is_not_waited_for(
    api: FakeApi, client: AsyncClient
) -> None:
    api.will_answer(refusal("RATE_LIMITED", "slow down"), status=429, Retry_After="3600")

    with pytest.raises(ClientError) as caught:
        await client.get("a-1")

    assert (caught.value.status, caught.value.code) == (429, "RATE_LIMITED")
    assert len(api.asked) == 1


async def test_a_refusal_carries_code_message_and_details(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(refusal("INVALID_STATE_TRANSITION", "cannot go there", to="pending"), status=409)

    with pytest.raises(ClientError) as caught:
        await client.retry("a-1")

    assert str(caught.value) == "INVALID_STATE_TRANSITION: cannot go there"
    assert (caught.value.status, caught.value.details) == (409, {"to": "pending"})


@pytest.mark.parametrize("body", ["<html>Bad Gateway</html>", "[]", '{"error": "no"}'])
async def test_an_error_of_something_in_between_is_told_as_it_came(
    body: str, api: FakeApi, client: AsyncClient
) -> None:
    api.will_answer(body, status=418)

    with pytest.raises(ClientError) as caught:
        await client.get("a-1")

    assert str(caught.value) == f"HTTP_418: {body}"


@pytest.mark.parametrize("body", ["hello", "[]", "{}"])
async def test_an_answer_of_another_program_is_told_as_such(body: str, api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(body)

    with pytest.raises(ClientError, match="UNEXPECTED_ANSWER: not an answer of this API"):
        await client.get("a-1")


async def test_an_id_is_one_segment_of_the_path_whatever_is_in_it(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(STATE)

    await client.get("a/b?c#d é%2F")

    assert api.asked[0].path == "/assessments/a%2Fb%3Fc%23d%20%C3%A9%252F"


async def test_a_known_version_is_not_sent_again(api: FakeApi, client: AsyncClient) -> None:
    api.answers.append(web.Response(status=304))

    assert await client.get_unless("a-1", version=7) is None

    assert api.asked[0].headers["If-None-Match"] == '"7"'
    assert api.asked[0].query == {"minVersion": "7"}


async def test_changes_follow_the_events_and_end_with_the_assessment(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(STATE)
    api.will_stream(sse(event(3, progress=60, message="more")), then="cut")
    api.will_stream(sse(event(4, "completed", result={"overallScore": 97}, durationMs=7, progress=100)))

    seen = [record async for record in client.changes("a-1")]

    assert [(record.version, record.state, record.progress) for record in seen] == [
        (2, "processing", 40),
        (3, "processing", 60),
        (4, "completed", 100),
    ]
    assert seen[-1].result_data == {"overallScore": 97}
    assert [asked.headers.get("Last-Event-ID") for asked in api.asked] == [None, "2", "3"]


async def test_changes_are_asked_for_where_there_is_no_stream(
    api: FakeApi, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assessments, "_POLL", 0.0)
    api.will_answer(STATE)
    api.will_answer(refusal("NOT_FOUND", "There is nothing at /assessments/a-1/events"), status=404)
    api.answers.append(web.Response(status=304))
    api.will_answer(STATE | {"version": 3, "state": "completed", "progress": 100})

    seen = [(record.version, record.state) async for record in client.changes("a-1")]

    assert seen == [(2, "processing"), (3, "completed")]


async def test_changes_of_what_is_deleted_meanwhile_end_with_that(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(STATE)
    api.will_answer(refusal("ASSESSMENT_NOT_FOUND", "gone"), status=404)

    with pytest.raises(ClientError, match="gone"):
        assert [record.version async for record in client.changes("a-1")] == [2]


async def test_a_wait_asks_again_until_its_own_time_is_up(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(refusal("ASSESSMENT_TIMEOUT"), status=408)
    api.will_answer({"assessmentId": "a-1", "status": "failed"})

    outcome = await client.wait("a-1", within=60)

    assert outcome.status == "failed"
    assert [int(asked.query["timeout"]) <= 20_000 for asked in api.asked] == [True, True]


async def test_a_wait_that_is_in_vain_says_how_long_it_was(api: FakeApi, client: AsyncClient) -> None:
    api.will_answer(refusal("ASSESSMENT_TIMEOUT", "not within 1 ms"), status=408)

    with pytest.raises(ClientError) as caught:
        await client.wait("a-1", within=0)

    assert str(caught.value) == "ASSESSMENT_TIMEOUT: Assessment a-1 has not ended within 0 s"


async def test_a_wait_outlives_a_restart_of_the_server() -> None:
    port, before, after = free_port(), FakeApi(), FakeApi()
    before.will_answer(refusal("ASSESSMENT_TIMEOUT"), status=408)
    after.will_answer({"assessmentId": "a-1", "status": "completed"})
    async with AsyncClient(f"http://127.0.0.1:{port}", "some.jwt", patience=30) as client:
        async with serving(before, port):
            waiting = asyncio.create_task(client.wait("a-1", within=30))
            async with asyncio.timeout(DEADLINE):
                while not before.asked:  # noqa: ASYNC110 - the server sets no event
                    await asyncio.sleep(0)
        async with serving(after, port):
            outcome = await waiting

    assert outcome.status == "completed"


async def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", "some.jwt", patience=3600) as client:
        with pytest.raises(ClientError, match=r"UNREACHABLE: .* does not answer .*: is the web running there"):
            await client.get("a-1")


async def test_a_server_that_drops_the_very_first_request_is_asked_again() -> None:
    """Somebody listens there: it is being restarted, perhaps behind a balancer, and no wrong address."""
    body = json.dumps(STATE).encode()
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if len(asked) > 2:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncClient(f"http://127.0.0.1:{port}", "some.jwt", patience=30) as client:
            record = await client.get("a-1")

    assert (record.assessment_id, len(asked)) == ("a-1", 3)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_told_and_not_followed(api: FakeApi, status: int) -> None:
    """A create that was redirected would be asked again as a GET, and whatever that answers be taken for its own."""
    api.will_answer("", status, Location="https://elsewhere.example/assessments")

    async with serving(api) as url, AsyncClient(url, "some.jwt") as client:
        with pytest.raises(ClientError, match=r"redirects to https://elsewhere\.example/assessments"):
            await client.create({"assessmentType": "health", "options": {}})
        with pytest.raises(ClientError, match=r"redirects to https://elsewhere\.example/assessments"):
            async with client.events():
                pass

    assert [asked.method for asked in api.asked] == ["POST", "GET"]


@pytest.mark.parametrize("token", ["a\nb", "a b", "schlüssel"])
async def test_what_is_not_a_token_is_told_as_such(token: str) -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", token) as client:
        with pytest.raises(ClientError, match="NOT_A_TOKEN"):
            await client.get("a-1")


async def test_a_token_may_end_with_a_line_break(api: FakeApi) -> None:
    api.will_answer(STATE)

    async with serving(api) as url, AsyncClient(url, lambda: "some.jwt\n") as client:
        await client.get("a-1")

    assert api.asked[0].headers["Authorization"] == "Bearer some.jwt"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
async def test_a_number_that_json_does_not_have_is_no_null(api: FakeApi, client: AsyncClient, number: float) -> None:
    with pytest.raises(ValueError, match="JSON has no number"):
        await client.complete("a-1", {"figures": [{"overallScore": number}]})

    assert api.asked == []


@pytest.mark.parametrize("url", ["localhost:3000", "http://[", "nonsense"])
async def test_what_is_not_a_url_is_told_as_such(url: str) -> None:
    async with AsyncClient(url, "some.jwt") as client:
        with pytest.raises(ClientError, match="is not a URL"):
            await client.get("a-1")
