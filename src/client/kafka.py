"""Subscriptions over Kafka: at least once, for every committed event, across crashes of the subscriber."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from ..models.events import EventType, event_from_json
from ..models.sealed import UnreadableError
from ..store.encryption import NO_KEYS, KeyRing
from .errors import DeliveryError
from .subscriptions import Handler, OnError, Subscription, end_task, id_of, run_task

logger = logging.getLogger(__name__)

_POLL_MILLISECONDS = 500

# What is handled again after a crash, at the most, of each round.
_RECORDS_A_ROUND = 100


class KafkaSubscriber:
    """A member of a consumer group that hands change events to handlers; use it in `async with`.

    Each event comes at least once, and those of one assessment in the order of their versions: an offset is committed
    when every handler of this process has succeeded. `event.id` is the same whenever an event comes again. Subscribers
    of one group share the events; those of another group get all of them once more.
    """

    def __init__(
        self, bootstrap: str, group: str, *, topic_prefix: str = "", keys: KeyRing = NO_KEYS, **options: Any
    ) -> None:
        """Describe it.

        Args:
            bootstrap: brokers, `host:port` with commas between.
            group: the consumer group, which remembers how far it is.
            topic_prefix: of the installation.
            keys: that payloads are opened with, where they are encrypted; without, they come as they are.
            options: more of aiokafka's consumer, such as for TLS.
        """
        self._topic = f"{topic_prefix}assessment.events"
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "group_id": group,
            "auto_offset_reset": "earliest",
            **options,
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
        }
        self._keys = keys
        self._active: dict[str, Subscription] = {}
        self._handled: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await end_task(self._task)
        self._active.clear()

    async def subscribe(
        self, types: Collection[EventType | str], handler: Handler, on_error: OnError | None = None
    ) -> Subscription:
        """Call a handler for each event, from where the group is; a new group begins with the oldest.

        Args:
            types: that it gets; an empty collection is all.
            handler: a coroutine function, or another one, which runs in a thread. It is called again where it fails.
            on_error: takes what failed for good, and the subscription goes on. Without it, that ends all
                subscriptions of this subscriber, and nothing is committed: the event comes again.

        Raises:
            KafkaError: the brokers do not answer.
        """
        subscription = Subscription(frozenset(map(EventType, types)), handler, on_error)
        if self._task is None:
            consumer = await self._consumer()
            self._active[subscription.id] = subscription
            self._task = run_task(self._active.values, self._run(consumer))
        self._active[subscription.id] = subscription
        subscription.task = self._task
        return subscription

    async def unsubscribe(self, which: Subscription | str) -> bool:
        """Hand nothing more to a handler; whether there was such a subscription.

        What it is working on comes to its end. With the last subscription, nothing is consumed any more.
        """
        subscription = self._active.pop(id_of(which), None)
        if subscription is None:
            return False
        subscription.active = False
        return True

    async def commit(self, consumer: AIOKafkaConsumer) -> None:
        """Let the group know how far the handlers are; what it does not learn comes again."""
        own = consumer.assignment()
        self._handled = {place: offset for place, offset in self._handled.items() if place in own}
        try:
            if self._handled:
                await consumer.commit(self._handled)
            self._handled.clear()
        except KafkaError as error:
            logger.warning("Offsets were not committed: %r", error, extra={"action": "commit_failed"})

    async def _consumer(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(**self._options)
        consumer.subscribe([self._topic], listener=_Handover(self, consumer))
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        return consumer

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        try:
            while self._active:
                batches = await consumer.getmany(timeout_ms=_POLL_MILLISECONDS, max_records=_RECORDS_A_ROUND)
                lanes = (self._work_off(consumer, place, records) for place, records in batches.items())
                done = await asyncio.gather(*lanes, return_exceptions=True)
                await self.commit(consumer)
                for error in done:
                    if error is not None:
                        raise error
        finally:
            self._task = None
            await consumer.stop()

    async def _work_off(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, records: Sequence[ConsumerRecord[bytes, bytes]]
    ) -> None:
        """Hand out the events of one partition, one after the other."""
        for record in records:
            if place not in consumer.assignment():
                return  # another member of the group has it by now
            for subscription in [*self._active.values()]:
                await _hand_out(subscription, record, self._keys)
            self._handled[place] = record.offset + 1


async def _hand_out(subscription: Subscription, record: ConsumerRecord[bytes, bytes], keys: KeyRing) -> None:
    headers = dict(record.headers)
    kind = headers.get("ce_type", b"").decode()
    if subscription.event_types and kind not in subscription.event_types:
        return
    try:
        value = record.value or b""
        event = event_from_json(keys.open_event_strictly(value) if keys else value)
    except UnreadableError as error:
        words = f"Event {headers.get('ce_id', b'').decode()} of type {kind!r}: {error}"
        await subscription.report(DeliveryError(words, subscription_id=subscription.id), error)
    except ValueError as error:
        event_id = headers.get("ce_id", b"").decode()
        words = f"Event {event_id} of type {kind!r} cannot be read (is this client too old?): {error}"
        await subscription.report(DeliveryError(words, subscription_id=subscription.id), error)
    else:
        await subscription.deliver(event)


class _Handover(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Let whoever takes partitions over begin where the handlers are."""

    def __init__(self, subscriber: KafkaSubscriber, consumer: AIOKafkaConsumer) -> None:
        self._subscriber = subscriber
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Commit before they are gone."""
        if revoked:
            await self._subscriber.commit(self._consumer)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Begin where the group is, which the consumer does by itself."""
