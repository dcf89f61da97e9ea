"""What an assessment was: at every version and at every time the fold of its events, over the API on real services."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.judge import settled
from tests.harness.load import open_sender
from tests.harness.pointers import applied
from tests.harness.shared import Running, running
from tests.harness.web import Answer, Web
from typer.testing import CliRunner

from assessmentstore.chaos.messages import Message, command, create
from assessmentstore.cli import app
from assessmentstore.client import AsyncClient
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.events import event_from_json
from assessmentstore.models.machine import evolve
from assessmentstore.settings import Settings
from assessmentstore.web.auth import Role

LIFE: tuple[tuple[str, Any], ...] = (
    ("start", {}),
    ("progress", {"progress": 30, "message": "ü"}),
    ("fail", {"error": "x"}),
    ("retry", {}),
    ("start", {}),
    ("complete", {"result": {"overallScore": 9.5, "own": {"a/b": [1, None]}}}),
)


@pytest.fixture(scope="module")
def shared(services: Settings, template_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(services, template_database, tmp_path_factory.mktemp("past")) as made:
        asyncio.run(live(made, "a-1", LIFE))
        yield made


@pytest.fixture
def web(shared: Running) -> Web:
    return shared.web


async def live(shared: Running, key: str, life: Any) -> None:
    """Create an assessment, send it commands, and wait until all are applied, and Redis has the last one's state."""
    sent: list[Message] = [create(f"{key}:create", key, userid="alice")]
    sent += [command(f"{key}:{n}", name, key, data, userid="alice") for n, (name, data) in enumerate(life)]
    async with open_sender(shared.installation) as sender:
        await sender.send(*sent)
    await settled(shared.installation)


async def folded(web: Web, key: str) -> list[AssessmentRecord]:
    """The states by the events that the API tells."""
    states: list[AssessmentRecord] = []
    for entry in (await web.ask("GET", f"/assessments/{key}/history")).body["history"]:
        event = event_from_json(json.dumps(entry["details"]))
        states.append(evolve(states[-1] if states else None, event))
    return states


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["error"]["code"]


def wire(state: AssessmentRecord) -> Any:
    return json.loads(state.to_json())


_COMMANDS = st.lists(
    st.one_of(
        st.sampled_from([("start", {}), ("retry", {}), ("fail", {"error": "e"}), ("fail", {"error": "other"})]),
        st.builds(lambda n, text: ("progress", {"progress": n} | text), st.integers(0, 100),
                  st.sampled_from([{}, {"message": "m"}, {"message": ""}])),
        st.builds(lambda n: ("complete", {"result": {"overallScore": n, "own": {"x": n}}}), st.integers(0, 9)),
        st.just(("cancel", {"reason": "r"})),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(life=_COMMANDS, dice=st.randoms(use_true_random=False))
def test_every_version_and_every_time_is_the_fold_and_changes_lead_from_one_to_the_other(
    shared: Running, life: Any, dice: random.Random
) -> None:
    asyncio.run(_is_the_fold(shared, life, dice))


async def _is_the_fold(shared: Running, life: Any, dice: random.Random) -> None:
    key = f"law-{random.Random().getrandbits(64):x}"
    await live(shared, key, life)
    web, states = shared.web, await folded(shared.web, key)
    assert wire(states[-1]) == (await web.ask("GET", f"/assessments/{key}")).body
    for state in states:
        read = await web.ask("GET", f"/assessments/{key}?atVersion={state.version}")
        assert (read.body, read.headers["ETag"]) == (wire(state), f'"{state.version}"')
        moments = ((state, state.updated_at), (before(states, state), state.updated_at - timedelta(microseconds=1)))
        for wanted, at in moments:
            then = await web.ask("GET", f"/assessments/{key}?at={quote(at.isoformat())}")
            assert (then.body if wanted else code(then)) == (wire(wanted) if wanted else (404, "ASSESSMENT_NOT_FOUND"))
    for _ in range(4):
        one, other = dice.choice(states), dice.choice(states)
        diff = (await web.ask("GET", f"/assessments/{key}/diff?from={one.version}&to={other.version}")).body
        assert (diff["assessmentId"], diff["from"], diff["to"]) == (key, one.version, other.version)
        assert applied(wire(one), diff["changes"]) == wire(other)


def before(states: list[AssessmentRecord], state: AssessmentRecord) -> AssessmentRecord | None:
    return states[state.version - 2] if state.version > 1 else None


async def test_a_version_may_be_kept_and_a_time_may_not(web: Web) -> None:
    at = quote((await folded(web, "a-1"))[2].updated_at.isoformat())

    version = await web.ask("GET", "/assessments/a-1?atVersion=3")
    then = await web.ask("GET", f"/assessments/a-1?at={at}")
    again = await web.ask("GET", "/assessments/a-1?atVersion=3", If_None_Match='"3"')
    other = await web.ask("GET", "/assessments/a-1?atVersion=3", If_None_Match='"7"')
    waited = await web.ask("GET", "/assessments/a-1?atVersion=3&minVersion=7")

    assert version.headers["Cache-Control"] == "private, max-age=3600"
    assert then.headers["Cache-Control"] == "private, no-cache"
    assert (again.status, other.status, waited.status) == (304, 200, 200)
    assert then.body == version.body == waited.body
    assert (version.body["state"], version.body["progress"], version.body["message"]) == ("processing", 30, "ü")


async def test_what_never_was_is_not_found_with_the_reason(web: Web) -> None:
    later = await web.ask("GET", "/assessments/a-1?atVersion=8")
    early = await web.ask("GET", "/assessments/a-1?at=2020-01-01")
    unknown = await web.ask("GET", "/assessments/none?atVersion=1")
    differing = await web.ask("GET", "/assessments/a-1/diff?from=1&to=8")
    tomorrow = await web.ask("GET", "/assessments/a-1?at=2200-01-01T00:00:00Z")

    assert {code(answer) for answer in (later, early, unknown, differing)} == {(404, "ASSESSMENT_NOT_FOUND")}
    assert later.body["error"]["details"] == {"atVersion": 8, "version": 7}
    assert "is at version 7, and has no version 8 yet" in later.body["error"]["message"]
    assert "There was no assessment a-1 at 2020-01-01" in early.body["error"]["message"]
    assert tomorrow.body["version"] == 7


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("?atVersion=0", "atVersion"), ("?atVersion=x", "atVersion"), ("?at=yesterday", "at"), ("?at=1", "at"),
        ("?at=0001-01-01T00:00:00%2B05:00", "at"), ("?at=9999-12-31T23:59:59-05:00", "at"),
        ("?atVersion=1&at=2026-01-01", "at"), ("/diff", "from"), ("/diff?from=0", "from"), ("/diff?from=1&to=x", "to"),
        ("/diff?fromVersion=1", "from"),
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_is_refused(web: Web, query: str, parameter: str) -> None:
    answer = await web.ask("GET", f"/assessments/a-1{query}")

    assert (code(answer), answer.body["error"]["details"]["parameter"]) == ((400, "VALIDATION_ERROR"), parameter)


async def test_the_past_is_seen_by_who_sees_the_present(web: Web) -> None:
    for path in ("/assessments/a-1?atVersion=1", "/assessments/a-1?at=2200-01-01", "/assessments/a-1/diff?from=1"):
        assert (await web.ask("GET", path, user="mallory")).status == 403
        assert (await web.ask("GET", path, user="olga", role=Role.HUMAN_OVERSIGHT)).status == 200


async def test_a_worker_tells_what_is_and_not_what_was(web: Web, shared: Running) -> None:
    api, web.port = web.port, shared.cluster.workers[0].port
    try:
        answer = await web.ask("GET", "/assessments/a-1?atVersion=1")
    finally:
        web.port = api

    assert code(answer) == (400, "VALIDATION_ERROR")


async def test_a_history_with_a_gap_is_told_and_not_made_up(web: Web, shared: Running) -> None:
    await live(shared, "gap", LIFE)
    async with shared.installation.database() as database:
        await database.execute("DELETE FROM assessment_audit_trail WHERE assessment_id = 'gap' AND new_version = 2")

    for path in ("?atVersion=3", "?at=2200-01-01", "/diff?from=1&to=3"):
        answer = await web.ask("GET", f"/assessments/gap{path}")
        assert code(answer) == (404, "ASSESSMENT_NOT_FOUND")
        assert "The history of assessment gap is not complete" in answer.body["error"]["message"]
    assert (await web.ask("GET", "/assessments/gap?atVersion=1")).status == 200


async def test_the_client_and_the_command_line_look_back(web: Web) -> None:
    url, token = f"http://127.0.0.1:{web.port}", web.token()
    async with AsyncClient(url, token) as client:
        third, last = await client.get("a-1", at_version=3), await client.get("a-1")
        then = await client.get("a-1", at=third.updated_at)
        diff = await client.diff("a-1", 3)

    async def run(*arguments: str) -> list[Any]:
        result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--url", url, "--token", token])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]

    (printed,) = await run("get", "a-1", "--at-version", "3")
    (at,) = await run("get", "a-1", "--at", third.updated_at.isoformat())
    changes = await run("diff", "a-1", "3", "7")

    assert (third.version, then, last.version) == (3, third, 7)
    assert (diff.from_version, diff.to_version, len(diff.changes)) == (3, 7, len(changes))
    assert printed == at == wire(third)
    assert applied(wire(third), changes) == wire(last)
