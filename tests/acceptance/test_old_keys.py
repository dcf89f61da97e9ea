"""A key is gone, and with it what the topics have under it: only those values cannot be read, and they are told."""

from __future__ import annotations

import pytest
from pydantic import SecretStr
from tests.harness.installation import Installation
from tests.harness.judge import settled
from tests.harness.load import open_sender
from tests.harness.recovery import Unseen, lose_database
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import command, create
from assessmentstore.models.sealed import UNREADABLE
from assessmentstore.recovery.replay import replay_live
from assessmentstore.settings import Settings
from assessmentstore.store.encryption import KeyRing, generate
from assessmentstore.store.postgres import open_pools, record_from_row
from assessmentstore.store.rotation import Rotation

K1, K2 = generate("k1"), generate("k2")


@pytest.mark.settings(encryption_keys=SecretStr(K1))
async def test_a_replay_without_the_old_key_brings_everything_back_and_tells_what_cannot_be_read(
    cluster: Cluster, installation: Installation, services: Settings
) -> None:
    """Rotation had encrypted Postgres anew, and the old key was removed: the topics are as they were."""
    settings, worker = installation.settings, cluster.start()
    async with open_sender(installation) as sender:
        await sender.send(create("c1", "a1"), create("c2", "a2"), command("c3", "start", "a1"))
        await sender.send(command("c4", "complete", "a1", {"result": {"overallScore": 7}}))
    await settled(installation)
    await worker.stop()
    new = settings.model_copy(update={"encryption_keys": SecretStr(K2)})
    both = settings.model_copy(update={"encryption_keys": SecretStr(f"{K2},{K1}")})
    await rotate(both)
    await lose_database(installation, services)

    answer = await replay_live(new, Unseen())

    assert answer["unreadable"]["keys"] == {"k1": 6}, "two requests and a result, as states and as events"
    assert "ENCRYPTION_KEYS" in answer["unreadable"]["advice"]
    assert UNREADABLE in await requested(new, "a1")
    assert UNREADABLE not in await requested(both, "a1")
    await rotate(both)
    assert UNREADABLE not in await requested(new, "a1")
    assert "unreadable" not in await replay_live(new, Unseen())


async def rotate(settings: Settings) -> None:
    async with open_pools(settings, application="tests") as pools:
        done = await Rotation(pools.write, KeyRing.of(settings)).run(lambda _: None)
    assert (done.unreadable, done.passed_over) == (0, 0)


async def requested(settings: Settings, assessment_id: str) -> dict[str, object]:
    """The request of an assessment, as far as these settings can read it."""
    async with open_pools(settings, application="tests") as pools:
        row = await pools.read.fetchrow("SELECT * FROM assessment_states WHERE assessment_id = $1", assessment_id)
    assert row is not None
    return KeyRing.of(settings).open_record(record_from_row(row)).request_data
