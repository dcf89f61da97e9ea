"""What `assessmentstore replay` does, each way of it as one function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..agents.topics import create_topics
from ..models.errors import UnavailableError
from ..settings import Settings
from ..store.encryption import KeyRing
from ..store.migrate import migrate
from ..store.postgres import open_pools
from ..store.rotation import Rotation
from .caches import forget_redis, rebuild_caches
from .errors import RecoveryError
from .fold import Until
from .log import complete_topics, end_transactions, refuse_beside_workers
from .progress import Progress
from .rebuild import rebuild
from .reseed import reseed
from .side import beside, create_schema, quoted

Answer = dict[str, Any]


async def replay_live(settings: Settings, progress: Progress) -> Answer:
    """Bring the live database, be it empty or of a backup, to where Kafka says that it was.

    Raises:
        RecoveryError: it cannot be; the message says what to do.
        UnavailableError: Postgres or Kafka is away.
    """
    await refuse_beside_workers(settings)
    await migrate(settings.database_url)
    made = await complete_topics(settings)
    await end_transactions(settings)
    rebuilt = await rebuild(settings, Until(), progress)
    answer: Answer = {"written": rebuilt.items, "positions": _by_name(rebuilt.positions)}
    if made:
        answer["topicsMadeAnew"] = made
    answer |= await _without_key(settings)
    try:
        await forget_redis(settings)
    except UnavailableError as error:
        answer["redis"] = f"not emptied ({error}): run assessmentstore replay --caches before a worker is started"
    if rebuilt.lost or rebuilt.unproved:
        words = "Postgres is rebuilt, but not every command can follow, or not every checkpoint fits:"
        raise RecoveryError("\n".join([words, *rebuilt.lost, *rebuilt.unproved]))
    return answer


async def replay_beside(settings: Settings, schema: str, until: Until, progress: Progress) -> Answer:
    """Build, in a schema of its own, what the database was at a moment.

    Raises:
        RecoveryError: it cannot be; the message says what to do.
        UnavailableError: Postgres or Kafka is away.
    """
    there = beside(settings, schema)
    if strange := [partition for partition in until.offsets if partition >= settings.topic_partitions]:
        raise RecoveryError(f"there is no partition {strange[0]}: the topics have {settings.topic_partitions}")
    await create_schema(settings, schema, until)
    await migrate(there.database_url)
    rebuilt = await rebuild(there, until, progress)
    if rebuilt.unproved:
        raise RecoveryError("\n".join([f"The schema {schema} is built, but:", *rebuilt.unproved]))
    return {
        "written": rebuilt.items,
        "positions": _by_name(rebuilt.positions),
        "query": f"SELECT * FROM {quoted(schema)}.assessment_states",
        "drop": f"DROP SCHEMA {quoted(schema)} CASCADE",
        **await _without_key(there),
    }


async def replay_caches(settings: Settings, progress: Progress) -> Answer:
    """Fill Redis and the tables of stopped workers anew.

    Raises:
        RecoveryError: a worker has its tables open.
        UnavailableError: Postgres or Redis is away.
    """
    return dict(await rebuild_caches(settings, progress))


async def replay_to_kafka(settings: Settings, progress: Progress) -> Answer:
    """Fill Kafka's topics anew from the audit trail.

    Raises:
        RecoveryError: it cannot be; the message says what to do.
        SettingsError: a topic has another number of partitions.
        UnavailableError: Postgres or Kafka is away.
    """
    await create_topics(settings)
    await refuse_beside_workers(settings)
    done = await reseed(settings, progress)
    return asdict(done)


async def _without_key(settings: Settings) -> Answer:
    """What has to be said of payloads that came back under keys that are not here; nothing where there are none."""
    keys = KeyRing.of(settings)
    async with open_pools(settings, application="assessmentstore replay") as pools:
        found = await Rotation(pools.read, keys).count()
    counts: Counter[str] = Counter()
    for (_, key), count in found.items():
        if key is not None and keys.standing(key) == "missing":
            counts[key] += count
    if not counts:
        return {}
    advice = "they are as the topics have them; add these keys to ASSESSMENTSTORE_ENCRYPTION_KEYS to read them"
    return {"unreadable": {"keys": dict(counts), "advice": advice}}


def _by_name(positions: Mapping[int, int]) -> dict[str, int]:
    """As the members of a JSON object."""
    return {str(partition): position for partition, position in sorted(positions.items())}
