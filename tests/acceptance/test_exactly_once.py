"""A command that comes again, whenever and however often, is answered as it was the first time."""

from __future__ import annotations

from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import open_sender
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import command, create
from assessmentstore.store.cache import SharedCache, reply_channel
from assessmentstore.store.postgres import open_pools
from assessmentstore.store.reads import OutcomeReader
from assessmentstore.store.redis import open_redis
from assessmentstore.store.replies import Outcome, read_reply


async def test_every_duplicate_gets_the_first_answer(cluster: Cluster) -> None:
    """Accepted or refused, at once or much later, whatever became of the assessment since."""
    cluster.start()
    installation = cluster.installation
    accepted = command("start", "start", "a", replyto="me")
    refused = command("retry", "retry", "a", replyto="me")
    async with (
        open_sender(installation) as sender,
        open_redis(installation.settings) as redis,
        open_pools(installation.settings, application="test") as pools,
    ):
        replies = SharedCache(redis, installation.settings.topic_prefix).messages(reply_channel("me"))
        await anext(replies)

        await sender.send(create("create", "a"), refused, accepted, accepted, refused)
        await settled(installation)
        await sender.send(command("fail", "fail", "a", {"error": "broken"}), accepted, refused)

        outcomes = OutcomeReader(pools.read)
        answers: dict[str, list[Outcome]] = {"start": [], "retry": []}
        async for _, message in replies:
            (command_id, fingerprint), answer = read_reply(message)
            found = answer if answer is not None else await outcomes.get(command_id, fingerprint)
            assert found is not None
            answers[command_id].append(found)
            if sum(map(len, answers.values())) == 6:
                break

    for first, *others in answers.values():
        assert others == [first, first]
    await assert_exactly_once(installation, sent=sender.sent)
