"""Requests to the API: each is made again while the server is busy, is being restarted, or its answer was lost.

That is safe, for every POST carries an Idempotency-Key. The transport remembers the freshest Consistency-Token of the
answers, and gives it to reads, so that they see what was written before.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypedDict, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError
from yarl import URL

from .errors import UNEXPECTED_ANSWER, UNREACHABLE, ClientError
from .freshness import Freshness
from .queries import QueryItems
from .retries import BUSY, Patience, retry_after

M = TypeVar("M", bound=BaseModel)

Token = str | Callable[[], str]
"""A JWT, or what returns one: it is asked before each request, so that a client may outlive a token."""

_TOKEN = re.compile(r"[\x21-\x7e]*")

_PATIENCE = 10.0

# Longer than a wait at the server, so that only a server that hangs runs into it.
_READ_TIMEOUT = 60.0

_DROPPED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)

# A stream that is alive is silent for 15 s at the most.
_STREAM_SILENCE = 45.0


class ClientOptions(TypedDict, total=False):
    """What a client may be told beside address and token."""

    patience: float
    """Seconds that a call is repeated, after its first failure, while the server is busy or away."""
    read_timeout: float
    """Seconds that the answer to one request may take."""
    read_your_writes: bool
    """Let each read wait until it sees what this client wrote before: so it is unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    retry_after: float | None = None


class Transport:
    """Requests over one pool of connections."""

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        patience: float = _PATIENCE,
        read_timeout: float = _READ_TIMEOUT,
        read_your_writes: bool = True,
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._patience = patience
        self._read_timeout = read_timeout
        self._fresh = read_your_writes
        self._freshness = Freshness()
        self._reached = False

    def open(self) -> None:
        """Be ready for requests."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._read_timeout))

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    def patience(self) -> Patience:
        """The pauses of a new call."""
        return Patience(self._patience)

    def pause(self, error: ClientError, patience: Patience) -> float:
        """How long to wait before what failed is tried again.

        Raises:
            ClientError: the error itself, where it makes no sense to try again, or not any more.
        """
        # An address that never answered is rather wrong than being restarted.
        if error.status not in BUSY and not (error.code == UNREACHABLE and self._reached):
            raise error
        return patience.pause_after(error)

    async def read(self, path: str, query: QueryItems = (), headers: Mapping[str, str] | None = None) -> Answer:
        """A GET that sees what was written before.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        return await self._call("GET", path + _query(query), headers=dict(headers or {}) | self._wanted())

    async def write(
        self, path: str, data: Any, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A POST that has one effect, however often it has to be made.

        Raises:
            ClientError: it was refused, or the API does not answer.
            ValueError: JSON has no such number.
        """
        named = {"Content-Type": "application/json", "Idempotency-Key": key or uuid4().hex}
        return await self._call("POST", path, body=_body(data), headers=named | dict(headers or {}))

    async def put(self, path: str, data: Any) -> Answer:
        """A PUT, which has one effect by itself.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        return await self._call("PUT", path, body=_body(data), headers={"Content-Type": "application/json"})

    def stream(
        self, path: str, query: QueryItems, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A GET whose body is read as it comes; made once, and to be made within `told`."""
        timeout = aiohttp.ClientTimeout(sock_connect=self._read_timeout, sock_read=_STREAM_SILENCE)
        sent = {"Accept": "text/event-stream"} | self._authorization() | self._wanted() | dict(headers)
        address = self._address(path + _query(query))
        return self._session.get(address, headers=sent, timeout=timeout, allow_redirects=False)

    def note_answer(self) -> None:
        """Take note that the API is where it was thought to be."""
        self._reached = True

    async def _call(self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str]) -> Answer:
        """Repeat a request until it is answered for good, or patience ends."""
        patience = self.patience()
        while True:
            try:
                return await self._try(method, path, body, headers)
            except ClientError as error:
                pause = self.pause(error, patience)
            await asyncio.sleep(pause)

    async def _try(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        sent = self._authorization() | dict(headers)
        with self.told():
            address = self._address(path)
            # To follow a redirect would make a GET of a POST, and take its answer for that to the command.
            asking = self._session.request(method, address, data=body, headers=sent, allow_redirects=False)
            async with asking as response:
                self.note_answer()
                self._freshness.note(response.headers)
                answer = await read_answer(response)
        if answer.status >= 400:
            raise refusal(answer)
        return answer

    def _authorization(self) -> dict[str, str]:
        # A file or a variable of the environment often ends with a line break.
        token = (self._token if isinstance(self._token, str) else self._token()).strip()
        if not _TOKEN.fullmatch(token):
            raise ClientError(
                0, "NOT_A_TOKEN", "the token has characters that no token has: give a JWT, as it was issued"
            )
        return {"Authorization": f"Bearer {token}"}

    def _wanted(self) -> dict[str, str]:
        """How fresh a read has to be."""
        return self._freshness.headers() if self._fresh else {}

    def _address(self, path: str) -> URL:
        return URL(self._url + path, encoded=True)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell what keeps a request from being answered in the words of this package.

        Raises:
            ClientError: with status 0.
        """
        try:
            yield
        except (ValueError, aiohttp.NonHttpUrlClientError) as error:
            raise ClientError(0, "NOT_A_URL", f"{self._url} is not a URL: give one like http://host:3000") from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            # Whoever takes a connection and drops it is no wrong address, but on its way down or up.
            self._reached |= isinstance(error, _DROPPED) and not isinstance(error, aiohttp.ClientConnectorError)
            reason = str(error) or type(error).__name__
            words = f"{self._url} does not answer ({reason}): is the web running there?"
            raise ClientError(0, UNREACHABLE, words) from error


def assessment_path(assessment_id: str) -> str:
    """Where an assessment is; its id is one segment of the path, whatever is in it."""
    return f"/assessments/{quote(assessment_id, safe='')}"


async def read_answer(response: aiohttp.ClientResponse) -> Answer:
    """Read what came back to its end.

    Raises:
        ClientError: it sends us elsewhere, which no API of ours does.
    """
    if 300 <= response.status < 400 and response.status != HTTPStatus.NOT_MODIFIED:
        place = response.headers.get("Location", "nowhere")
        words = f"{response.url} redirects to {place}: give the client the URL that the API really has"
        raise ClientError(response.status, UNEXPECTED_ANSWER, words)
    return Answer(response.status, await response.read(), retry_after(response.headers.get("Retry-After")))


def refusal(answer: Answer) -> ClientError:
    """The error of an answer; what is not in the API's own words comes from something in between."""
    try:
        told: Any = orjson.loads(answer.body)["error"]
        code, message, details = told["code"], told["message"], told.get("details")
    except (ValueError, KeyError, TypeError):
        text = answer.body.decode(errors="replace").strip()[:200]
        code, message, details = f"HTTP_{answer.status}", text or "the server gave no reason", None
    return ClientError(answer.status, code, message, details, retry_after=answer.retry_after)


def parse(kind: type[M], answer: Answer) -> M:
    """The answer as what it has to be.

    Raises:
        ClientError: it is something else.
    """
    try:
        return kind.model_validate_json(answer.body)
    except ValidationError as error:
        text = answer.body.decode(errors="replace").strip()[:100]
        words = f"not an answer of this API (check the URL): {text}"
        raise ClientError(answer.status, UNEXPECTED_ANSWER, words) from error


def _body(data: Any) -> bytes:
    """The JSON of a body, which says what the caller said: orjson writes null for what is no number of JSON."""
    left = [data]
    while left:
        item = left.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"JSON has no number {item}: leave it out, or send null")
        if isinstance(item, dict | list | tuple):
            left.extend(item.values() if isinstance(item, dict) else item)
    return orjson.dumps(data)


def _query(items: QueryItems) -> str:
    return f"?{urlencode(items)}" if items else ""
