"""The replicas of Postgres: which are well, and how fresh each is.

A replica is *fresh as of* a moment when it has replayed all of the log that the primary had at that moment. This is
measured against the primary's log and not by `pg_last_xact_replay_timestamp`, which stands still while nobody writes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import asyncpg

from ..models.errors import UnavailableError
from ..settings import Settings
from ..telemetry import READ_FALLBACKS, REPLICA_LAG
from .patience import within
from .postgres import Pool, open_read_pool, postgres_errors
from .queries import QUERIES

logger = logging.getLogger(__name__)

# What a reader without a token may miss: longer than a vacuum or a big batch holds a healthy replica up.
_MOST_LAG_SECONDS = 5.0

_PROBE_SECONDS = 1.0

# A primary that has not answered for so long is away; reads without a token then go on with what the replicas have.
_SILENCE_SECONDS = 3.0

# An hour of probes: a replica that is further behind has no lag that could be told.
_SAMPLES = 3600

_NEVER = float("-inf")


class Replica:
    """One replica, and what is known of it."""

    def __init__(self, number: int, pool: Pool) -> None:
        self.number = number
        self.pool = pool
        self.fresh_as_of = _NEVER
        self.fault = "it was not looked at yet"
        """Why it is not to be read, whatever its lag; nothing where it is well."""
        self.told = ""
        """Why it is out of use, as the operator was told last."""
        REPLICA_LAG.labels(str(number)).set_function(lambda: self.lag)

    @property
    def lag(self) -> float:
        """Seconds that its state may be old by now."""
        return time.monotonic() - self.fresh_as_of


class Replicas:
    """All replicas of one primary, under watch."""

    def __init__(self, primary: Pool, pools: Iterable[Pool] = ()) -> None:
        self._primary = primary
        self._replicas = list(itertools.starmap(Replica, enumerate(pools)))
        self.are_any = bool(self._replicas)
        self._turn = itertools.count()
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._identity: tuple[Any, ...] = ()

    async def watch(self) -> None:
        """Look after the primary's log and the replicas, until cancelled."""
        probes = (_every_second(partial(self._probe, replica)) for replica in self._replicas)
        await asyncio.gather(_every_second(self._sample), *probes)

    def usable(self) -> list[Replica]:
        """Those that may be read, another one first each time."""
        usable = [replica for replica in self._replicas if self._is_usable(replica)]
        first = next(self._turn) % len(usable) if usable else 0
        return usable[first:] + usable[:first]

    def failed(self, replica: Replica, error: Exception) -> None:
        """Leave a replica alone until a probe finds it well; a query that was in the way of replay is no fault."""
        READ_FALLBACKS.labels("failed").inc()
        if not isinstance(error.__cause__, asyncpg.SerializationError):
            self._judge(replica, f"a read failed: {error!r}")

    def health(self) -> list[dict[str, Any]]:
        """Each replica as `/health` tells of it; without a lag where it was never fresh."""
        return [
            {
                "number": replica.number,
                "healthy": self._is_usable(replica),
                "lagSeconds": None if replica.fresh_as_of == _NEVER else round(replica.lag, 1),
            }
            for replica in self._replicas
        ]

    def _is_usable(self, replica: Replica) -> bool:
        if replica.fault or not self._samples:
            return False
        now, seen = time.monotonic(), self._samples[-1][0]
        # While the primary is away nobody is fresher than what followed it to the end.
        present = now if now - seen <= _SILENCE_SECONDS else seen
        return present - replica.fresh_as_of <= _MOST_LAG_SECONDS

    async def _sample(self) -> None:
        """Take down how long the primary's log is: at the moment before it was asked, it was no longer."""
        asked = time.monotonic()
        row = await _ask(self._primary, QUERIES["primary_position"])
        self._identity = (row["system_identifier"], row["database"])
        self._samples.append((asked, row["position"]))

    async def _probe(self, replica: Replica) -> None:
        """See whether a replica is one of ours, and how fresh it is."""
        try:
            row = await _ask(replica.pool, QUERIES["replica_position"])
        except UnavailableError as error:
            self._judge(replica, str(error))
            return
        reached = (asked for asked, position in reversed(self._samples) if position <= row["position"])
        replica.fresh_as_of = next(reached, _NEVER)
        if not row["is_replica"]:
            self._judge(replica, "it is no replica, or no longer one: it takes writes of its own")
        elif self._identity != (row["system_identifier"], row["database"]):
            self._judge(replica, "it is a replica of another database, or the primary was not seen yet")
        else:
            self._judge(replica, "")

    def _judge(self, replica: Replica, fault: str) -> None:
        """Keep a verdict, and tell the operator where it is another than before."""
        replica.fault = fault
        told = fault or ("" if self._is_usable(replica) else f"it is more than {_MOST_LAG_SECONDS:g} s behind")
        if bool(told) != bool(replica.told):
            level, words = (logging.WARNING, f"out of use: {told}") if told else (logging.INFO, "in use")
            logger.log(level, "Replica %d is %s", replica.number, words, extra={"action": "replica_judged"})
        replica.told = told


@asynccontextmanager
async def open_replicas(settings: Settings, primary: Pool, *, application: str) -> AsyncIterator[Replicas]:
    """Open a pool for each replica of the settings; they connect when first used.

    Raises:
        SettingsError: DATABASE_REPLICA_URLS cannot be understood.
    """
    async with AsyncExitStack() as stack:
        opening = [open_read_pool(settings, url, f"{application} replica") for url in settings.replica_urls]
        yield Replicas(primary, [await stack.enter_async_context(pool) for pool in opening])


async def _ask(pool: Pool, query: str) -> asyncpg.Record:
    try:
        with postgres_errors():
            (row,) = await within(_PROBE_SECONDS, pool.fetch(query))
            return row
    except (TimeoutError, asyncpg.PostgresError) as error:
        raise UnavailableError(f"Postgres does not tell its position: {error!r}") from error


async def _every_second(probe: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await probe()
        except UnavailableError as error:
            logger.debug("A probe found nobody: %s", error, extra={"action": "probe_failed"})
        await asyncio.sleep(_PROBE_SECONDS)
