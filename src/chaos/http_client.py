"""Plain HTTP requests, without any retry that could hide what was told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import orjson

from ..models.positions import TOKEN_HEADER, Positions
from ..web.auth import Role, mint_token

# Longer than a command may take (command_timeout), and than a frozen process may be.
REQUEST_SECONDS = 12.0

_LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    """0 where nothing did."""
    body: Any
    positions: Positions | None
    why: str = ""
    """Why nothing came back."""

    @property
    def code(self) -> str:
        """Of the error, where it is one of ours."""
        return str(self.error.get("code", ""))

    @property
    def error(self) -> Mapping[str, Any]:
        """The error, where it is one of ours."""
        error = self.body.get("error") if isinstance(self.body, dict) else None
        return error if isinstance(error, dict) else {}


class HttpClient:
    """Requests to the webs and workers of one installation."""

    def __init__(self, session: aiohttp.ClientSession, secret: str, urls: Mapping[str, str]) -> None:
        """Take the addresses of the webs and the workers, by their names."""
        self._session = session
        self._secret = secret
        self.urls = urls
        self._headers: dict[str, str] = {}

    def authorization(self, user: str) -> str:
        """The header that lets a user in; `admin` may see everything."""
        if user not in self._headers:
            role = Role.ADMIN if user == "admin" else Role.USER
            self._headers[user] = f"Bearer {mint_token(self._secret, user, [role], _LIFETIME)}"
        return self._headers[user]

    async def ask(
        self,
        door: str,
        method: str,
        path: str,
        *,
        user: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        query: Sequence[tuple[str, str]] = (),
        seconds: float = REQUEST_SECONDS,
    ) -> Answer:
        """One request, once."""
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.request(
                    method,
                    self.urls[door] + path,
                    json=body,
                    params=list(query),
                    headers={"Authorization": self.authorization(user), **(headers or {})},
                ) as response,
            ):
                return _answer(response.status, await response.read(), response.headers.get(TOKEN_HEADER))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return Answer(0, None, None, repr(error))

    def stream(
        self, door: str, path: str, headers: Mapping[str, str], *, silence: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """A response that goes on, until it is silent for too long."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
        return self._session.get(self.urls[door] + path, headers=dict(headers), timeout=timeout)


def _answer(status: int, content: bytes, token: str | None) -> Answer:
    body = orjson.loads(content) if content else None
    return Answer(status, body, None if token is None else Positions.parse(token))
