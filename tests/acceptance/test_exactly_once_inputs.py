"""Whatever arrives on the commands topic, the worker goes on, and each record is told where it belongs."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from tests.harness.installation import Installation
from tests.harness.judge import assert_exactly_once, settled
from tests.harness.load import open_sender
from tests.harness.worker import Cluster

from assessmentstore.agents import records
from assessmentstore.chaos.messages import Message, command, create, invalid, junk
from assessmentstore.chaos.topics import read_topic


async def test_every_bad_record_lands_where_it_belongs_and_the_next_command_is_applied(cluster: Cluster) -> None:
    worker = cluster.start()
    numbered = enumerate([*junk("x", "bad"), *invalid("x", "bad")])
    messages = [message for number, bad in numbered for message in (bad, create(f"after-{number}", f"a{number}"))]

    async with open_sender(cluster.installation) as sender:
        for message in messages:
            await sender.send(message)

    await assert_exactly_once(cluster.installation, sent=sender.sent)
    assert worker.returncode is None


async def test_bad_records_in_one_batch_do_not_spoil_each_other(cluster: Cluster) -> None:
    messages = [*junk("y", "bad", large=False), create("c1", "bad"), *invalid("y", "bad", large=False)]
    async with open_sender(cluster.installation) as sender:
        await sender.send(*messages, command("s1", "start", "bad"), *messages)

    worker = cluster.start()

    await assert_exactly_once(cluster.installation, sent=sender.sent)
    assert worker.returncode is None


async def test_each_reason_says_what_is_wrong(cluster: Cluster) -> None:
    cluster.start()
    expected = {
        "bad JSON": "not JSON",
        "missing key": "no key",
        "unknown command": "not one of the seven commands",
        "null byte in the id": "null byte",
        "id of 300 characters": "300 characters",
        "far too deep": "not JSON",
    }
    messages = {message.what: message for message in junk("z", "bad", large=False)}
    async with open_sender(cluster.installation) as sender:
        places = await sender.send(*(messages[what] for what in expected))
    await settled(cluster.installation)

    letters = (await read_topic(cluster.installation.settings, cluster.installation.settings.dead_letters_topic, 1))[0]

    reasons = {
        (int(letter.header("partition") or -1), int(letter.header("offset") or -1)): letter for letter in letters
    }
    for place, (what, words) in zip(places, expected.items(), strict=True):
        assert words in (reasons[place].header("reason") or ""), what


async def test_compressed_commands_are_commands(cluster: Cluster) -> None:
    """Producers compress as they like; a codec that the worker lacks would stop it for good."""
    worker = cluster.start()
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        messages = [create(f"{codec}-c{number}", f"{codec}-a{number}") for number in range(50)]
        await _send(cluster.installation, messages, codec=codec)

    await assert_exactly_once(cluster.installation)

    assert worker.returncode is None


async def test_commands_of_an_aborted_transaction_are_none(cluster: Cluster) -> None:
    worker = cluster.start()
    settings = cluster.installation.settings
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, transactional_id=f"{settings.app_id}-test")
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(settings.commands_topic, **_arguments(create("aborted", "aborted")))
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(settings.commands_topic, **_arguments(create("committed", "committed")))
    finally:
        await producer.stop()
    async with open_sender(cluster.installation) as sender:
        await sender.send(*(create(f"c{number}", f"a{number}") for number in range(40)))

    await assert_exactly_once(cluster.installation, sent=sender.sent)

    assert worker.returncode is None


async def test_a_header_name_that_is_no_text_does_not_stop_the_worker(cluster: Cluster) -> None:
    """Kafka itself does not mind what the bytes of a name are."""
    records.install()  # for the judge, who reads the topic too
    worker = cluster.start()
    settings = cluster.installation.settings
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder = _OddHeaderName(2, 0, 0, -1, -1, 0, 100_000)
        batch.append(timestamp=None, **_arguments(create("odd", "odd")) | {"headers": [("QQQQ", b"x")]})
        await (await producer.send_batch(batch, settings.commands_topic, partition=0))
    finally:
        await producer.stop()

    async with open_sender(cluster.installation) as sender:
        await sender.send(*(create(f"c{number}", f"a{number}") for number in range(40)))

    await assert_exactly_once(cluster.installation)
    assert worker.returncode is None


class _OddHeaderName(_DefaultRecordBatchBuilderPy):  # type: ignore[misc]
    """Writes a name that no client of ours would write."""

    _buffer: bytearray

    def build(self) -> Any:
        self._buffer = bytearray(bytes(self._buffer).replace(b"QQQQ", b"\xff\xfe\xfd\xfc"))
        return super().build()


def _arguments(message: Message) -> dict[str, object]:
    return {"key": message.key, "value": message.value, "headers": message.all_headers()}


async def _send(installation: Installation, messages: list[Message], *, codec: str) -> None:
    settings = installation.settings
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap, compression_type=codec, linger_ms=20)
    await producer.start()
    try:
        await asyncio.gather(
            *(producer.send_and_wait(settings.commands_topic, **_arguments(message)) for message in messages)
        )
    finally:
        await producer.stop()
