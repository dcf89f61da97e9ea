"""Dead letters seen to by an operator: on the command line, on real services, and with kill -9 in the middle."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.harness.load import open_sender
from tests.harness.shared import Running, running
from tests.harness.waiting import eventually
from typer.testing import CliRunner

from assessmentstore.chaos.messages import Kind, Message, junk, request
from assessmentstore.chaos.topics import read_topic
from assessmentstore.cli import app
from assessmentstore.settings import Settings
from assessmentstore.store.dead_letters import HeldLetter
from assessmentstore.web.auth import Role

# One of the open ones: whoever wants to redrive it waits.
_HOLD = """
SELECT id FROM dead_letters
WHERE id = (
    SELECT id FROM dead_letters WHERE redriven_at IS NULL AND dropped_at IS NULL ORDER BY id OFFSET $1 LIMIT 1
)
FOR UPDATE
"""


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(services, template_database, tmp_path_factory.mktemp("letters")) as made:
        yield made


class Told(NamedTuple):
    """What a command printed."""

    code: int
    lines: list[Any]
    errors: str
    raw: bytes


async def letters(shared: Running, *arguments: str, stdin: bytes | None = None) -> Told:
    """Run `assessmentstore dead-letters …` in this process."""
    environment = shared.installation.environment()
    result = await asyncio.to_thread(
        CliRunner().invoke, app, ["dead-letters", *arguments], env=environment, input=stdin
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    lines = [] if "--raw" in arguments else [json.loads(line) for line in result.stdout.splitlines()]
    return Told(result.exit_code, lines, result.stderr, result.stdout_bytes)


def event(assessment_id: str, *, kind: str = "assessment.create", **attributes: Any) -> Message:
    """A create that is a command but for what the attributes say; `id` is missing unless it is given."""
    members = {"specversion": "1.0", "type": kind, "source": "/tests", "data": request(userId="alice")} | attributes
    return Message(assessment_id.encode(), json.dumps(members).encode(), (), Kind.JUNK)


async def send(shared: Running, *messages: Message) -> list[str]:
    """Put records on the commands topic, wait until they are dead letters, and tell their places."""
    async with open_sender(shared.installation) as sender:
        places = [f"{partition}:{offset}" for partition, offset in await sender.send(*messages)]

    async def arrived() -> bool:
        found = {
            f"{line['partition']}:{line['offset']}"
            for line in (await letters(shared, "list", "--limit", "10000")).lines
        }
        return set(places) <= found

    await eventually(arrived, f"dead letters at {places}")
    return places


async def rows(shared: Running, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    async with shared.installation.database() as database:
        return [tuple(row) for row in await database.fetch(query, *arguments)]


async def until_applied(shared: Running, place: str) -> None:
    """Wait until everything up to a place is applied and published."""
    partition, offset = map(int, place.split(":"))

    async def probe() -> bool:
        query = "SELECT emitted_offset FROM command_offsets WHERE partition = $1"
        ((emitted,),) = await rows(shared, query, partition)
        return bool(emitted > offset)

    await eventually(probe, f"{place} to be published")


async def versions(shared: Running, pattern: str) -> list[tuple[Any, ...]]:
    query = "SELECT assessment_id, new_version, command_id FROM assessment_audit_trail WHERE assessment_id LIKE $1"
    return sorted(await rows(shared, query, pattern))


async def test_every_sort_is_listed_and_shown_byte_for_byte(shared: Running) -> None:
    sorts = junk("shown", "shown", large=False)
    places = await send(shared, *sorts)

    listed = {f"{line['partition']}:{line['offset']}": line for line in (await letters(shared, "list")).lines}
    for place, message in zip(places, sorts, strict=True):
        (shown,) = (await letters(shared, "show", place)).lines
        value = bytes.fromhex(shown["valueHex"]) if "valueHex" in shown else shown["value"]
        value = value.encode() if isinstance(value, str) else value
        assert value == message.value, message.what
        assert {header["name"] for header in shown["headers"]} == {name for name, _ in message.all_headers()}
        assert shown["reason"] == listed[place]["reason"] != ""
        assert (listed[place]["state"], listed[place]["bytes"]) == (
            "open",
            len(message.value or b"") if message.value is not None else None,
        )

    for number in (0, 1, 2, 3):
        raw = await letters(shared, "show", str(listed[places[number]]["id"]), "--raw")
        assert raw.raw == (sorts[number].value or b""), sorts[number].what

    by_reason = (await letters(shared, "list", "--reason", "NOT json")).lines
    assert by_reason
    assert all("not JSON" in line["reason"] for line in by_reason)
    partition = by_reason[0]["partition"]
    assert all(
        line["partition"] == partition for line in (await letters(shared, "list", "--partition", str(partition))).lines
    )
    assert (await letters(shared, "list", "--since", "2200-01-01")).lines == []
    first = (await letters(shared, "list", "--limit", "3")).lines
    then = (await letters(shared, "list", "--limit", "3", "--after", str(first[-1]["id"]))).lines
    assert [line["id"] for line in first + then] == sorted(line["id"] for line in listed.values())[:6]


async def test_what_has_no_id_gets_the_same_one_however_often_it_is_sent(shared: Running) -> None:
    (place,) = await send(shared, event("no-id"))

    first = await letters(shared, "redrive", place, "--by", "olga")
    second = await letters(shared, "redrive", place)
    third = await letters(shared, "redrive", place, "--again")

    await until_applied(shared, third.lines[0]["to"])
    assert [told.lines[0]["did"] for told in (first, second, third)] == ["redriven", "nothing", "redriven"]
    assert second.lines[0]["to"] == first.lines[0]["to"] != third.lines[0]["to"]
    assert await versions(shared, "no-id") == [("no-id", 1, f"dead-letter-{place}")]
    (shown,) = (await letters(shared, "show", place)).lines
    assert (shown["state"], shown["redrivenTo"]) == ("redriven", third.lines[0]["to"])
    assert shown["redrivenBy"] != "olga", "the last one"
    assert not await rows(shared, "SELECT 1 FROM command_rejections WHERE assessment_id = 'no-id'")


async def test_a_corrected_command_keeps_its_id_and_the_original_is_a_duplicate_of_it(
    shared: Running, tmp_path: Path
) -> None:
    (place,) = await send(shared, event("typo", kind="assessment.craete", id="typo-1", userid="alice"))
    right = event("typo", id="typo-1", userid="alice")
    (tmp_path / "right.json").write_bytes(right.value or b"")

    wrong = await letters(shared, "redrive", place, "--value", "-", stdin=event("typo", id="typo-2").value)
    sent = await letters(shared, "redrive", place, "--edit", str(tmp_path / "right.json"))
    async with open_sender(shared.installation) as sender:
        ((partition, offset),) = await sender.send(right)
    await until_applied(shared, f"{partition}:{offset}")

    assert (wrong.code, wrong.lines[0]["did"]) == (1, "refused")
    assert "has the id typo-1" in wrong.lines[0]["why"]
    assert (sent.code, sent.lines[0]["commandId"]) == (0, "typo-1")
    assert await versions(shared, "typo") == [("typo", 1, "typo-1")]
    read = await shared.web.ask("GET", "/assessments/typo")
    assert (read.status, read.body["version"]) == (200, 1)


async def test_what_is_still_no_command_comes_back_once_and_names_where_it_came_from(shared: Running) -> None:
    (place,) = await send(shared, Message(b"again", b"still no JSON", (("x", b"y"),), Kind.JUNK))

    sent = await letters(shared, "redrive", "--all", "--reason", "not JSON")
    back = next(line for line in sent.lines if line["letter"] == place)["to"]
    await until_applied(shared, back)
    again = await letters(shared, "redrive", "--all", "--reason", "not JSON")

    (shown,) = (await letters(shared, "show", back)).lines
    assert (shown["redrivenFrom"], shown["value"]) == (place, "still no JSON")
    assert {header["name"]: header["value"] for header in shown["headers"]}.items() >= {"x": "y"}.items()
    assert again.lines == []
    assert "came back from a redrive" in again.errors
    named = await letters(shared, "redrive", back)
    assert named.lines[0]["did"] == "redriven", "whoever names it means it"
    await until_applied(shared, named.lines[0]["to"])
    settings = shared.installation.settings
    (records,) = (await read_topic(settings, settings.dead_letters_topic, 1)).values()
    told = [record.header("redriven-from") for record in records if record.key == b"again"]
    assert told == [None, place, place]


async def test_what_is_dropped_stays_to_be_looked_at(shared: Running) -> None:
    one, other = await send(shared, event("drop-1", specversion="0.3"), event("drop-2", specversion="0.3"))

    first = await letters(shared, "drop", one, "--because", "a test of ours", "--by", "olga")
    rest = await letters(shared, "drop", "--all", "--reason", "specversion", "--because", "the same")
    sent = await letters(shared, "redrive", one)

    assert (first.lines[0]["did"], sent.lines[0]["did"]) == ("dropped", "nothing")
    assert other in {line["letter"] for line in rest.lines}
    assert one not in {line["letter"] for line in rest.lines}
    (shown,) = (await letters(shared, "show", one)).lines
    assert (shown["state"], shown["droppedBy"], shown["dropReason"]) == ("dropped", "olga", "a test of ours")
    assert '"0.3"' in shown["value"]
    dropped = (await letters(shared, "list", "--state", "dropped")).lines
    assert {f"{line['partition']}:{line['offset']}" for line in dropped} >= {one, other}


@pytest.mark.parametrize(
    "arguments",
    [
        "redrive",
        "redrive 0:0 --all",
        "redrive 0:0 --reason x",
        "redrive --all --value -",
        "drop 0:0",
        "list --since now",
    ],
)
async def test_what_is_not_clear_is_not_done(shared: Running, arguments: str) -> None:
    assert (await letters(shared, *arguments.split())).code == 2


@pytest.mark.parametrize("name", ["3:999999", "999999", "x", "a:b", f"0:{9**30}", f"{9**12}:1", f"{9**30}"])
async def test_one_that_is_not_there_is_told(shared: Running, name: str) -> None:
    for arguments in (["show", name], ["redrive", name], ["drop", name, "--because", "x"]):
        told = await letters(shared, *arguments)
        assert (told.code, f"no dead letter {name}" in told.errors) == (1, True)


async def test_the_open_ones_are_a_metric(shared: Running) -> None:
    async def figures() -> tuple[float, int]:
        text = (await shared.web.ask("GET", "/metrics", role=Role.ADMIN)).body
        (line,) = [line for line in text.splitlines() if line.startswith("assessmentstore_open_dead_letters ")]
        return float(line.split()[1]), len((await letters(shared, "list", "--limit", "10000")).lines)

    async def agree() -> bool:
        told, there = await figures()
        return told == there > 0

    await eventually(agree, "the metric to tell the open ones")


async def test_what_dies_between_kafka_and_the_mark_is_sent_again_without_an_effect(
    shared: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place,) = await send(shared, event("between"))

    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(HeldLetter, "mark_redriven", die)
        broken = await letters(shared, "redrive", place)
    again = await letters(shared, "redrive", place)

    await until_applied(shared, again.lines[0]["to"])
    assert (broken.code, again.lines[0]["did"]) == (130, "redriven")
    assert await versions(shared, "between") == [("between", 1, f"dead-letter-{place}")]


async def marked(shared: Running) -> int:
    return int((await rows(shared, "SELECT count(redriven_at) FROM dead_letters"))[0][0])


async def killed_after(shared: Running, count: int) -> None:
    """Run `redrive --all`, and kill it when it has marked so many, and three times as many at the most."""
    folder, start = shared.installation.settings.data_dir, await marked(shared)

    async def some() -> bool:
        return await marked(shared) >= start + count

    async with shared.installation.database() as database, database.transaction():
        # However late the kill comes, it finds a redrive that waits for this one.
        held = await database.fetchval(_HOLD, 3 * count)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "assessmentstore", "dead-letters", "redrive", "--all"),
            cwd=folder,
            env=shared.installation.environment(),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await eventually(some, "some to be redriven")
        process.kill()
        await process.wait()
    assert held is not None


async def test_a_redrive_that_is_killed_and_repeated_has_one_effect_for_each(shared: Running) -> None:
    count = 150
    await letters(shared, "drop", "--all", "--because", "of the tests before")
    places = await send(shared, *(event(f"killed-{number}") for number in range(count)))

    for _ in range(3):
        await killed_after(shared, 10)
    left = (await letters(shared, "list", "--limit", "1000")).lines
    last = await letters(shared, "redrive", "--all")

    assert 0 < len(left) <= count - 30, "killed in the middle"
    assert (last.code, len(last.lines)) == (0, len(left))
    for line in last.lines:
        await until_applied(shared, line["to"])
    assert await versions(shared, "killed-%") == sorted(
        (f"killed-{number}", 1, f"dead-letter-{place}") for number, place in enumerate(places)
    )
    assert not await rows(shared, "SELECT 1 FROM command_rejections WHERE assessment_id LIKE 'killed-%'")
    settings = shared.installation.settings
    records = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    keys = [record.key or b"" for found in records.values() for record in found]
    assert sum(key.startswith(b"killed-") for key in keys) == count
