"""A real worker, and a compliance server that does wrong what can be done wrong: each attempt ends as it should."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr
from tests.harness.compliance import ScriptedServer, scripted_server, served_by
from tests.harness.installation import Installation
from tests.harness.load import Sender, open_sender
from tests.harness.waiting import eventually
from tests.harness.worker import Cluster, Worker

from assessmentstore.chaos.messages import command, request
from assessmentstore.settings import Settings
from assessmentstore.store.encryption import generate

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

# How each script ends, with the seconds that the request gives it: the state, and what its error says.
ENDINGS = {
    "later": (60, "completed", ""),
    "500 until 3": (60, "completed", ""),
    "429 until 2": (60, "completed", ""),
    "fails": (60, "failed", "failed: the disk is gone"),
    "400": (60, "failed", "refused: it answers 400 NO_SUCH_CHECK: deepScan is not sold here"),
    "not JSON": (60, "failed", "bad_answer: its answer is not JSON"),
    "another shape": (60, "failed", "bad_answer: its answer has not the agreed shape: /assessmentId"),
    "another id": (60, "failed", "bad_answer: it was asked about"),
    "null byte": (60, "failed", "bad_answer: its answer cannot be stored"),
    "too large": (60, "failed", "bad_answer: its result cannot be stored"),
    "endless": (60, "failed", "too_large: its answer did not end within 10 MiB"),
    "half closed": (2, "failed", "connection_lost: the connection ended"),
    "cut off": (2, "failed", "connection_lost: the connection ended"),
    "500": (2, "failed", "server_error: it answers 500 BROKEN: a bug, for all of its 2 s"),
    "hangs": (2, "failed", "timed_out: it gave no answer within 1 s, for all of its 2 s"),
    "never": (2, "failed", "timed_out: nothing was heard of the assessment for its 2 s"),
}


class Scene:
    """A producer, and what became of what it asked for."""

    def __init__(self, installation: Installation, sender: Sender) -> None:
        self.installation = installation
        self._sender = sender

    async def send(self, kind: str, name: str, data: Any = None) -> None:
        await self._sender.send(command(f"{kind}-{name}", kind, name, data, traceparent=TRACE))

    async def create(self, name: str, script: str = "at once", **members: Any) -> None:
        await self.send("create", name, request(serverName=script, **members))

    async def until(self, name: str, state: str, attempt: int = 0) -> dict[str, Any]:
        async def probe() -> dict[str, Any]:
            (found,) = await self.ask("SELECT * FROM assessment_states WHERE assessment_id = $1", name) or [{}]
            return found if (found.get("state"), found.get("retry_count")) == (state, attempt) else {}

        return await eventually(probe, f"{name} {state} in attempt {attempt}")

    async def ending(self, script: str, state: str, seconds: int) -> dict[str, Any]:
        """How an assessment ends that the server treats by a script.

        Where its time is over, a timer of the worker may be first, and says less: then another one is tried.
        """
        for name in (script, *(f"{script}, once more ({number})" for number in range(10))):
            await self.create(name, script, timeout=seconds)
            found = await self.until(name, state)
            if not (found["error_message"] or "").startswith("ASSESSMENT_TIMEOUT"):
                break
        return found

    async def trail(self, name: str) -> list[str]:
        rows = await self.ask(
            "SELECT action, user_id FROM assessment_audit_trail WHERE assessment_id = $1 ORDER BY new_version", name
        )
        return [row["action"] + (" by executor" if row["user_id"] == "executor" else "") for row in rows]

    async def until_nothing_is_open(self) -> None:
        async def probe() -> bool:
            return not await self.ask("SELECT FROM executions")

        await eventually(probe, "every execution ended")

    async def ask(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        async with self.installation.database() as database:
            return [dict(row) for row in await database.fetch(query, *arguments)]


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture
async def installation(
    services: Settings, template_database: str, tmp_path: Path, scripted: ScriptedServer
) -> AsyncIterator[Installation]:
    """One with a compliance server, and with encryption: what goes out is clear, what is stored is not."""
    async with served_by(
        scripted,
        services,
        template_database,
        tmp_path,
        compliance_call_timeout=1.0,
        encryption_keys=SecretStr(generate("k1")),
    ) as made:
        yield made


@pytest.fixture
async def scene(installation: Installation) -> AsyncIterator[Scene]:
    async with open_sender(installation) as sender:
        yield Scene(installation, sender)


async def test_whatever_the_server_does_each_attempt_ends_as_it_should(
    scene: Scene, cluster: Cluster, scripted: ScriptedServer
) -> None:
    cluster.start()
    for script, (seconds, state, told) in ENDINGS.items():
        found = await scene.ending(script, state, seconds)
        assert (found["error_message"] or "").startswith(told), script
        assert state == "completed" or scripted.url in found["error_message"]
        # A success closes the breaker, which the failures of one script may have opened.
        await scene.create(f"after {script}", priority=10)
        await scene.until(f"after {script}", "completed")

    assert await scene.trail("later") == [
        "created",
        "started by executor",
        "progress by executor",
        "progress by executor",
        "completed by executor",
    ]
    first = next(order for order in scripted.orders if order.assessment_id == "later")
    assert first.headers["traceparent"] == TRACE
    assert first.request["options"] == {"deepScan": True}
    assert scripted.calls["500 until 3:0"] == 3
    await scene.until_nothing_is_open()
    # Those that may still be at work there were told that nobody waits.
    assert {("hangs", "0"), ("never", "0"), ("endless", "0")} <= {*scripted.forgotten}
    assert {"later", "fails", "400"}.isdisjoint(name for name, _ in scripted.forgotten)


async def test_an_assessment_is_cancelled_retried_taken_by_others_and_survives_a_server_that_forgets(
    scene: Scene, cluster: Cluster, scripted: ScriptedServer
) -> None:
    await scene.create("anothers")
    await scene.send("start", "anothers")
    worker = cluster.start()
    await scene.create("cancelled", "never")
    await scene.create("forgotten", "never")
    await scene.create("retried", "fails")
    await scene.until("retried", "failed")
    for name in ("cancelled", "forgotten"):
        await scene.until(name, "processing")
        await eventually(lambda name=name: _asked(scripted, name), f"a question after {name}")  # type: ignore[misc]

    await scene.send("cancel", "cancelled", {"reason": "no longer needed"})
    await eventually(lambda: _told(scripted, "cancelled"), "the server to be told")

    scripted.lose_everything()
    await eventually(lambda: _calls(scripted, "forgotten:0", 2), "the attempt to be ordered again")

    await scene.send("retry", "retried")
    await scene.until("retried", "failed", attempt=1)
    assert [scripted.calls[f"retried:{attempt}"] for attempt in (0, 1)] == [1, 1]
    await scene.send("fail", "forgotten", {"error": "late", "attempt": 7})
    await eventually(lambda: _rejected(scene, "fail-forgotten"), "the late word to be refused")

    assert await scene.trail("anothers") == ["created", "started"]
    assert "anothers:0" not in scripted.calls
    assert await scene.trail("retried") == [
        "created",
        "started by executor",
        "failed by executor",
        "retried",
        "started by executor",
        "failed by executor",
    ]
    await eventually(lambda: _health_tells(worker, scripted, 1), "the one attempt that is left")


async def _health_tells(worker: Worker, scripted: ScriptedServer, attempts: int) -> bool:
    """An attempt is over a moment after its assessment is."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{worker.port}/health") as answer,
    ):
        health = await answer.json()
    assert "complianceServers" not in health["services"]
    told = [{"status": "healthy", "url": scripted.url, "attempts": attempts}]
    return bool(health["details"]["complianceServers"] == told)


async def _asked(scripted: ScriptedServer, name: str) -> bool:
    return scripted.questions[name] > 0


async def _told(scripted: ScriptedServer, name: str) -> bool:
    return (name, "0") in scripted.forgotten


async def _calls(scripted: ScriptedServer, key: str, count: int) -> bool:
    return scripted.calls[key] >= count


async def _rejected(scene: Scene, command_id: str) -> bool:
    rows = await scene.ask("SELECT code FROM command_rejections WHERE command_id = $1", command_id)
    return [row["code"] for row in rows] == ["OPTIMISTIC_LOCK_FAILED"]
