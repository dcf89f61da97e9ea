"""What `assessmentstore verify` does: every copy of every assessment against every other.

1. Log       against the audit trail and the states in Postgres (verify_log)
2. Counters  against the states
3. Caches    against Postgres, but for those assessments where Postgres and the log disagree (verify_caches)
4. Repair    where that is asked for: caches forget what is wrong, and are looked at again; truth is never touched
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..models.comparison import Difference, Field, Store, ids_of
from ..settings import Settings
from ..store.cache import SharedCache
from ..store.encryption import KeyRing
from ..store.moment import one_moment
from ..store.postgres import Pool, open_pools
from ..store.redis import open_redis
from ..store.table import StateTable
from .findings import Findings
from .progress import Progress
from .rebuild import announce
from .scratch import open_scratch
from .verify_caches import CacheCheck
from .verify_log import LogCheck

_IDS_AT_ONCE = 500

# A worker hears of what it has to forget within milliseconds.
_HEARING_SECONDS = 2.0

Answer = dict[str, Any]


async def verify(
    settings: Settings, *, repair: bool, tell: Callable[[Difference], None], progress: Progress
) -> tuple[Findings, Answer]:
    """Compare, mend caches where that is asked for, and say what there was.

    Args:
        settings: of the installation.
        repair: whether caches are to be mended.
        tell: hears of each difference as soon as it is found.
        progress: of the whole.

    Returns:
        What was found, without what was mended; and the same in words.

    Raises:
        RecoveryError: a topic is missing, or has a record that cannot be read.
        UnavailableError: a service is away.
    """
    findings, keys = Findings(settings.topic_partitions, tell), KeyRing.of(settings)
    await announce(settings, progress, events_only=True)
    async with open_pools(settings, application="assessmentstore verify") as pools, open_redis(settings) as redis:
        cache = SharedCache(redis, settings.topic_prefix)
        with open_scratch(settings.data_dir) as scratch:
            log = LogCheck(settings, pools.read, scratch, findings, keys, progress)
            await log.run()
            await _check_counters(pools.read, findings)
            check = CacheCheck(settings, pools.read, cache, findings, keys, log, progress)
            await check.run()
            answer = _found(findings, len(check.tables))
            if repair:
                answer |= await _repair(check, cache, findings)
    return findings, answer | {"advice": advice(findings)}


async def _check_counters(pool: Pool, findings: Findings) -> None:
    async with one_moment(pool) as moment:
        for kind, expected, found in await moment.wrong_counters():
            findings.add(Store.POSTGRES, 0, None, [Field(f"/counters/{kind}", expected, found)])


async def _repair(check: CacheCheck, cache: SharedCache, findings: Findings) -> Answer:
    """Step 4: what is forgotten is loaded from Postgres when it is next needed."""
    wrong = findings.of(Store.REDIS, Store.ROCKSDB)
    left_over = {key for keys in findings.left_over.values() for key in keys}
    ids = [*ids_of(wrong), *sorted(left_over)]
    for first in range(0, len(ids), _IDS_AT_ONCE):
        piece = ids[first : first + _IDS_AT_ONCE]
        # Whoever runs forgets too: workers what is in their tables, web processes what is in their memory.
        await cache.evict(piece)
        _evict_from_idle_tables(check.wrong_tables, piece)
    for each in wrong:
        if each.store is Store.REDIS and each.assessment_id is None:
            await cache.forget_position(each.partition)
    if ids:
        await asyncio.sleep(_HEARING_SECONDS)
    remaining = await check.still_wrong(wrong)
    findings.differences = [*findings.of(Store.POSTGRES), *remaining]
    for keys in findings.left_over.values():
        keys.clear()
    mended = [each for each in wrong if each not in remaining]
    told = [{"store": each.store, "assessmentId": each.assessment_id, "field": each.field.pointer} for each in mended]
    return {"mended": told, "forgotten": len(ids), "notMended": len(remaining)}


def _evict_from_idle_tables(paths: Iterable[Path], ids: Sequence[str]) -> None:
    """Forget assessments in the tables that nobody has open."""
    for path in paths:
        try:
            table = StateTable(path)
        except Exception:  # noqa: S112 - whoever has it open has heard of it; RocksDB's binding has no class of its own
            continue
        with closing(table):
            table.evict(ids)


def _found(findings: Findings, tables: int) -> Answer:
    return {
        "differences": len(findings.differences),
        "assessments": len(ids_of(findings.differences)),
        "notComparable": findings.not_comparable,
        "notes": findings.notes,
        "leftOver": {store.value: len(keys) for store, keys in findings.left_over.items()},
        "tables": tables,
        "partitions": {str(number): each.to_wire() for number, each in findings.partitions.items()},
    }


def advice(findings: Findings) -> list[str]:
    """What mends each kind of difference, fit for a shell whatever ids there are."""
    truth = findings.of(Store.POSTGRES)
    told = []
    if findings.of(Store.REDIS, Store.ROCKSDB) or any(findings.left_over.values()):
        told.append("caches: assessmentstore verify --repair")
    if any(each.field.pointer == "/position" for each in truth):
        told.append("Postgres is behind what is published: stop the workers, and run assessmentstore replay")
    if ids := ids_of(truth):
        options = " ".join(f"--assessment {shlex.quote(key)}" for key in ids[:_IDS_AT_ONCE])
        told.append(
            "Postgres is not what the log says: find out why, export what there is, stop the workers, and run"
            f" assessmentstore replay {options} (docs/verify.md)"
        )
    if any(each.field.pointer.startswith("/counters/") for each in truth):
        told.append("counters: once the states are right, SELECT rebuild_totals(), while no worker runs")
    return told
