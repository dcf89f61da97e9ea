"""One POST to somebody else's server: no redirects, a line of the answer for people, and never for long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from ..client.retries import retry_after

# What is kept of an answer that says what is wrong.
_MOST_READ = 1024
_MOST_TOLD = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, or why nothing did."""

    status: int | None
    """Nothing where there was no answer."""
    words: str
    """What is told of it."""
    retry_after: float = 0.0
    """Seconds that the other side asks to be left alone for."""

    @property
    def is_good(self) -> bool:
        """Whether the other side has it."""
        return self.status is not None and 200 <= self.status < 300


async def post(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float
) -> Answer:
    """Send one body, and tell what became of it; nothing is raised."""
    timeout = aiohttp.ClientTimeout(total=seconds)
    try:
        async with session.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as answer:
            said = b"" if 200 <= answer.status < 300 else await answer.content.read(_MOST_READ)
            wanted = retry_after(answer.headers.get("Retry-After")) or 0.0
            return Answer(answer.status, _words(answer.status, said), wanted)
    except TimeoutError:
        return Answer(None, f"no answer within {seconds:g} s")
    except (aiohttp.ClientError, OSError, ValueError, asyncio.LimitOverrunError) as error:
        return Answer(None, f"no answer: {str(error) or type(error).__name__}"[:_MOST_TOLD])


def jittered(seconds: float) -> float:
    """A pause that is not everybody's: up to a fifth longer."""
    return seconds * (1 + random.random() / 5)  # noqa: S311 - nobody's secret


def _words(status: int, said: bytes) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in said.decode("utf-8", "replace"))
    return f"{status}: {text[:_MOST_TOLD]}" if text.strip() else str(status)
