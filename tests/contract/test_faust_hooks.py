"""The private parts of Faust and aiokafka that the agents lean on are there, in the pinned versions."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiokafka
import faust
import mode
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import IllegalOperation, IllegalStateError, KafkaError, ProducerFenced
from aiokafka.producer import sender
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.structs import ConsumerRecord
from faust.app.base import App
from faust.tables import TableManager
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import ConsumerMessage
from faust.web.drivers import aiohttp as aiohttp_driver

import assessmentstore.agents.publisher  # noqa: F401 - it sets the pause between transactions
from assessmentstore.agents.prompt import PromptWorker
from assessmentstore.agents.records import FetchedRecord, _SlowBatch

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}

# What we override or call, and the parameters that we name or are called with.
SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (App._new_transport, ["self"]),
    (App.on_first_start, ["self"]),
    (App.on_webserver_init, ["self", "web"]),
    (App.on_stop, ["self"]),
    (App.on_shutdown, ["self"]),
    (mode.Service.crash, ["self", "reason"]),
    (
        faust.Schema.compile,
        ["self", "app", "on_key_decode_error", "on_value_decode_error", "default_propagate"],
    ),
    (TableManager.on_start, ["self"]),
    (TableManager._update_channels, ["self"]),
    (mode.Worker._sentinel_task, ["self"]),
    (driver.Consumer._new_consumer_thread, ["self"]),
    (driver.AIOKafkaConsumerThread._create_worker_consumer, ["self", "transport"]),
    (driver.AIOKafkaConsumerThread._ensure_consumer, ["self"]),
    (driver.AIOKafkaConsumerThread._commit, ["self", "offsets"]),
    (mode.threads.QueueServiceThread.call_thread, ["self", "fun", "args", "kwargs"]),
    (faust_consumer.ThreadDelegateConsumer._getmany, ["self", "active_partitions", "timeout"]),
    (faust_consumer.Consumer._drain_messages, ["self", "fetcher"]),
    (faust_consumer.Consumer.on_partitions_assigned, ["self", "assigned", "generation_id"]),
    (faust_consumer.Consumer.on_partitions_revoked, ["self", "revoked"]),
    (faust_consumer.Consumer.perform_seek, ["self"]),
    (faust_consumer.Consumer.stop_flow, ["self"]),
    (faust_consumer.Consumer.commit, ["self", "topics", "start_new_transaction"]),
    (faust_consumer.Consumer._filter_tps_with_pending_acks, ["self", "topics"]),
    (faust_consumer.Consumer._new_offset, ["self", "tp"]),
    (faust_consumer.Consumer.verify_event_path, ["self", "now", "tp"]),
    (faust_consumer.ThreadDelegateConsumer.highwater, ["self", "tp"]),
    (GroupCoordinator._do_heartbeat, ["self"]),
    (GroupCoordinator.request_rejoin, ["self"]),
    (Fetcher.fetched_records, ["self", "partitions", "timeout", "max_records"]),
    (aiokafka.AIOKafkaConsumer.seek, ["self", "partition", "offset"]),
    (aiokafka.AIOKafkaConsumer.commit, ["self", "offsets"]),
    (aiokafka.AIOKafkaProducer.create_batch, ["self"]),
    (aiokafka.AIOKafkaProducer.send_batch, ["self", "batch", "topic", "partition"]),
    (aiokafka.AIOKafkaProducer.begin_transaction, ["self"]),
    (aiokafka.AIOKafkaProducer.commit_transaction, ["self"]),
    (aiokafka.AIOKafkaProducer.send_offsets_to_transaction, ["self", "offsets", "group_id"]),
    (aiokafka.producer.message_accumulator.BatchBuilder.append, ["self", "timestamp", "key", "value", "headers"]),
    (AIOKafkaAdminClient.list_consumer_group_offsets, ["self", "group_id", "group_coordinator_id", "partitions"]),
    (AIOKafkaAdminClient.describe_topics, ["self", "topics"]),
    (AIOKafkaClient.close, ["self"]),
]


@pytest.mark.parametrize(("package", "pinned"), PINNED.items())
def test_the_version_is_the_one_that_these_hooks_were_read_in(package: str, pinned: str) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (wanted,) = (item for item in project["dependencies"] if item.startswith(package))

    assert wanted.endswith(f"=={pinned}")
    assert version(package) == pinned


@pytest.mark.parametrize(("hook", "names"), SIGNATURES, ids=lambda item: getattr(item, "__qualname__", ""))
def test_a_hook_has_the_parameters_that_we_rely_on(hook: Callable[..., Any], names: list[str]) -> None:
    assert list(inspect.signature(hook).parameters) == names


def test_messages_take_the_fields_that_a_record_batch_travels_in() -> None:
    fields = list(inspect.signature(ConsumerMessage).parameters)

    assert fields[:12] == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "timestamp_type",
        "headers",
        "key",
        "value",
        "checksum",
        "serialized_key_size",
        "serialized_value_size",
        "tp",
    ]
    assert "generation_id" in fields


def test_the_transport_takes_our_consumer() -> None:
    assert driver.Transport.Consumer is driver.Consumer
    assert issubclass(driver.Consumer, faust_consumer.ThreadDelegateConsumer)
    assert "self._thread = self._new_consumer_thread()" in inspect.getsource(faust_consumer.ThreadDelegateConsumer)


def test_the_fetcher_calls_what_we_override() -> None:
    assert "consumer._drain_messages(self)" in inspect.getsource(faust_consumer.Fetcher)
    assert aiokafka.ConsumerStoppedError in driver.Consumer.consumer_stopped_errors


def test_a_commit_asks_for_offsets_in_the_way_that_we_answer() -> None:
    source = inspect.getsource(faust_consumer.Consumer)

    assert "self._filter_tps_with_pending_acks(topics)" in source
    assert "self._new_offset(tp)" in source


async def test_a_consumer_keeps_its_options_where_we_set_them() -> None:
    consumer = aiokafka.AIOKafkaConsumer(isolation_level="read_committed", fetch_max_wait_ms=7)

    assert (consumer._isolation_level, consumer._fetch_max_wait_ms) == ("read_committed", 7)
    source = inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    assert "isolation_level=self._isolation_level" in source
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source


def test_the_worker_waits_a_second_at_its_start_and_its_end_unless_we_say_otherwise() -> None:
    """What stands around the waits is what we do without them."""
    began = inspect.getsource(TableManager.on_start)
    assert re.findall(r"await (.+)", began) == [
        "self.sleep(1.0)",
        "self._update_channels()",
        "self.recovery.start()",
    ]
    assert re.findall(r"await (.+)", inspect.getsource(mode.Worker._sentinel_task)) == ["asyncio.sleep(1.0)"]
    assert "manager = self.conf.TableManager(" in inspect.getsource(App)


async def test_the_end_of_a_worker_waits_for_what_was_cancelled() -> None:
    tidied = False

    async def work() -> None:
        nonlocal tidied
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            tidied = True

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()

    await object.__new__(PromptWorker)._sentinel_task()

    assert (task.done(), tidied) == (True, True)


def test_the_consumer_has_its_coordinator_where_we_look_for_it() -> None:
    assert "self._coordinator = GroupCoordinator(" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    assert "self.generation = " in inspect.getsource(GroupCoordinator)


def test_the_fetcher_reads_batches_through_a_name_that_can_be_replaced() -> None:
    source = inspect.getsource(fetcher)

    assert "records = MemoryRecords(part_data[-1])" in source
    assert "for record in next_batch:" in source
    assert set(re.findall(r"records\.(\w+)\(", source)) >= {"has_next", "next_batch", "size_in_bytes"}


def test_a_batch_read_in_python_is_what_a_compiled_one_is() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 100_000)
    for number, value in enumerate([b"one", None, b""]):
        builder.append(number, 1000 + number, b"key", value, [("h\u00fc", b"v"), ("none", None)])
    raw = bytes(builder.build())

    read = [list(batch) for batch in (DefaultRecordBatch(raw), _SlowBatch(raw))]

    fields = ("offset", "timestamp", "timestamp_type", "key", "value", "headers")
    compiled, slow = ([tuple(getattr(record, field) for field in fields) for record in records] for records in read)
    assert slow == compiled


def test_the_pause_between_transactions_is_a_name_that_can_be_replaced() -> None:
    assert "return BACKOFF_OVERRIDE" in inspect.getsource(sender.AddPartitionsToTxnHandler.handle_response)
    assert sender.BACKOFF_OVERRIDE == 0.005


def test_a_new_topic_lets_its_replication_factor_be_set() -> None:
    topic = NewTopic("name", 1, 1)
    topic.replication_factor = -1

    assert topic.replication_factor == -1


def test_only_illegal_operation_is_no_kafka_error() -> None:
    """`kafka_errors` names it for that reason."""
    assert issubclass(ProducerFenced, KafkaError)
    assert issubclass(IllegalStateError, KafkaError)
    assert not issubclass(IllegalOperation, KafkaError)


def test_the_stream_does_not_acknowledge_what_it_yields_by_itself() -> None:
    assert "enable_acks=False" in inspect.getsource(faust.Stream.noack)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_of_kafka_can_be_read(codec: str) -> None:
    assert getattr(aiokafka.codec, f"has_{codec}")()


def test_a_fetched_record_has_the_fields_of_aiokafkas_own_in_their_order() -> None:
    own = [field.name for field in dataclasses.fields(ConsumerRecord)]

    assert list(FetchedRecord._fields) == own


def test_the_workers_web_runs_what_stands_in_its_runner() -> None:
    assert "self._runner" in inspect.getsource(aiohttp_driver.Web._new_transport_tcp)
    assert "self._runner.setup()" in inspect.getsource(aiohttp_driver.Web.start_server)
    assert "self._runner.cleanup()" in inspect.getsource(aiohttp_driver.Web.stop_server)
