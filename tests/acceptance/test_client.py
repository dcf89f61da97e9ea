"""The Python client on the real API: every method, sync and async; restarts in the middle; subscriptions that crash."""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.harness.shared import Running, running
from tests.harness.waiting import eventually
from tests.harness.web import Web
from typer.testing import CliRunner

from assessmentstore.chaos.topics import read_topic
from assessmentstore.cli import app
from assessmentstore.client import AsyncClient, Client, ClientError, KafkaSubscriber, Reset
from assessmentstore.models.events import AssessmentEvent
from assessmentstore.settings import Settings
from assessmentstore.web.auth import Role

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {"timeout": 5000}}

_README = Path(__file__).parents[2] / "README.md"

# Handles events, and dies after some of them, before it has told the group.
_CRASHING_SUBSCRIBER = """
import asyncio, os, sys
from assessmentstore.client import KafkaSubscriber

seen = 0

async def handle(event):
    global seen
    print(event.id, flush=True)
    seen += 1
    if seen == 3:
        os._exit(9)

async def main():
    bootstrap, group, prefix = sys.argv[1:]
    async with KafkaSubscriber(bootstrap, group, topic_prefix=prefix, group_instance_id="one") as kafka:
        await (await kafka.subscribe([], handle)).wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(services, template_database, tmp_path_factory.mktemp("client")) as made:
        yield made


@pytest.fixture
async def web(shared: Running) -> AsyncIterator[Web]:
    """The API, which a test may stop; it is there again for the next one."""
    yield shared.web
    if shared.web.process.poll() is not None:
        await start_again(shared.web, shared)


async def stop(web: Web) -> None:
    web.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(web.process.wait)


async def start_again(web: Web, shared: Running) -> None:
    """Start another process in its place."""
    web.process = Web(shared.installation, port=web.port).process
    await web.until_ready()


def url(web: Web) -> str:
    return f"http://127.0.0.1:{web.port}"


def connected(web: Web, user: str = "alice") -> AsyncClient:
    return AsyncClient(url(web), lambda: web.token(user, Role.ADMIN), patience=30)


class InThreads:
    """The synchronous client as if it were the asynchronous one, so that one test walks through both."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            method = getattr(self._client, name)
            return await asyncio.to_thread(lambda: taken(method(*args, **kwargs)))

        def taken(found: Any) -> Any:
            return [*found] if isinstance(found, Iterator) else found

        return call


async def taken(found: Any) -> Any:
    """All items of an iterator, or what a call returns."""
    return [item async for item in found] if hasattr(found, "__aiter__") else await found


async def walk(client: Any, server: str) -> None:
    """Use every method on assessments of a server of its own, reading what was written without a pause between."""
    first = await client.create(REQUEST | {"serverName": server}, respond_async=True, idempotency_key=f"{server}-1")
    one = first.assessment_id
    assert (first.status, (await client.get(one)).version) == ("accepted", 1)
    assert (await client.create(REQUEST | {"serverName": server}, idempotency_key=f"{server}-1")).assessment_id == one

    assert (await client.start(one, expected_version=1)).state == "processing"
    assert (await client.progress(one, 40, "forty")).progress == 40
    assert (await client.get(one, min_version=3)).message == "forty"
    assert await client.get_unless(one, version=3) is None
    assert (await client.get_unless(one, version=2)).version == 3
    assert (await client.status(one)).progress == 40
    assert (await client.fail(one, "broken")).error_message == "broken"
    assert (await client.retry(one, idempotency_key=f"{server}-2")).retry_count == 1
    assert (await client.retry(one, idempotency_key=f"{server}-2")).version == 5
    await client.start(one)
    assert (await client.complete(one, {"overallScore": 97})).result_data == {"overallScore": 97}
    outcome = await client.wait(one, within=10)
    assert (outcome.status, outcome.result) == ("completed", {"overallScore": 97})
    assert [record.version for record in await taken(client.changes(one))] == [7]
    history = await client.history(one, after_version=1)
    assert [entry.new_version for entry in history] == [2, 3, 4, 5, 6, 7]

    ids = [f"{server}-{number}" for number in range(5)]
    wanted = [REQUEST | {"assessmentId": name, "serverName": server} for name in ids]
    batch = await client.create_batch([*wanted, {"options": {}}])
    assert (batch.assessment_ids, [error.index for error in batch.errors]) == (tuple(ids), [5])
    assert (await client.cancel(ids[0], "enough")).state == "cancelled"
    await client.start(ids[1])
    results = (await client.progress_batch([{"assessmentId": name, "progress": 10} for name in ids[:2]])).results
    assert [(item.version, item.code) for item in results] == [(None, "INVALID_STATE_TRANSITION"), (3, None)]
    await client.fail(ids[1], "x")
    assert ids[1] in (await client.retry_batch(1)).assessment_ids

    page = await client.list(server_name=server, state=("pending", "cancelled"), limit=2, sort_order="asc")
    assert (len(page.assessments), page.total) == (2, 5)
    everything = await taken(client.iterate(server_name=server, page_size=2))
    assert {record.assessment_id for record in everything} == {one, *ids}
    assert (await client.search(f"{server} enough")).assessments[0].assessment_id == ids[0]
    found = await taken(client.search_all(server, page_size=4))
    assert {record.assessment_id for record in found} >= {one, *ids}
    assert all(record.highlights for record in found)
    statistics = await client.statistics(server_name=server, timezone="Europe/Berlin")
    assert (statistics.total, statistics.by_state["completed"], statistics.by_state["pending"]) == (6, 1, 4)

    assert (await client.metrics()).total_assessments >= 6
    assert (await client.health()).overall in {"healthy", "degraded"}
    assert (await client.cleanup(1)).deleted == 0
    with pytest.raises(ClientError, match="ASSESSMENT_NOT_FOUND"):
        await client.get(f"{server}-none")


async def test_every_method_of_the_asynchronous_client(web: Web) -> None:
    async with connected(web) as client:
        await walk(client, "async-server")


async def test_every_method_of_the_synchronous_client(web: Web) -> None:
    with Client(url(web), web.token("bob", Role.ADMIN), patience=30) as client:
        await walk(InThreads(client), "sync-server")


async def test_a_wait_and_streams_go_on_through_a_restart(web: Web, shared: Running) -> None:
    async with connected(web) as client, client.events() as everything:
        created = await client.create(REQUEST)
        one = created.assessment_id
        waiting = asyncio.create_task(client.wait(one, within=60))
        following = asyncio.create_task(taken(client.changes(one)))
        of_one = asyncio.create_task(taken(client.events(one)))
        await client.start(one)
        first = await anext(everything)

        await stop(web)
        progressing = asyncio.create_task(client.progress(one, 50))
        await start_again(web, shared)
        await progressing
        await client.complete(one, {})

        assert (await waiting).status == "completed"
        assert [event.version for event in await of_one] == [1, 2, 3, 4]
        assert (await following)[-1].version == 4
        rest = [await anext(everything) for _ in range(3)]

    assert [item.version for item in [first, *rest] if not isinstance(item, Reset)] == [1, 2, 3, 4]
    assert {item.assessment_id for item in rest if not isinstance(item, Reset)} == {one}


async def test_both_clients_hand_events_to_handlers(web: Web) -> None:
    """A handler of the synchronous client may use that client."""
    seen: list[tuple[str, str, str]] = []

    async def handle(event: AssessmentEvent) -> None:
        seen.append(("async", event.assessment_id, event.type))

    with Client(url(web), web.token("alice", Role.ADMIN)) as sync:

        def read(event: AssessmentEvent) -> None:
            seen.append(("sync", sync.get(event.assessment_id).assessment_id, event.type))

        async with connected(web) as client:
            await client.subscribe(["assessment.created"], handle)
            other = await asyncio.to_thread(sync.subscribe, ["assessment.cancelled"], read)
            one = (await client.create(REQUEST)).assessment_id
            await client.cancel(one)

            async def both() -> bool:
                return len(seen) == 2

            await eventually(both, "both events")
            assert await asyncio.to_thread(sync.unsubscribe, other.id)

    assert sorted(seen) == [("async", one, "assessment.created"), ("sync", one, "assessment.cancelled")]


async def test_the_synchronous_stream_of_one_assessment_ends_with_it(web: Web) -> None:
    def follow() -> list[int]:
        with Client(url(web), web.token()) as client:
            one = client.create(REQUEST).assessment_id
            client.cancel(one)
            with client.events(one) as stream:
                return [item.version for item in stream if not isinstance(item, Reset)]

    assert await asyncio.to_thread(follow) == [1, 2]


async def test_a_crash_between_handler_and_commit_repeats_events_and_loses_none(web: Web, shared: Running) -> None:
    settings, group = shared.installation.settings, f"test-{uuid4().hex}"
    async with connected(web) as client:
        one = (await client.create(REQUEST)).assessment_id
        await client.start(one)
        await client.progress(one, 10)
        await client.complete(one, {})
        expected = await eventually(lambda: _published(settings, one, 4), "the events on Kafka")
    arguments = settings.kafka_bootstrap, group, settings.topic_prefix
    crashed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _CRASHING_SUBSCRIBER, *arguments], capture_output=True, text=True
    )
    assert (crashed.returncode, len(crashed.stdout.split())) == (9, 3), crashed.stderr

    handled: list[str] = []
    again = KafkaSubscriber(*arguments[:2], topic_prefix=settings.topic_prefix, group_instance_id="one")
    async with again as kafka:
        subscription = await kafka.subscribe([], lambda event: handled.append(event.id))

        async def all_of_them() -> bool:
            return set(handled) >= set(expected)

        await eventually(all_of_them, "all events")
        await kafka.unsubscribe(subscription.id)
        await subscription.wait()

    assert set(crashed.stdout.split()) <= set(handled), "what was not committed comes again"
    assert [name for name in handled if name.startswith(f"{one}:")] == [f"{one}:{version}" for version in range(1, 5)]
    later = KafkaSubscriber(*arguments[:2], topic_prefix=settings.topic_prefix, group_instance_id="one")
    async with later as kafka, connected(web) as client:
        news: list[str] = []
        await kafka.subscribe(["assessment.created"], lambda event: news.append(event.assessment_id))
        other = (await client.create(REQUEST)).assessment_id

        async def told() -> bool:
            return other in news

        await eventually(told, "the new one")
        assert news == [other], "what was committed does not come again"


async def test_the_example_of_the_readme_works(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    section = _README.read_text().partition("## Python client")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    monkeypatch.setenv("TOKEN", web.token())

    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code.replace("http://127.0.0.1:3000", url(web))],
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr
    assert "completed" in result.stdout


async def test_the_commands_work_on_the_real_api(web: Web, tmp_path: Path) -> None:
    """What their answers are made of is not the tests' invention; a batch that is sent again adds nothing."""
    file = tmp_path / "requests.jsonl"
    lines = [json.dumps(REQUEST | {"serverName": "batch-server"})] * 3
    file.write_text("\n".join([*lines, "nonsense"]))

    async def run(*arguments: str) -> tuple[int, list[Any]]:
        options = ["--url", url(web), "--token", web.token("carol", Role.ADMIN)]
        result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *options])
        return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]

    first, again = await run("batch", str(file)), await run("batch", str(file))
    _, listed = await run("list", "--server", "batch-*", "--all")
    _, (counts,) = await run("stats", "--server", "batch-server")
    _, (view,) = await run("top")
    _, history = await run("history", listed[0]["assessmentId"])
    _, found = await run("search", "batch", "server")

    assert (first[0], first) == (1, again)
    assert [line.get("code") for line in first[1]] == [None, None, None, "VALIDATION_ERROR"]
    assert {record["assessmentId"] for record in listed} == {line["assessmentId"] for line in first[1][:3]}
    assert counts["total"] == 3
    assert [entry["newVersion"] for entry in history] == [1]
    assert {record["assessmentId"] for record in found} == {record["assessmentId"] for record in listed}
    assert view["byState"]["pending"] >= 3


async def _published(settings: Settings, assessment_id: str, count: int) -> list[str]:
    """The ids of all events on Kafka, once those of an assessment are there."""
    records = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    ids = [str(record.header("ce_id")) for part in records.values() for record in part]
    return ids if sum(name.startswith(f"{assessment_id}:") for name in ids) == count else []


def test_the_two_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
