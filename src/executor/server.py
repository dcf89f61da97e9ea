"""One compliance server: its three calls, and whether it can take more work."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from ..models.compliance import ComplianceOrder
from ..settings import Settings
from ..telemetry import COMPLIANCE_ATTEMPTS, COMPLIANCE_BREAKER, COMPLIANCE_CALL_TIME
from .answers import Answer, expect_forgotten, read_answer
from .breaker import Breaker
from .faults import ComplianceError, FaultKind, call_errors

_CONNECT_SECONDS = 5.0

# The faults after which a server is no worse than before: it does its work.
_OF_THE_REQUEST = frozenset({FaultKind.BUSY, FaultKind.REFUSED})

# A server that says 429 without a time.
_BUSY_SECONDS = 1.0


def open_session(settings: Settings) -> aiohttp.ClientSession:
    """What all calls go through."""
    key = settings.compliance_api_key
    headers = {"Accept": "application/json"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    timeout = aiohttp.ClientTimeout(total=settings.compliance_call_timeout, sock_connect=_CONNECT_SECONDS)
    # As many connections as there are attempts: their number has a limit of its own.
    return aiohttp.ClientSession(
        headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    )


class ComplianceServer:
    """A server and what this process knows of it."""

    def __init__(self, url: str, session: aiohttp.ClientSession, *, concurrency: int, timeout: float) -> None:
        """Describe it.

        Args:
            url: below which the routes are.
            session: of `open_session`.
            concurrency: the most attempts that are given to it.
            timeout: seconds that a call may take.
        """
        self.url = url
        self.breaker = Breaker()
        self.attempts = 0
        """That are under way there."""
        self.last_fault = ""
        self._session = session
        self._concurrency = concurrency
        self._timeout = timeout
        self._busy_until = 0.0
        COMPLIANCE_BREAKER.labels(url).set_function(lambda: float(not self.breaker.is_closed))
        COMPLIANCE_ATTEMPTS.labels(url).set_function(lambda: self.attempts)

    @property
    def room(self) -> int:
        """How many more attempts it can be given now."""
        if time.monotonic() < self._busy_until or not self.breaker.admits:
            return 0
        # The first call after a pause is a trial: one attempt is enough for it.
        most = self._concurrency if self.breaker.is_closed else 1
        return max(0, most - self.attempts)

    def health(self) -> dict[str, Any]:
        """How it is, for `/health`."""
        told: dict[str, Any] = {"url": self.url, "attempts": self.attempts}
        if self.breaker.is_closed:
            return {"status": "healthy"} | told
        return {"status": "unhealthy"} | told | {"error": self.last_fault}

    async def order(self, order: ComplianceOrder, headers: dict[str, str]) -> Answer:
        """Give it an attempt; the same one again has no second effect.

        Raises:
            ComplianceError: it did not take it.
        """
        headers = headers | {"Idempotency-Key": order.idempotency_key, "Content-Type": "application/json"}
        async with self._call("POST", "/assessments", headers, data=order.to_json()) as response:
            return await read_answer(self.url, response, order.assessment_id)

    async def status(self, assessment_id: str, attempt: int, headers: dict[str, str]) -> Answer | None:
        """Ask how an attempt is; nothing where the server does not know it.

        Raises:
            ComplianceError: there was no answer, or none of the agreed shape.
        """
        path = f"/assessments/{quote(assessment_id, safe='')}/status?attempt={attempt}"
        async with self._call("GET", path, headers) as response:
            return None if response.status == 404 else await read_answer(self.url, response, assessment_id)

    async def forget(self, assessment_id: str, attempt: int, headers: dict[str, str]) -> None:
        """Tell it that nobody waits for an attempt any more.

        Raises:
            ComplianceError: it may still work on it.
        """
        path = f"/assessments/{quote(assessment_id, safe='')}?attempt={attempt}"
        async with self._call("DELETE", path, headers) as response:
            await expect_forgotten(self.url, response)

    @asynccontextmanager
    async def _call(
        self, method: str, path: str, headers: dict[str, str], data: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a call, and take note of how it went."""
        if not self.breaker.admits:
            what = f"it is left alone for a while: {self.last_fault}"
            raise ComplianceError(FaultKind.LEFT_ALONE, self.url, what, retry_after=self.breaker.pause)
        started = time.perf_counter()
        with self.breaker.passing():
            try:
                with call_errors(self.url, self._timeout):
                    address = URL(self.url + path, encoded=True)
                    async with self._session.request(
                        method, address, headers=headers, data=data, allow_redirects=False
                    ) as response:
                        yield response
            except ComplianceError as error:
                self._note(error)
                self._observe(started, error.kind)
                raise
            self.breaker.succeeded()
            self._observe(started, "answered")

    def _note(self, error: ComplianceError) -> None:
        if error.kind is FaultKind.BUSY:
            self._busy_until = time.monotonic() + (error.retry_after or _BUSY_SECONDS)
        if error.kind in _OF_THE_REQUEST:
            self.breaker.succeeded()
        else:
            self.last_fault = f"{error.kind}: {error.what}"
            self.breaker.failed(for_good=error.kind is FaultKind.MISCONFIGURED)

    def _observe(self, started: float, outcome: str) -> None:
        COMPLIANCE_CALL_TIME.labels(self.url, outcome).observe(time.perf_counter() - started)
