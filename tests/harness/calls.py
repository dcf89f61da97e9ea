"""For each route of the table, a request that it answers well, and the requests that bring each of its errors about."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import orjson
from tests.harness.documented import Told

from assessmentstore.web.route import Route

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {}, "serverName": "web-1"}

LIVES: dict[str, tuple[str, ...]] = {
    "a-pending": (),
    "a-processing": ("start",),
    "a-completed": ("start", "complete"),
    "a-failed": ("start", "fail"),
    "a-cancelled": ("cancel",),
}
"""An assessment in each state, and the commands that lead there."""

WEBHOOKS: dict[str, str] = {
    "deleteWebhook": "6a4ff2c2-0000-4000-8000-000000000001",
    "another": "6a4ff2c2-0000-4000-8000-000000000002",
    "": "6a4ff2c2-0000-4000-8000-000000000003",
}
"""Webhooks by what they are for; the last one is for all the rest."""

BODIES: dict[str, Any] = {
    "registerWebhook": {"url": "https://example.com/hook"},
    "createAssessment": REQUEST,
    "createAssessments": [REQUEST],
    "progressAssessment": {"progress": 40},
    "progressAssessments": [{"assessmentId": "a-processing", "progress": 41}, {"assessmentId": "none", "progress": 1}],
    "retryAssessments": {"maxRetries": 0},
    "completeAssessment": {"result": {"overallScore": 97}},
    "failAssessment": {"error": "no route to host"},
    "cancelAssessment": {"reason": "enough"},
    "cleanUp": {"retentionDays": 10_000},
    "changeMigration": {"legacyMode": False},
    "sendLegacyEvents": {"type": "assessment.started", "assessmentId": "a-1"},
}

_QUERIES = {"searchAssessments": "?q=web", "waitForAssessment": "?timeout=1", "diffAssessment": "?from=1"}


@dataclass(frozen=True)
class Call:
    """A request."""

    method: str
    path: str
    data: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_headers(self, **headers: str) -> Call:
        """The same with more headers; _ in their names for -."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **more})

    async def ask(self, session: aiohttp.ClientSession, base: str) -> Told:
        """Send it; of a stream only the beginning is read."""
        async with session.request(
            self.method,
            base + self.path,
            data=self.data,
            headers=dict(self.headers),
            skip_auto_headers=["Content-Type"],
        ) as answer:
            if answer.content_type == "text/event-stream":
                content = await answer.content.readany()
                answer.close()
            else:
                content = await answer.read()
            body: Any = content.decode()
            with suppress(orjson.JSONDecodeError):
                body = orjson.loads(content) if "json" in answer.content_type else body
            kind = answer.content_type if content else ""
            return Told(answer.status, kind, answer.headers.copy(), body)


def call(route: Route, assessment_id: str = "a-pending") -> Call:
    """A valid request."""
    webhook = WEBHOOKS.get(route.name, WEBHOOKS[""])
    path = route.path.replace("{id}", assessment_id).replace("{webhook}", webhook) + _QUERIES.get(route.name, "")
    body = BODIES.get(route.name)
    if body is None:
        return Call(route.method, path)
    return Call(route.method, path, orjson.dumps(body), {"Content-Type": "application/json"})


def invalid(route: Route) -> Call:
    """One that is 400."""
    good = call(route)
    if route.body:
        return replace(good, data=b"{")
    if "Consistency-Token" in route.headers:
        return good.with_headers(Consistency_Token="nonsense")
    return replace(good, path=good.path + "?type=nonsense")


def too_large(route: Route, size: int) -> Call:
    """One whose body is larger than `size`."""
    return replace(call(route), data=b'["' + b"x" * size + b'"]', headers={"Content-Type": "application/json"})


def of_another_type(route: Route) -> Call:
    """One whose body is no JSON."""
    return replace(call(route), data=b"x", headers={"Content-Type": "text/plain"})
