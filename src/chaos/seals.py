"""What hashes and signatures say of an installation's audit trail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..models.checkpoints import Checkpoint
from ..store.audit import AuditReader
from ..store.postgres import open_read_pool
from ..store.signing import trusted_keys
from .installation import Installation
from .topics import read_topic


async def evidence_against(installation: Installation) -> list[str]:
    """All that does not fit: rows, chains, checkpoints, and the checkpoints that were published."""
    settings = installation.settings
    # First the topic: what is on it is in Postgres, and the newest in Postgres may be on its way.
    published = await read_topic(settings, settings.checkpoints_topic, settings.topic_partitions)
    async with open_read_pool(settings, settings.database_url, "evidence") as pool:
        reader = AuditReader(pool)
        faults = [fault async for fault in reader.check(trusted_keys(settings).verify)]
        made = await reader.checkpoints(None, None)
    for partition, records in published.items():
        wanted = [document for document in made["checkpoints"] if document["partition"] == partition]
        told = [Checkpoint.from_json(record.value or b"").to_wire() for record in records]
        faults += _check_published(partition, told, wanted)
    return faults


def _check_published(partition: int, told: Sequence[object], made: Sequence[object]) -> Iterable[str]:
    """Each checkpoint once, in order, and none is left out but those that came meanwhile."""
    if told != made[: len(told)]:
        yield f"the checkpoints of partition {partition} are published as {told}, and kept as {made}"
