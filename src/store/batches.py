"""Whole requests that are answered once, and what batches ask Postgres: owners, failed ones, many outcomes at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import asyncpg
import orjson

from ..models.base import JsonObject
from ..models.errors import ErrorCode, Rejection
from ..models.positions import Positions
from ..models.sealed import is_same_content
from .postgres import Pool, postgres_errors
from .queries import QUERIES

Settled = int | Rejection
"""The version that a command led to, or why it was refused."""


@dataclass(frozen=True, slots=True)
class BegunRequest:
    """A request as it was begun."""

    fingerprint: bytes
    plan: JsonObject
    answer: bytes | None
    """JSON, once everything is done."""
    promised: Positions | None
    """Where the commands stand that the answer tells of."""
    repeated: bool
    """Whether somebody began it before."""


class BatchRequests:
    """The requests of each user by their keys."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, user_id: str, key: str) -> BegunRequest | None:
        """The request that has this key.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            row = await self._pool.fetchrow(QUERIES["find_request"], user_id, key)
        return None if row is None else _request(row, repeated=True)

    async def begin(self, user_id: str, key: str, fingerprint: bytes, plan: JsonObject) -> BegunRequest:
        """Begin a request, or find the one that began with this key meanwhile.

        Raises:
            UnavailableError: Postgres is away.
        """
        arguments = user_id, key, fingerprint, orjson.dumps(plan).decode()
        with postgres_errors():
            while True:
                row = await self._pool.fetchrow(QUERIES["begin_request"], *arguments)
                if row is not None:
                    return _request(row, repeated=False)
                if found := await self.find(user_id, key):
                    return found

    async def finish(self, user_id: str, key: str, answer: bytes, promised: Positions | None) -> bytes:
        """Keep the answer and what it promised, and tell the one that is kept: that of whoever was first.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            token = None if promised is None else promised.encode()
            kept = await self._pool.fetchval(QUERIES["finish_request"], user_id, key, answer.decode(), token)
        return answer if kept is None else str(kept).encode()

    async def forget(self, user_id: str, key: str) -> None:
        """Keep nothing of a request.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            await self._pool.execute(QUERIES["forget_request"], user_id, key)


class BulkReader:
    """What batches ask of Postgres."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def owners(self, assessment_ids: Collection[str]) -> dict[str, str | None]:
        """Who owns each of several assessments, those that exist.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["owners"], list(assessment_ids))
        return {row["assessment_id"]: row["owner"] for row in rows}

    async def retryable(self, max_retries: int, *, owner: str | None, limit: int) -> list[tuple[str, int]]:
        """Failed assessments that were retried less than so often, with their versions, oldest first.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["retryable"], max_retries, owner, limit)
        return [(row["assessment_id"], row["version"]) for row in rows]

    async def outcomes(self, expected: Mapping[str, bytes]) -> dict[str, Settled]:
        """What became of several commands, those that are applied.

        Args:
            expected: command ids with the fingerprints of their contents.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            rows = await self._pool.fetch(QUERIES["bulk_outcomes"], list(expected))
        return {row["command_id"]: _settled(row, expected[row["command_id"]]) for row in rows}


def _request(row: asyncpg.Record, *, repeated: bool) -> BegunRequest:
    answer = None if row["answer"] is None else row["answer"].encode()
    promised = None if row["token"] is None else Positions.parse(row["token"])
    return BegunRequest(row["fingerprint"], orjson.loads(row["plan"]), answer, promised, repeated)


def _settled(row: asyncpg.Record, fingerprint: bytes) -> Settled:
    if not is_same_content(row["command_fingerprint"], fingerprint):
        return Rejection.idempotency_mismatch(row["command_id"])
    if row["new_version"] is not None:
        return int(row["new_version"])
    return Rejection(ErrorCode(row["code"]), row["message"])
