"""Inspect one server: the looks that are wanted, one after the other, and what they found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace

import aiohttp
import asyncpg
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from .checks import Checks, Facts, Look
from .files import FILES
from .http import HTTP, HTTPS
from .kafka import KAFKA
from .postgres import POSTGRES
from .redis import REDIS
from .scope import Scope
from .targets import Kind, Target
from .tls import TLS

_ERRORS = (OSError, KafkaError, RedisError, asyncpg.PostgresError, asyncpg.InterfaceError, aiohttp.ClientError)

_PATIENCE = 10.0
"""Seconds that one look may take: a server that takes calls and never answers must not hold a run for ever."""

_CHECKS: Mapping[Kind, Checks] = {
    Kind.KAFKA: KAFKA,
    Kind.POSTGRES: POSTGRES,
    Kind.REDIS: REDIS,
    Kind.HTTP: HTTP,
    Kind.TLS: TLS,
    Kind.FILES: FILES,
}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known of one server."""

    target: Target
    error: str | None = None
    """Why it does not respond."""
    facts: Facts = field(default_factory=dict)
    unchecked: Mapping[str, str] = field(default_factory=dict)
    """Looks at a server that responds, which failed, and why."""


def checks_of(target: Target) -> Checks:
    """All that is checked of a target."""
    return HTTPS if target.url.startswith("https:") else _CHECKS[target.kind]


def looks_at(target: Target, scope: Scope) -> list[Look]:
    """The looks that are made, in order."""
    return checks_of(target).looks_for(scope)


async def inspect(target: Target, scope: Scope) -> AsyncIterator[tuple[Look, Inspection]]:
    """Make one look after the other, and yield after each what is known; no more where the first finds nobody."""
    known = Inspection(target=target)
    for number, look in enumerate(looks_at(target, scope)):
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await look.ask(target)
        except TimeoutError:
            known = _without(known, number, look, f"no answer within {_PATIENCE:g} s")
        except _ERRORS as error:
            known = _without(known, number, look, str(error) or type(error).__name__)
        else:
            told = {name: value for name, value in found.items() if value is not None}
            known = replace(known, facts={**known.facts, **told})
        yield look, known
        if known.error is not None:
            return


def _without(known: Inspection, number: int, look: Look, why: str) -> Inspection:
    if number == 0:
        return replace(known, error=why)
    return replace(known, unchecked={**known.unchecked, look.words: why})
