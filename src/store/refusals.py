"""The audit of refused requests in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from uuid import UUID

from .postgres import Pool, postgres_errors
from .queries import QUERIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One request that was refused; the fields stand in the order of the statement."""

    id: UUID
    at: datetime
    user_id: str | None
    roles: str
    """With spaces between."""
    method: str
    route: str
    assessment_id: str | None
    status: int
    code: str
    message: str
    remote_address: str
    user_agent: str | None
    trace_id: str


class RefusalStore:
    """Where refusals are kept, for a while."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def write(self, refusals: Sequence[Refusal]) -> None:
        """Keep refusals; twice does no harm.

        Raises:
            UnavailableError: Postgres is away.
        """
        columns = zip(*map(astuple, refusals), strict=True)
        with postgres_errors():
            await self._pool.execute(QUERIES["write_refusals"], *map(list, columns))

    async def forget(self, before: datetime, at_most: int) -> int:
        """Delete some of the refusals from before a time, and say how many.

        Raises:
            UnavailableError: Postgres is away.
        """
        with postgres_errors():
            return len(await self._pool.fetch(QUERIES["forget_refusals"], before, at_most))
