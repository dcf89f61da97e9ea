"""A worker and the API together: callers are in the history, and the audit service and webhooks are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook
from tests.harness.installation import Installation
from tests.harness.load import open_sender
from tests.harness.receivers import Receiver, receiving
from tests.harness.waiting import eventually
from tests.harness.web import Answer, Web, running_web
from tests.harness.worker import Cluster, Worker

from assessmentstore.chaos.messages import command
from assessmentstore.web.auth import Role

REQUEST: dict[str, Any] = {"assessmentId": "a-1", "assessmentType": "health", "options": {}}
ENDS = ["assessment.completed", "assessment.failed", "assessment.cancelled"]


@dataclass
class World:
    """What runs."""

    web: Web
    cluster: Cluster
    worker: Worker
    service: Receiver
    """The audit service."""
    hook: Receiver


@pytest.fixture
async def world(installation: Installation) -> AsyncIterator[World]:
    async with receiving() as service, receiving() as hook:
        update = {
            "trusted_proxies": "127.0.0.1",
            "audit_url": service.url,
            "audit_api_key": SecretStr("the key"),
            "webhook_allowed_networks": "127.0.0.0/8",
        }
        chosen = Installation(installation.settings.model_copy(update=update))
        cluster = Cluster(chosen)
        worker = cluster.start()
        try:
            async with running_web(chosen) as web:
                await cluster.until_owned_by(worker)
                yield World(web, cluster, worker, service, hook)
        except BaseException:
            print(cluster.tails())  # noqa: T201 - pytest shows it with the failure
            raise
        finally:
            cluster.destroy()


async def test_callers_are_in_the_history_and_others_are_told(world: World) -> None:
    web, hook = world.web, world.hook
    registered = await web.ask("POST", "/webhooks", {"url": hook.url, "eventTypes": ENDS}, Idempotency_Key="hook")
    again = await web.ask("POST", "/webhooks", {"url": hook.url, "eventTypes": ENDS}, Idempotency_Key="hook")
    assert (registered.status, again.body) == (201, registered.body)

    told: dict[str, Any] = {"X_Forwarded_For": "6.6.6.6, 203.0.113.7", "User_Agent": "the browser of ann"}
    await web.ask("POST", "/assessments", REQUEST, Idempotency_Key="first", **told)
    repeat = await web.ask("POST", "/assessments", REQUEST, Idempotency_Key="first", X_Forwarded_For="198.51.100.1")
    assert (repeat.status, repeat.headers.get("Idempotency-Replayed")) == (201, "true")
    async with open_sender(world.cluster.installation) as sender:
        await sender.send(command("c-2", "start", "a-1", userid="bot", clientip="2001:db8::1"))
        await sender.send(command("c-3", "complete", "a-1", {"result": {"overallScore": 97}}))

    async def whole() -> Any:
        found = (await web.ask("GET", "/assessments/a-1/history")).body["history"]
        return found if len(found) == 3 else None

    history = await eventually(whole, "three entries in the history")
    assert [(entry["details"].get("ipAddress"), entry["details"].get("userAgent")) for entry in history] == [
        ("203.0.113.7", "the browser of ann"),
        ("2001:db8::1", None),
        (None, None),
    ]

    await _eventually(world.service, 3, "three records with the audit service")
    assert [
        (sent.body["id"], sent.body["action"], sent.body["actor"], sent.body["result"], sent.body["ipAddress"])
        for sent in world.service.taken
    ] == [
        ("a-1:1", "assessment_created", "alice", "pending", "203.0.113.7"),
        ("a-1:2", "assessment_started", "bot", "pending", "2001:db8::1"),
        ("a-1:3", "assessment_completed", "system", "success", None),
    ]
    assert world.service.taken[0].headers["authorization"] == "Bearer the key"
    assert world.service.taken[0].body["details"]["data"] == history[0]["details"]

    await _eventually(hook, 1, "the completion with the webhook")
    assert Webhook(registered.body["secret"]).verify(hook.taken[0].raw, hook.taken[0].headers) == hook.taken[0].body
    assert hook.taken[0].body["data"] == history[2]["details"]
    await _see_to_it(world, registered.body["id"])
    await world.worker.stop()


async def _see_to_it(world: World, number: str) -> None:
    """What its owner, and others, can do with a webhook."""

    async def ask(method: str, path: str = "", **options: Any) -> Answer:
        return await world.web.ask(method, f"/webhooks/{number}{path}", **options)

    # What it took is counted after its answer.
    shown = await eventually(partial(_delivered, ask, 1), "one delivery to be counted")
    assert "secret" not in shown
    for role, status in ((Role.USER, 404), (Role.ADMIN, 200), (Role.HUMAN_OVERSIGHT, 403)):
        assert (await ask("GET", user="eve", role=role)).status == status
    listed = [(await world.web.ask("GET", "/webhooks", user=user)).body["webhooks"] for user in ("alice", "eve")]
    assert [len(found) for found in listed] == [1, 0]

    assert (await ask("POST", "/test")).status == 202
    await _eventually(world.hook, 2, "the test message")
    rotated = (await ask("POST", "/rotate", Idempotency_Key="new secret")).body
    assert (await ask("POST", "/rotate", Idempotency_Key="new secret")).body == rotated
    await eventually(partial(_delivered, ask, 2), "two deliveries to be counted")
    assert (await ask("GET", "/deliveries")).body == {"deliveries": []}
    inside = await world.web.ask("POST", "/webhooks", {"url": "https://169.254.169.254/latest"})
    assert (inside.status, inside.body["error"]["message"]) == (400, "/url: 169.254.169.254 is no public address")

    assert ((await ask("DELETE")).status, (await ask("GET")).status) == (204, 404)


async def _delivered(ask: Callable[[str], Awaitable[Answer]], count: int) -> dict[str, Any]:
    """The webhook, once so many messages are counted as delivered, and so are no longer waiting."""
    shown: dict[str, Any] = (await ask("GET")).body
    return shown if shown["delivered"] == count else {}


async def _eventually(receiver: Receiver, count: int, what: str) -> None:
    async def probe() -> bool:
        return len(receiver.taken) >= count

    await eventually(probe, what)
    assert len(receiver.taken) == count
