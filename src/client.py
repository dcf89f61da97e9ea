"""A client of the HTTP API: asynchronous, and safe to repeat.

Every POST carries an Idempotency-Key, so that a call that was cut off is simply made again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode
from uuid import uuid4

import aiohttp
import orjson
from pydantic import ValidationError
from yarl import URL

from .models.assessment import AssessmentRecord
from .models.base import JsonObject
from .models.errors import AssessmentStoreError, ErrorCode

# Longer than a wait at the server, so that only a server that hangs runs into it.
_REQUEST_TIMEOUT = 60.0
# Short enough for proxies, which often cut a request off after 30 or 60 seconds.
_LONGEST_WAIT = 20.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_POLL = 0.5
_BUSY = frozenset({429, 503})


class ClientError(AssessmentStoreError):
    """The API refused a request, or (status 0) could not be reached."""

    def __init__(self, status: int, code: str, message: str, details: JsonObject | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details or {}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    retry_after: float | None


class Client:
    """A session with the API; use it in `async with`.

    Args:
        url: where the API is, like `http://127.0.0.1:3000`.
        token: a JWT.
        patience: seconds that a call is repeated while the server is busy or, once it was reached, away.
    """

    def __init__(self, url: str, token: str, *, patience: float = 10.0) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._patience = patience
        self._reached = False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"}, timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def create(self, request: JsonObject) -> JsonObject:
        """Create an assessment, and return once it is applied: its id, version and estimated time.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        return _object(await self._post("/assessments", request))

    async def get(self, assessment_id: str, *, unless_version: int | None = None) -> AssessmentRecord | None:
        """Return the whole state of an assessment, or nothing while it still has the version that is known.

        Raises:
            ClientError: there is no such assessment, it is not visible, or the API does not answer.
        """
        path = _path(assessment_id)
        if unless_version is None:
            return _record(await self._call("GET", path))
        # The minimum keeps a server whose copy is behind from answering with an older state.
        known = {"If-None-Match": f'"{unless_version}"'}
        answer = await self._call("GET", f"{path}?minVersion={unless_version}", headers=known)
        return None if answer.status == 304 else _record(answer)

    async def changes(self, assessment_id: str) -> AsyncIterator[AssessmentRecord]:
        """Yield the state now, and each newer one that is seen, until it is completed, failed or cancelled.

        Raises:
            ClientError: as for `get`.
        """
        version: int | None = None
        while True:
            record = await self.get(assessment_id, unless_version=version)
            if record is None:
                await asyncio.sleep(_POLL)
                continue
            yield record
            if record.is_final:
                return
            version = record.version

    async def wait(self, assessment_id: str, *, within: float) -> JsonObject:
        """Return the outcome once it is completed, failed or cancelled, however often the server restarts meanwhile.

        Raises:
            ClientError: `ASSESSMENT_TIMEOUT` after `within` seconds, or as for `get`.
        """
        end = time.monotonic() + within
        while True:
            left = min(end - time.monotonic(), _LONGEST_WAIT)
            query = urlencode({"timeout": max(1, round(left * 1000))})
            try:
                return _object(await self._call("GET", f"{_path(assessment_id)}/wait?{query}"))
            except ClientError as error:
                if error.code != ErrorCode.TIMEOUT:
                    raise
                if time.monotonic() >= end:
                    words = f"Assessment {assessment_id} has not ended within {within:g} s"
                    raise ClientError(error.status, error.code, words) from error

    async def command(self, assessment_id: str, name: str, data: JsonObject) -> AssessmentRecord:
        """Send a command (`cancel`, `retry`, …), and return the state it led to.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        return _record(await self._post(f"{_path(assessment_id)}/{name}", data))

    async def cleanup(self, retention_days: int) -> JsonObject:
        """Delete what ended so many days ago, and return how many assessments that were.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        return _object(await self._post("/maintenance/cleanup", {"retentionDays": retention_days}))

    async def _post(self, path: str, data: JsonObject) -> _Answer:
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid4().hex}
        return await self._call("POST", path, body=orjson.dumps(data), headers=headers)

    async def _call(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> _Answer:
        """Repeat a request until it is answered for good, or patience ends."""
        end = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            answer = await self._try(method, path, body, headers or {})
            if isinstance(answer, _Answer) and answer.status not in _BUSY:
                break
            retry_after = answer.retry_after if isinstance(answer, _Answer) else None
            delay = _jittered(pause) if retry_after is None else retry_after + _jittered(_FIRST_PAUSE)
            if time.monotonic() + delay > end:
                raise answer if isinstance(answer, ClientError) else _refusal(answer)
            await asyncio.sleep(delay)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if answer.status >= 400:
            raise _refusal(answer)
        return answer

    async def _try(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> _Answer | ClientError:
        """Make a request once; an error is returned where it makes sense to try again."""
        try:
            url = URL(self._url + path, encoded=True)
            async with self._session.request(method, url, data=body, headers=headers) as response:
                self._reached = True
                return _Answer(response.status, await response.read(), _seconds(response.headers.get("Retry-After")))
        except (ValueError, aiohttp.NonHttpUrlClientError) as error:
            raise ClientError(0, "UNREACHABLE", f"{self._url} is not a URL: give one like http://host:3000") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            away = ClientError(0, "UNREACHABLE", f"{self._url} does not answer ({reason}): is the web running there?")
            if not self._reached:  # an address that never answered is rather wrong than being restarted
                raise away from error
            return away


def _path(assessment_id: str) -> str:
    return f"/assessments/{quote(assessment_id, safe='')}"


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdecimal() else None


def _jittered(pause: float) -> float:
    return pause * random.uniform(0.5, 1.5)  # noqa: S311 - spreads clients, hides nothing


def _object(answer: _Answer) -> JsonObject:
    try:
        value = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise _unexpected(answer) from error
    if not isinstance(value, dict):
        raise _unexpected(answer)
    return value


def _record(answer: _Answer) -> AssessmentRecord:
    try:
        return AssessmentRecord.from_json(answer.body)
    except ValidationError as error:
        raise _unexpected(answer) from error


def _unexpected(answer: _Answer) -> ClientError:
    text = answer.body.decode(errors="replace").strip()[:100]
    return ClientError(answer.status, "UNEXPECTED_ANSWER", f"not an answer of this API (check the URL): {text}")


def _refusal(answer: _Answer) -> ClientError:
    """The error of an answer; what is not in the API's own words comes from something in between."""
    try:
        told: Any = orjson.loads(answer.body)["error"]
        return ClientError(answer.status, told["code"], told["message"], told.get("details"))
    except (ValueError, KeyError, TypeError):
        text = answer.body.decode(errors="replace").strip()[:200]
        return ClientError(answer.status, f"HTTP_{answer.status}", text or "the server gave no reason")
